import { SignetError } from '../../lib/errors.js';

/** Codes of {@link CaError}; stable. */
export type CaErrorCode =
  /** No authority has that kind and id. */
  | 'AuthorityNotFound'
  /** The authority signs now (or is about to), so it can be neither tainted nor revoked. */
  | 'AuthorityInUse'
  /** Only a tainted authority may be revoked. */
  | 'AuthorityNotTainted'
  /** The revoked certificate would stay trusted, because its root must stay in the bundle. */
  | 'AuthorityRootShared'
  /** One authority of this kind is prepared already. */
  | 'AuthorityAlreadyPrepared'
  /** There is nothing to activate. */
  | 'AuthorityNotPrepared'
  /** The authority is not yet in the published bundle. */
  | 'AuthorityNotPublished'
  /** The clock stands before the authority's notBefore. */
  | 'AuthorityNotYetValid'
  /** The clock stands after the authority's notAfter. */
  | 'AuthorityExpired'
  /** No authority of this kind may sign now. */
  | 'AuthorityUnavailable'
  /** The bundle would grow beyond its bound. */
  | 'AuthorityLimit'
  /** The key of an authority is gone or is not the one in its certificate. */
  | 'AuthorityKeyMismatch'
  /** What the authority made failed our own check of it, and was not given out. */
  | 'SelfCheckFailed'
  /** A subscriber of the bundle failed, so the bundle does not count as published. */
  | 'PublishFailed'
  /** A setting of the CA is out of range. */
  | 'CaConfigInvalid'
  /** A request to sign is malformed. */
  | 'SignRequestInvalid'
  /** The upstream authority's files are missing, malformed or do not fit each other. */
  | 'UpstreamInvalid'
  /** The upstream authority ends too soon to sign another authority. */
  | 'UpstreamExpiring'
  /** The shared state has not been seen for too long: another replica may have changed what this one would sign with. */
  | 'StateStale'
  /** The CA was closed. */
  | 'CaClosed';

/** Why the certificate authority could not do what it was asked. */
export class CaError extends SignetError {
  override readonly code: CaErrorCode;

  constructor(code: CaErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options);
    this.code = code;
  }
}
