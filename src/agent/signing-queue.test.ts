import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { seededRandom } from '../../test/support/seeded-random.js';
import { MinHeap } from './min-heap.js';
import { Priority, SigningQueue } from './signing-queue.js';

const backoff = { initialMs: 1_000, maxMs: 8_000, jitter: 0 };

function queue(): SigningQueue {
  return new SigningQueue(backoff, seededRandom());
}

describe('SigningQueue', () => {
  it('gives the most urgent first, then in the order they came', () => {
    const q = queue();
    q.add('b1', Priority.Background);
    q.add('w1', Priority.Warmup);
    q.add('w2', Priority.Warmup);
    q.add('r1', Priority.RealTime);
    q.urge('w2');
    q.add('w1', Priority.Background);
    expect(q.take(3, 0)).toEqual(['r1', 'w2', 'w1']);
    expect(q.take(3, 0)).toEqual(['b1']);
    expect(q.take(3, 0)).toEqual([]);
  });

  it('gives only what is urgent enough', () => {
    const q = queue();
    q.add('w', Priority.Warmup);
    q.add('r', Priority.RealTime);
    expect(q.take(5, 0, Priority.RealTime)).toEqual(['r']);
    expect(q.hasReady(0, Priority.RealTime)).toBe(false);
    expect(q.hasReady(0)).toBe(true);
  });

  it('lets a refused one wait longer each time, and nobody else', () => {
    const q = queue();
    q.add('bad', Priority.Warmup);
    q.add('good', Priority.Warmup);
    let now = 0;
    for (const delay of [1_000, 2_000, 4_000, 8_000, 8_000]) {
      expect(q.take(1, now)).toEqual(['bad']);
      q.refused('bad', now, true);
      expect(q.take(1, now)).toEqual(['good']);
      q.done('good');
      expect(q.nextReadyAt).toBe(now + delay);
      expect(q.take(1, now + delay - 1)).toEqual([]);
      now += delay;
      q.add('bad', Priority.RealTime);
      expect(q.take(1, now - 1)).toEqual([]);
      q.add('good', Priority.Background);
    }
  });

  it('asks again for a final refusal only when something changed', () => {
    const q = queue();
    q.add('x', Priority.Warmup);
    q.take(1, 0);
    q.refused('x', 0, false);
    expect(q.nextReadyAt).toBeUndefined();
    q.add('x', Priority.RealTime);
    q.urge('x');
    expect(q.take(1, 1e9)).toEqual([]);
    q.add('x', Priority.Warmup, true);
    expect(q.take(1, 0)).toEqual(['x']);
  });

  it('a change ends the wait and starts the back-off over', () => {
    const q = queue();
    q.add('x', Priority.Warmup);
    q.take(1, 0);
    q.refused('x', 0, true);
    q.take(1, 1_000);
    q.refused('x', 1_000, true);
    q.add('x', Priority.Warmup, true);
    expect(q.take(1, 1_001)).toEqual(['x']);
    q.refused('x', 1_001, true);
    // The entries of the earlier waits must not wake it.
    expect(q.take(1, 1_500)).toEqual([]);
    expect(q.nextReadyAt).toBe(2_001);
  });

  it('signs again what changed while it was on its way, and only that', () => {
    const q = queue();
    q.add('x', Priority.Background);
    q.add('y', Priority.Background);
    q.take(2, 0);
    q.add('x', Priority.RealTime, true);
    q.add('y', Priority.Background);
    q.done('x');
    q.done('y');
    expect(q.take(2, 0)).toEqual(['x']);
    q.done('x');
    expect(q.size).toBe(0);
  });

  it('forgets what is removed, in every state', () => {
    const q = queue();
    q.add('x', Priority.Warmup);
    q.remove('x');
    expect(q.take(1, 0)).toEqual([]);
    q.add('x', Priority.Warmup);
    q.take(1, 0);
    q.remove('x');
    q.refused('x', 0, true);
    expect(q.size).toBe(0);
    expect(q.take(1, 1e9)).toEqual([]);
  });

  it('never gives one twice at a time and loses none (model)', () => {
    const id = fc.constantFrom('a', 'b', 'c', 'd');
    const step = fc.oneof(
      fc.record({ do: fc.constant('add'), id, priority: fc.constantFrom(0, 1, 2), fresh: fc.boolean() }),
      fc.record({ do: fc.constant('take'), id, priority: fc.constantFrom(1, 2, 4), fresh: fc.boolean() }),
      fc.record({
        do: fc.constantFrom('done', 'refused', 'release'),
        id,
        priority: fc.constant(0),
        fresh: fc.boolean(),
      }),
      fc.record({ do: fc.constant('pass'), id, priority: fc.constantFrom(500, 1_000), fresh: fc.boolean() }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const q = queue();
        const taken = new Set<string>();
        const wanted = new Set<string>();
        let now = 0;
        for (const { do: what, id: name, priority, fresh } of steps) {
          if (what === 'add') {
            q.add(name, priority, true);
            wanted.add(name);
          } else if (what === 'take') {
            for (const one of q.take(priority, now)) {
              expect(taken.has(one)).toBe(false);
              taken.add(one);
              wanted.delete(one);
            }
          } else if (what === 'pass') now += priority;
          else if (taken.delete(name)) {
            if (what === 'done') q.done(name);
            else {
              if (what === 'release') q.release(name);
              else q.refused(name, now, true);
              wanted.add(name);
            }
          }
          if (fresh && what === 'pass') expect(q.nextReadyAt ?? now).not.toBeNaN();
        }
        for (const one of taken) q.done(one);
        expect(new Set(q.take(100, now + 1e6))).toEqual(wanted);
      }),
    );
  });
});

describe('MinHeap', () => {
  it('gives keys in order', () => {
    fc.assert(
      fc.property(fc.array(fc.integer()), (keys) => {
        const heap = new MinHeap<number>();
        for (const key of keys) heap.push(key, key);
        const out: number[] = [];
        for (let next = heap.pop(); next !== undefined; next = heap.pop()) out.push(next.value);
        expect(out).toEqual([...keys].sort((a, b) => a - b));
        expect(heap.size).toBe(0);
      }),
    );
  });
});
