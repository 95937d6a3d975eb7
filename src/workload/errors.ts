import { SignetError } from '../lib/errors.js';

/** What the codes of {@link WorkloadError} mean; stable. */
export type WorkloadErrorCode =
  /** No address was given and SPIFFE_ENDPOINT_SOCKET is not set. */
  | 'EndpointMissing'
  /** The Workload API said that asking again is of no use. */
  | 'WorkloadApiRefused'
  /** No answer came in time; `cause` is the last failure. */
  | 'WorkloadApiTimeout'
  /** The Workload API sent what no identity can be made of. */
  | 'WorkloadApiAnswerInvalid'
  /** None of the SVIDs is the one that was asked for. */
  | 'SvidNotFound'
  /** The newest SVID that we have is over, and no new one has come. */
  | 'SvidExpired'
  /** The source was closed. */
  | 'SourceClosed'
  /** An answer over HTTP was longer than allowed. */
  | 'ResponseTooLarge';

/** A failure of the workload library. Never holds a key or a token. */
export class WorkloadError extends SignetError {
  declare readonly code: WorkloadErrorCode;
}

/** What the codes of {@link PeerError} mean; stable. */
export type PeerErrorCode =
  /** The peer showed no certificate. */
  | 'PeerCertificateMissing'
  /** The certificate is no X.509-SVID, or no bundle of its trust domain vouches for it. */
  | 'PeerSvidInvalid'
  /** The peer is who it says, and is not let in. */
  | 'PeerNotAuthorized'
  /** The TLS session was resumed, so nothing was proven now. */
  | 'PeerSessionResumed';

/** Why the other end of a connection was refused. */
export class PeerError extends SignetError {
  declare readonly code: PeerErrorCode;
  /** Its SPIFFE ID, where it could be verified. */
  readonly spiffeId: string | undefined;

  constructor(code: PeerErrorCode, message: string, options?: { cause?: unknown; spiffeId?: string }) {
    super(code, message, options);
    this.spiffeId = options?.spiffeId;
  }
}
