import { SignetError } from '../lib/errors.js';
import type { Watched } from '../lib/watched.js';

/** Something that runs until its signal is aborted. */
export type Task = (signal: AbortSignal) => Promise<void>;

/** Told of a task that ended by itself, which none may. */
export type TaskFailed = (error: SignetError) => void;

/** Runs a task until it is closed: the function returned stops it, and resolves when it is over. */
export function runTask(name: string, task: Task, onFailed: TaskFailed): () => Promise<void> {
  const stop = new AbortController();
  const done = task(stop.signal).then(
    () => {
      if (!stop.signal.aborted) onFailed(new SignetError('TaskEnded', `${name} ended by itself`));
    },
    (thrown: unknown) => {
      if (stop.signal.aborted) return;
      const { code, message } = SignetError.from(thrown);
      onFailed(new SignetError(code, `${name} failed: ${message}`, { cause: thrown }));
    },
  );
  return async () => {
    stop.abort();
    await done;
  };
}

/** Runs a task in each time that this replica leads; one time is over before the next begins. */
export function runWhileLeading(
  name: string,
  leading: Watched<boolean>,
  task: Task,
  onFailed: TaskFailed,
): () => Promise<void> {
  let term: (() => Promise<void>) | undefined;
  let last: Promise<unknown> = Promise.resolve();
  const change = (leads: boolean): void => {
    const end = term;
    term = undefined;
    if (end !== undefined) last = Promise.all([last, end()]);
    if (!leads) return;
    const former = last;
    term = runTask(
      name,
      async (signal) => {
        await former;
        if (!signal.aborted) await task(signal);
      },
      onFailed,
    );
  };
  const unwatch = leading.watch(change);
  change(leading.value);
  return async () => {
    unwatch();
    change(false);
    await last;
  };
}
