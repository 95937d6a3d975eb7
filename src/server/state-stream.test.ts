import { describe, expect, it } from '@jest/globals';

import { stateStream } from './state-stream.js';

function aSource(): {
  set(value: number): void;
  open(): { take(): number | undefined; subscribe(wake: () => void): () => void };
  open_: number;
} {
  let value: number | undefined;
  let wake: (() => void) | undefined;
  const source = {
    open_: 0,
    set(next: number) {
      value = next;
      wake?.();
    },
    open: () => ({
      take() {
        const taken = value;
        value = undefined;
        return taken;
      },
      subscribe(on: () => void) {
        source.open_ += 1;
        wake = on;
        return () => {
          source.open_ -= 1;
          wake = undefined;
        };
      },
    }),
  };
  return source;
}

describe('a stream of states', () => {
  it('brings a change to a reader that waits within microtasks', async () => {
    const source = aSource();
    const stream = stateStream(source.open, new AbortController().signal);
    const next = stream.next();
    let arrived = false;
    void next.then(() => (arrived = true));
    await Promise.resolve();
    source.set(1);
    for (let turn = 0; turn < 10 && !arrived; turn++) await Promise.resolve();
    expect(arrived).toBe(true);
    expect(await next).toEqual({ done: false, value: 1 });
    await stream.return();
    expect(source.open_).toBe(0);
  });

  it('gives a slow reader the newest state once', async () => {
    const source = aSource();
    const stop = new AbortController();
    const stream = stateStream(source.open, stop.signal);
    source.set(1);
    expect((await stream.next()).value).toBe(1);
    source.set(2);
    source.set(3);
    expect((await stream.next()).value).toBe(3);
    const waiting = stream.next();
    stop.abort();
    expect(await waiting).toEqual({ done: true, value: undefined });
    expect(source.open_).toBe(0);
  });

  it('holds nothing before it is read, and nothing when it is aborted first', async () => {
    const source = aSource();
    stateStream(source.open, new AbortController().signal);
    expect(source.open_).toBe(0);
    expect(await stateStream(source.open, AbortSignal.abort()).next()).toEqual({
      done: true,
      value: undefined,
    });
    expect(source.open_).toBe(0);
  });
});
