import { describe, expect, it } from '@jest/globals';
import { setImmediate as turn } from 'node:timers/promises';
import type { SignetError } from '../lib/errors.js';
import { WatchedValue } from '../lib/watched.js';
import { runTask, runWhileLeading } from './tasks.js';

/** A task that ends when told, and notes its life. */
function recorded(): {
  readonly told: string[];
  readonly task: (signal: AbortSignal) => Promise<void>;
  finish: () => void;
} {
  const told: string[] = [];
  let terms = 0;
  const one = {
    told,
    finish: (): void => undefined,
    task: (signal: AbortSignal): Promise<void> => {
      const term = ++terms;
      told.push(`begins ${term}`);
      signal.addEventListener('abort', () => told.push(`is to end ${term}`));
      return new Promise<void>((resolve) => {
        one.finish = () => {
          told.push(`ends ${term}`);
          resolve();
        };
      });
    },
  };
  return one;
}

describe('a task', () => {
  it('that is stopped is waited for, and is no failure however it ends', async () => {
    const failures: SignetError[] = [];
    const close = runTask(
      'it',
      (signal) =>
        new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted')))),
      (error) => failures.push(error),
    );
    await close();
    expect(failures).toEqual([]);
  });

  it('that ends by itself, or fails, is told by its name', async () => {
    const failures: SignetError[] = [];
    runTask(
      'one',
      () => Promise.resolve(),
      (error) => failures.push(error),
    );
    runTask(
      'another',
      () => Promise.reject(new Error('no room')),
      (error) => failures.push(error),
    );
    await turn();
    expect(failures.map(({ code, message }) => `${code} ${message}`)).toEqual([
      'TaskEnded one ended by itself',
      'Internal another failed: no room',
    ]);
  });
});

describe('a task of the leader', () => {
  it('runs in each term, and one term is over before the next begins', async () => {
    const leading = new WatchedValue(false);
    const failures: SignetError[] = [];
    const recording = recorded();
    const close = runWhileLeading('it', leading, recording.task, (error) => failures.push(error));
    await turn();
    expect(recording.told).toEqual([]);
    leading.set(true);
    await turn();
    leading.set(false);
    leading.set(true);
    await turn();
    // Still busy with what it was doing when it lost the lease.
    expect(recording.told).toEqual(['begins 1', 'is to end 1']);
    recording.finish();
    await turn();
    expect(recording.told).toEqual(['begins 1', 'is to end 1', 'ends 1', 'begins 2']);
    const closed = close();
    recording.finish();
    await closed;
    expect(recording.told.slice(4)).toEqual(['is to end 2', 'ends 2']);
    expect(failures).toEqual([]);
  });
});
