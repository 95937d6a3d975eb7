/**
 * What a stream of states needs: `take` gives what there is to send now, if anything, and `subscribe` says when it is
 * worth asking again. The source merges what is not taken yet, so a reader that is slow, or never reads, costs no more
 * than one message.
 */
export interface StateSource<T> {
  take(): T | undefined;
  subscribe(wake: () => void): () => void;
}

/**
 * Streams a source until `signal` is aborted; then it ends without an error. A reader that waits gets a change within
 * microtasks of `wake`. `open` is called when reading begins, so a stream that nobody reads holds nothing.
 */
export async function* stateStream<T>(
  open: () => StateSource<T>,
  signal: AbortSignal,
): AsyncGenerator<T, void> {
  if (signal.aborted) return;
  const source = open();
  let waiting: (() => void) | undefined;
  const wake = (): void => {
    const resolve = waiting;
    waiting = undefined;
    resolve?.();
  };
  const unsubscribe = source.subscribe(wake);
  signal.addEventListener('abort', wake, { once: true });
  try {
    while (!signal.aborted) {
      const next = source.take();
      if (next !== undefined) yield next;
      else
        await new Promise<void>((resolve) => {
          waiting = resolve;
        });
    }
  } finally {
    unsubscribe();
    signal.removeEventListener('abort', wake);
  }
}
