import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';

/**
 * How the log calls a call. In a gRPC request: how its caller would have it called. In the trailer of a call that failed, and in
 * an HTTP answer whose `x-request-id` the log does not use: how the log does.
 */
export const REQUEST_ID = 'signet-request-id';
/** The same in HTTP, in requests and in answers. */
export const HTTP_REQUEST_ID = 'x-request-id';

/** What may stand in a log line as it came, whatever reads the log. */
const WELL_FORMED = /^[A-Za-z0-9._-]{1,64}$/;
/** Whether it may be what a call is called. */
export function isRequestId(text: unknown): text is string {
  return typeof text === 'string' && WELL_FORMED.test(text);
}

const ID_BYTES = 8;
/** So many at once: asking for randomness costs more than the bytes. */
const IDS_AT_ONCE = 64;

/** Gives names to calls. They need not be secret, since nobody is let in for knowing one; they shall only not come twice. */
export class RequestIds {
  readonly #random: Random;
  #bytes = Buffer.alloc(0);

  constructor(random: Random) {
    this.#random = random;
  }

  /** What its caller calls it, if that is well-formed; else a new name. */
  of(given: unknown): string {
    return isRequestId(given) ? given : this.next();
  }

  next(): string {
    if (this.#bytes.length === 0) this.#bytes = Buffer.from(this.#random.bytes(ID_BYTES * IDS_AT_ONCE));
    const id = this.#bytes.toString('hex', 0, ID_BYTES);
    this.#bytes = this.#bytes.subarray(ID_BYTES);
    return id;
  }
}

/** A log whose lines say which call they are about. A call has no name before there is a line, so it is not read before. */
export function callLogger(logger: Logger, call: { readonly requestId: string }): Logger {
  const at =
    (level: 'debug' | 'info' | 'warn' | 'error'): Logger['info'] =>
    (message, fields) =>
      logger[level](message, { ...fields, requestId: call.requestId });
  return {
    ...{ debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') },
    child: (fields) => callLogger(logger.child(fields), call),
  };
}
