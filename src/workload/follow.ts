import { Backoff } from '../lib/backoff.js';
import { sleep, type Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { RpcError } from '../rpc/client.js';

export interface FollowOptions<Message> {
  /** For the log: the RPC's name. */
  readonly name: string;
  readonly open: (signal: AbortSignal) => AsyncIterable<Message>;
  /** Takes a message; what it throws is logged and told, and the last good state stays. */
  readonly take: (message: Message) => void;
  /** Told of each failure; `final` when it is the last word. */
  readonly failed: (error: SignetError, final: boolean) => void;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

// Fast at first: a workload often starts a moment before its agent, or before its registration has come.
// With the jitter of 20 % the longest delay is 30 s.
const BACKOFF = { initialMs: 50, maxMs: 25_000, jitter: 0.2 };

/** Whether asking again is of no use (SPIFFE_Workload_Endpoint §6.1, SPIFFE_Workload_API §6). */
export function isFinal(error: unknown): boolean {
  return (
    error instanceof RpcError && (error.status === 'InvalidArgument' || error.status === 'Unimplemented')
  );
}

/**
 * Follows a stream of the Workload API until the signal is aborted or the server says that asking again is of no use.
 * Everything else is retried with growing, jittered delays, from 50 ms up to 30 s.
 */
export async function follow<Message>(options: FollowOptions<Message>): Promise<void> {
  const { signal, clock, logger, name } = options;
  const backoff = new Backoff(BACKOFF, options.random);
  while (!signal.aborted) {
    let error: SignetError;
    try {
      for await (const message of options.open(signal)) {
        if (signal.aborted) return;
        if (taken(options, message)) backoff.reset();
      }
      error = new RpcError('Unavailable', 'the Workload API ended the stream');
    } catch (thrown) {
      error = SignetError.from(thrown);
    }
    if (signal.aborted) return;
    const final = isFinal(error);
    options.failed(error, final);
    if (final) {
      logger.error('the Workload API refused for good', { rpc: name, error: error.message });
      return;
    }
    const delayMs = Math.round(backoff.next());
    logger.warn('the Workload API cannot be followed; trying again', {
      rpc: name,
      error: error.message,
      delayMs,
    });
    await sleep(clock, delayMs, signal).catch(() => undefined);
  }
}

function taken<Message>({ take, failed, logger, name }: FollowOptions<Message>, message: Message): boolean {
  try {
    take(message);
    return true;
  } catch (thrown) {
    const error = SignetError.from(thrown);
    logger.error('an answer of the Workload API is not usable; the last good one stays', {
      rpc: name,
      error: error.message,
    });
    failed(error, false);
    return false;
  }
}
