import { Backoff, type BackoffOptions } from '../lib/backoff.js';
import { ClockWatch } from '../lib/clock-watch.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { RpcError } from '../rpc/client.js';

/** A stream that is to be followed for as long as the agent runs. */
export interface Followed<T> {
  /** For the log. */
  readonly name: string;
  open(signal: AbortSignal): AsyncIterable<T>;
  /** Takes one message in. What it throws breaks the connection; the next one begins with the whole state. */
  take(message: T, first: boolean): void;
  /** The stream's state changed: its first message came, or it broke. */
  onConnected(connected: boolean): void;
}

export interface FollowOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly backoff: BackoffOptions;
}

/** Follows a stream until `signal` is aborted: opens it again, with back-off, whenever it breaks or ends; at once when
 * the clock was set. */
export async function follow<T>(
  options: FollowOptions,
  stream: Followed<T>,
  signal: AbortSignal,
): Promise<void> {
  const { clock, logger } = options;
  const backoff = new Backoff(options.backoff, options.random);
  const watch = new ClockWatch(clock);
  while (!signal.aborted) {
    const error = await followOnce(stream, signal, () => backoff.reset());
    if (signal.aborted) return;
    stream.onConnected(false);
    const delay = backoff.next();
    const { code, message } = error;
    logger.warn('the stream from the server broke', {
      stream: stream.name,
      code,
      error: message,
      ...(error instanceof RpcError && error.requestId !== undefined ? { requestId: error.requestId } : {}),
      retryInMs: Math.round(delay),
    });
    try {
      // The server may be one to believe by the time as it is now.
      if (await watch.sleep(delay, signal)) backoff.reset();
    } catch {
      return;
    }
  }
}

/** Why it ended. */
async function followOnce<T>(
  stream: Followed<T>,
  signal: AbortSignal,
  onMessage: () => void,
): Promise<SignetError> {
  // Ends the stream when a message cannot be taken in, whatever its iterator does on return.
  const controller = new AbortController();
  const stop = (): void => controller.abort(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    let first = true;
    for await (const message of stream.open(controller.signal)) {
      if (controller.signal.aborted) break;
      stream.take(message, first);
      // Only after a message was good: a server that accepts and says nothing useful is not a success.
      onMessage();
      if (first) stream.onConnected(true);
      first = false;
    }
    return new SignetError('StreamEnded', 'the server ended the stream');
  } catch (error) {
    return SignetError.from(error);
  } finally {
    signal.removeEventListener('abort', stop);
    controller.abort();
  }
}
