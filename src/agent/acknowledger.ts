import { Backoff, type BackoffOptions } from '../lib/backoff.js';
import { type Clock, sleep } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { NodeApi, RevocationMark } from '../rpc/node-api.js';

/** What an acknowledger is made of. */
export interface AcknowledgerOptions<Stream extends string> {
  readonly api: Pick<NodeApi, 'acknowledge'>;
  /** All that are followed: each must have come as far as is acknowledged. */
  readonly streams: readonly Stream[];
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly backoff: BackoffOptions;
}

/**
 * Tells the server which revocations this agent has taken in: what is told was dropped before. Only the newest is told, one call
 * at a time. The statuses of Revocations hang on it and nothing else, so a server that does not take it is no trouble.
 */
export class Acknowledger<Stream extends string> {
  readonly #options: AcknowledgerOptions<Stream>;
  readonly #marks = new Map<Stream, RevocationMark | undefined>();
  #told: RevocationMark | undefined;
  #wake: (() => void) | undefined;

  constructor(options: AcknowledgerOptions<Stream>) {
    this.#options = options;
  }

  /** An update of this stream was taken in as a whole. */
  took(stream: Stream, mark: RevocationMark | undefined): void {
    this.#marks.set(stream, mark);
    this.#wake?.();
  }

  /** Tells until the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { api, clock, random, logger } = this.#options;
    if (api.acknowledge === undefined) return;
    const backoff = new Backoff(this.#options.backoff, random);
    while (!signal.aborted) {
      const due = this.#due();
      if (due === undefined) {
        await this.#woken(signal);
        continue;
      }
      try {
        await api.acknowledge(due, signal);
        this.#told = due;
        backoff.reset();
      } catch (thrown) {
        const { code, message } = SignetError.from(thrown);
        logger.debug('revocations could not be acknowledged; it is tried again', { code, reason: message });
        await sleep(clock, backoff.next(), signal).catch(() => undefined);
      }
    }
  }

  /** As far as all streams have come, unless that was told; they may be on their way from one replica to another. */
  #due(): RevocationMark | undefined {
    let due: RevocationMark | undefined;
    for (const stream of this.#options.streams) {
      const mark = this.#marks.get(stream);
      if (mark === undefined || (due !== undefined && mark.epoch !== due.epoch)) return undefined;
      if (due === undefined || mark.revision < due.revision) due = mark;
    }
    const told = this.#told;
    return due?.epoch === told?.epoch && due?.revision === told?.revision ? undefined : due;
  }

  #woken(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#wake = undefined;
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#wake = wake;
      signal.addEventListener('abort', wake, { once: true });
    });
  }
}
