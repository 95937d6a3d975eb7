import { Metadata } from '@grpc/grpc-js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { TokenBucket } from '../lib/token-bucket.js';
import { StatusError, type Peer } from './service.js';
import { wireStatus } from './status.js';

/** In a request: how the caller names its call. In the trailer of one that failed: what the call is named in the log. */
export const REQUEST_ID = 'signet-request-id';

/** What may stand in a log line as it came. */
const WELL_FORMED = /^[A-Za-z0-9._-]{1,64}$/;
/** Whether it may be what a call is called. */
export function isRequestId(text: unknown): text is string {
  return typeof text === 'string' && WELL_FORMED.test(text);
}

const ID_BYTES = 8;
/** Lines per second in the long run, and at once: whoever floods a server shall not flood its log. */
const PER_SECOND = 10;
const BURST = 100;
const LONGEST_REASON = 512;

/** A call, as far as its failure tells of it. */
export interface FailedCall {
  readonly peer: Peer;
  /** `/package.Service/Method` */
  readonly path: string;
  metadata(key: string): string | undefined;
}

/** What the library sends when a call fails. */
export interface FailureStatus {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

/** Names calls that fail, tells their callers the name, and logs them. A call that succeeds costs nothing here. */
export class CallFailures {
  readonly #random: Random;
  readonly #logger: Logger;
  readonly #bucket: TokenBucket;
  #unlogged = 0;

  constructor(clock: Clock, random: Random, logger: Logger) {
    this.#random = random;
    this.#logger = logger;
    this.#bucket = new TokenBucket(clock, PER_SECOND, BURST);
  }

  /** What the caller is told of an error; what is not for it goes to the log alone. */
  status(error: unknown, call: FailedCall): FailureStatus {
    const requestId = this.#idOf(call);
    this.#log(error, call, requestId);
    return statusOf(error, requestId);
  }

  /** The same for a call that is ended from outside: of those only what took too long is worth a line. */
  ended(reason: StatusError, call: FailedCall): FailureStatus {
    if (reason.status === 'DeadlineExceeded') return this.status(reason, call);
    return statusOf(reason, this.#idOf(call));
  }

  #idOf(call: FailedCall): string {
    const given = call.metadata(REQUEST_ID);
    return isRequestId(given) ? given : Buffer.from(this.#random.bytes(ID_BYTES)).toString('hex');
  }

  #log(error: unknown, { peer, path }: FailedCall, requestId: string): void {
    const who = { requestId, method: path, peer: nameOf(peer), listener: peer.listener };
    if (!(error instanceof StatusError)) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#logger.error('a handler failed', { ...who, error: text });
      return;
    }
    // A client that went is no failure, and a server that stops ends them all.
    if (error.status === 'Cancelled' || error.code === 'ServerStopping') return;
    if (!this.#bucket.take()) {
      this.#unlogged += 1;
      return;
    }
    this.#logger.info('a call failed', {
      ...{ status: error.status, code: error.code, ...who, reason: error.message.slice(0, LONGEST_REASON) },
      ...(this.#unlogged === 0 ? {} : { unlogged: this.#unlogged }),
    });
    this.#unlogged = 0;
  }
}

function statusOf(error: unknown, requestId: string): FailureStatus {
  const metadata = new Metadata();
  metadata.set(REQUEST_ID, requestId);
  return { ...wireStatus(error), metadata };
}

function nameOf({ spiffeId, credentials, remoteAddress, listener }: Peer): string {
  if (spiffeId !== undefined) return spiffeId.uri;
  if (credentials !== undefined) return `pid ${credentials.pid} of uid ${credentials.uid}`;
  return remoteAddress ?? listener;
}
