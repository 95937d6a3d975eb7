import { Metadata } from '@grpc/grpc-js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { FailureLog, type FailedCall } from './failure-log.js';
import { REQUEST_ID } from './request-id.js';
import type { StatusError } from './service.js';
import { wireStatus } from './status.js';

/** What the library sends when a call fails. */
export interface FailureStatus {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

/** Tells callers how calls that fail are called in the log, and logs them. A call that succeeds costs nothing here. */
export class CallFailures {
  readonly #log: FailureLog;

  constructor(clock: Clock, logger: Logger) {
    this.#log = new FailureLog(clock, logger);
  }

  /** What the caller is told of an error; what is not for it goes to the log alone. */
  status(error: unknown, call: FailedCall): FailureStatus {
    this.#log.failed(error, call);
    return statusOf(error, call.requestId);
  }

  /** The same for a call that is ended from outside: of those only what took too long is worth a line. */
  ended(reason: StatusError, call: FailedCall): FailureStatus {
    if (reason.status === 'DeadlineExceeded') return this.status(reason, call);
    return statusOf(reason, call.requestId);
  }
}

function statusOf(error: unknown, requestId: string): FailureStatus {
  const metadata = new Metadata();
  metadata.set(REQUEST_ID, requestId);
  return { ...wireStatus(error), metadata };
}
