import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { TokenBucket } from '../lib/token-bucket.js';
import { StatusError, type Peer } from './service.js';

/** Lines per second in the long run, and at once: whoever floods a server shall not flood its log. */
const PER_SECOND = 10;
const BURST = 100;
/** Characters. A path is its caller's text, and a reason may quote it. */
const LONGEST_PATH = 256;
const LONGEST_REASON = 512;

/** A call, as far as its failure tells of it. */
export interface FailedCall {
  readonly peer: Peer;
  /** `/package.Service/Method`, or `POST /path` without a query. */
  readonly path: string;
  readonly requestId: string;
}

/** Logs calls that fail under their names. Our own faults are always told, with the stack; the rest a bounded number of times. */
export class FailureLog {
  readonly #logger: Logger;
  readonly #bucket: TokenBucket;
  #unlogged = 0;

  constructor(clock: Clock, logger: Logger) {
    this.#logger = logger;
    this.#bucket = new TokenBucket(clock, PER_SECOND, BURST);
  }

  failed(error: unknown, { peer, path, requestId }: FailedCall): void {
    const method = path.slice(0, LONGEST_PATH);
    const who = { requestId, method, peer: nameOf(peer), listener: peer.listener };
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

function nameOf({ spiffeId, credentials, remoteAddress, listener }: Peer): string {
  if (spiffeId !== undefined) return spiffeId.uri;
  if (credentials !== undefined) return `pid ${credentials.pid} of uid ${credentials.uid}`;
  return remoteAddress ?? listener;
}
