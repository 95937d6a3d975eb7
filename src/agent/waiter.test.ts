import { describe, expect, it } from '@jest/globals';
import { FakeClock, settle } from '../../test/support/fake-clock.js';
import { PokeQueue, Waiter } from './waiter.js';

function waiter(): { clock: FakeClock; controller: AbortController; waiter: Waiter } {
  const clock = new FakeClock();
  const controller = new AbortController();
  return { clock, controller, waiter: new Waiter(clock, controller.signal) };
}

async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let pending = true;
  promise.then(
    () => (pending = false),
    () => (pending = false),
  );
  await settle();
  return pending;
}

describe('Waiter', () => {
  it('remembers a poke, and any number as one', async () => {
    const { waiter: one } = waiter();
    one.poke();
    one.poke();
    await one.wait();
    expect(await isPending(one.wait())).toBe(true);
  });

  it('wakes when poked, or when the time is over', async () => {
    const { clock, waiter: one } = waiter();
    const poked = one.wait(1_000);
    one.poke();
    await poked;
    expect(clock.timers).toBe(0);
    const timed = one.wait(1_000);
    await clock.advance(999);
    expect(await isPending(timed)).toBe(true);
    await clock.advance(1);
    await timed;
  });

  it('rejects whatever is awaited as soon as the call ends, each time', async () => {
    const { controller, waiter: one } = waiter();
    // One that has settled before must not take the abort of the next away.
    await one.guard(Promise.resolve());
    const stuck = one.guard(new Promise(() => undefined));
    controller.abort(new Error('gone'));
    await expect(stuck).rejects.toThrow('gone');
    await expect(one.wait()).rejects.toThrow('gone');
    await expect(one.guard(Promise.reject(new Error('late')))).rejects.toThrow('gone');
  });
});

describe('PokeQueue', () => {
  it('pokes some per turn, each once, and forgets those that are gone', async () => {
    const queue = new PokeQueue(2);
    const order: number[] = [];
    const waiters = [0, 1, 2, 3, 4].map((index) => {
      const { waiter: one } = waiter();
      void one.wait().then(() => order.push(index));
      return one;
    });
    queue.add(waiters);
    queue.add(waiters);
    const [first, , , last] = waiters;
    if (first === undefined || last === undefined) throw new Error('unreachable');
    queue.remove(last);
    await new Promise((resolve) => setImmediate(resolve));
    expect(order).toEqual([0, 1]);
    await settle();
    expect(order).toEqual([0, 1, 2, 4]);
    queue.add([first]);
    void first.wait().then(() => order.push(0));
    await settle();
    expect(order).toEqual([0, 1, 2, 4, 0]);
  });
});
