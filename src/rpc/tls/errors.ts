import { SignetError } from '../../lib/errors.js';

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
