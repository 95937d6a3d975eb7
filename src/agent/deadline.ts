import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';

/**
 * Runs `work` with a signal of its own that is aborted with `signal` or after `timeoutMs`; does not wait for work that
 * ignores its signal. Rejects with SignetError `Timeout` naming `what`, or with the signal's reason.
 */
export async function withTimeout<T>(
  clock: Clock,
  timeoutMs: number,
  signal: AbortSignal,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const controller = new AbortController();
  // Listeners by hand: AbortSignal.any with a signal that lives as long as the process keeps what it made alive.
  let onAbort: (() => void) | undefined;
  const stopped = new Promise<never>((_resolve, reject) => {
    controller.signal.addEventListener('abort', () => reject(controller.signal.reason as Error), {
      once: true,
    });
    onAbort = () => controller.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
  });
  const timer = clock.after(timeoutMs, () =>
    controller.abort(new SignetError('Timeout', `${what}: no answer within ${timeoutMs} ms`)),
  );
  try {
    return await Promise.race([work(controller.signal), stopped]);
  } finally {
    timer.cancel();
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
  }
}
