import { StatusError } from '../../rpc/service.js';

/**
 * Writes each update until the call ends, or until the server stops: the status then sends the client to another replica
 * while this one still answers what it has begun.
 *
 * @throws StatusError `Unavailable` when the server stops
 */
export async function streamUntilStopped<T>(
  updates: (signal: AbortSignal) => AsyncIterable<T>,
  write: (update: T) => Promise<void>,
  call: AbortSignal,
  stopping: AbortSignal | undefined,
): Promise<void> {
  // Listeners by hand: AbortSignal.any with a signal that lives as long as the process keeps what it made alive.
  const ended = new AbortController();
  const end = (): void => ended.abort();
  const signals = stopping === undefined ? [call] : [call, stopping];
  for (const signal of signals) signal.addEventListener('abort', end, { once: true });
  try {
    if (signals.some(({ aborted }) => aborted)) end();
    for await (const update of updates(ended.signal)) await write(update);
  } finally {
    for (const signal of signals) signal.removeEventListener('abort', end);
  }
  if (stopping?.aborted === true && !call.aborted)
    throw new StatusError('Unavailable', 'this replica is stopping; another one serves', {
      code: 'ServerStopping',
    });
}
