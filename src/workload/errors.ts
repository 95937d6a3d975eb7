import { SignetError } from '../lib/errors.js';

export { PeerError, type PeerErrorCode } from '../rpc/tls/errors.js';

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
