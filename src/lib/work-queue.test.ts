import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '../../test/support/fake-clock.js';
import { seededRandom } from '../../test/support/seeded-random.js';
import { WorkQueue, type Priority } from './work-queue.js';

const KEYS = ['a', 'b', 'c', 'd'] as const;

/** What client-go's queue does, said as plainly as can be: a set of what is dirty, and one of what is worked on. */
class Model {
  /** In the order of arrival; what is worked on meanwhile waits here too. */
  readonly dirty = new Map<string, Priority>();
  readonly working = new Set<string>();
  readonly due = new Map<string, number>();

  add(key: string, priority: Priority): void {
    this.due.delete(key);
    const known = this.dirty.get(key);
    if (known === undefined || (known === 'background' && priority === 'live')) {
      this.dirty.delete(key);
      this.dirty.set(key, priority);
    }
  }

  /** What may be taken now, the best first. */
  get ready(): readonly string[] {
    const free = [...this.dirty].filter(([key]) => !this.working.has(key));
    return ['live', 'background'].flatMap((priority) =>
      free.filter(([, one]) => one === priority).map(([key]) => key),
    );
  }

  later(key: string, due: number): void {
    this.due.set(key, Math.min(due, this.due.get(key) ?? Infinity));
  }

  /** Moves time on. */
  pass(now: number): void {
    const over = [...this.due].filter(([, due]) => due <= now).sort(([, a], [, b]) => a - b);
    for (const [key] of over) this.add(key, 'live');
  }
}

const key = fc.constantFrom(...KEYS);
const priority = fc.constantFrom<Priority>('live', 'background');
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('add' as const), key, priority }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('later' as const), key, ms: fc.nat(1000) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('take' as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('done' as const), key, fails: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.nat(400) }) },
);

async function take(queue: WorkQueue, model: Model): Promise<void> {
  const [expected] = model.ready;
  if (expected === undefined) return;
  expect(await queue.take()).toBe(expected);
  model.dirty.delete(expected);
  model.working.add(expected);
}

/** The work on a key ends. */
function finish(
  queue: WorkQueue,
  model: Model,
  { key, fails }: { readonly key: string; readonly fails: boolean },
  clock: FakeClock,
): void {
  if (fails) {
    const delay = queue.retry(key);
    if (!model.dirty.has(key)) model.later(key, clock.monotonic() + delay);
  } else {
    queue.forget(key);
  }
  queue.done(key);
  model.working.delete(key);
  // What has come meanwhile is heard of at once, so nothing is due later.
  const meanwhile = model.dirty.get(key);
  if (meanwhile === undefined) return;
  model.due.delete(key);
  // It takes its place when its work has ended: after what came while it waited for that.
  model.dirty.delete(key);
  model.dirty.set(key, meanwhile);
}

describe('a work queue', () => {
  it('does what client-go’s does: each key once, never two at a time, what comes meanwhile comes again', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
        const clock = new FakeClock();
        const queue = new WorkQueue({ clock, random: seededRandom(), retry: { initialMs: 10, maxMs: 100 } });
        const model = new Model();
        for (const one of steps) {
          switch (one.do) {
            case 'add':
              queue.add(one.key, one.priority);
              model.add(one.key, one.priority);
              break;
            case 'later':
              queue.addAfter(one.key, one.ms);
              model.later(one.key, clock.monotonic() + one.ms);
              break;
            case 'take':
              await take(queue, model);
              break;
            case 'done':
              if (model.working.has(one.key)) finish(queue, model, one, clock);
              break;
            case 'pass':
              await clock.advance(one.ms);
              model.pass(clock.monotonic());
              break;
          }
          expect([queue.length, queue.working]).toEqual([model.dirty.size, model.working.size]);
        }
        // Nothing is lost: all that waits can be taken, in the model's order.
        for (const expected of model.ready) expect(await queue.take()).toBe(expected);
      }),
      { numRuns: 300 },
    );
  });

  it('gives a key to who waits for one, in the order in which they came', async () => {
    const queue = new WorkQueue({ clock: new FakeClock(), random: seededRandom() });
    const takers = [queue.take(), queue.take()];
    queue.add('a');
    queue.add('b');
    queue.add('a');
    expect(await Promise.all(takers)).toEqual(['a', 'b']);
    // "a" is worked on: it comes again when that is over.
    const third = queue.take();
    queue.done('b');
    queue.done('a');
    expect(await third).toBe('a');
  });

  it('waits longer after each failure of a key, up to the limit, and anew after a success', () => {
    const clock = new FakeClock();
    const queue = new WorkQueue({
      ...{ clock, random: { ...seededRandom(), fraction: () => 0.5 } },
      retry: { initialMs: 10, maxMs: 100 },
    });
    const delays = Array.from({ length: 6 }, () => queue.retry('a'));
    expect(delays).toEqual([10, 20, 40, 80, 100, 100]);
    expect(queue.retry('b')).toBe(10);
    queue.forget('a');
    expect(queue.retry('a')).toBe(10);
  });

  it('works on what just happened first, and on what was there all along when nothing else waits', async () => {
    const queue = new WorkQueue({ clock: new FakeClock(), random: seededRandom() });
    for (const one of ['old-1', 'old-2', 'old-3']) queue.add(one, 'background');
    queue.add('new');
    queue.add('old-3');
    const order = [];
    for (let left = 4; left > 0; left--) order.push(await queue.take());
    expect(order).toEqual(['new', 'old-3', 'old-1', 'old-2']);
  });

  it('is as long as there are keys, however often they are added', () => {
    const queue = new WorkQueue({ clock: new FakeClock(), random: seededRandom() });
    for (let times = 0; times < 100_000; times++) queue.add(`key-${times % 10}`);
    expect(queue.length).toBe(10);
  });

  it('drops everything when it is closed: timers, what waits, and who waits', async () => {
    const clock = new FakeClock();
    const queue = new WorkQueue({ clock, random: seededRandom() });
    const waiting = queue.take();
    queue.addAfter('later', 1000);
    queue.close();
    expect(await waiting).toBeUndefined();
    queue.add('a');
    queue.addAfter('b', 5);
    expect([await queue.take(), queue.length, clock.timers]).toEqual([undefined, 0, 0]);
  });
});
