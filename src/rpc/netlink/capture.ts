import { SignetError } from '../../lib/errors.js';

/**
 * Rules that cannot be put in place. Codes: CaptureUnsupported (not Linux, no FFI, or a kernel without nf_tables),
 * CaptureFailed (the kernel says no; the message has its reason).
 */
export class CaptureError extends SignetError {}

/** What is done with TCP that comes into a network namespace from anywhere but its loopback. */
export interface Capture {
  /** Connections to `port` come to `listener` instead. */
  readonly redirects: readonly { readonly port: number; readonly listener: number }[];
  /** Ports at which nothing arrives. */
  readonly closed: readonly number[];
}
