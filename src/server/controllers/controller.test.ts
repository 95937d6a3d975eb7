import { describe, expect, it } from '@jest/globals';
import { FakeClock, settle } from '../../../test/support/fake-clock.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import { createController, TerminalError, type ControllerOptions, type Reconcile } from './controller.js';

function newWorld(reconcile: Reconcile, options: Partial<ControllerOptions> = {}) {
  const clock = new FakeClock();
  const log = recordingLogger();
  const outcomes: string[] = [];
  const controller = createController({
    ...{ name: 'test', reconcile, clock, random: seededRandom(), logger: log },
    observe: (outcome) => outcomes.push(outcome),
    ...options,
  });
  const stop = new AbortController();
  return { clock, log, outcomes, controller, stop, run: () => controller.run(stop.signal) };
}

describe('a controller', () => {
  it('works on keys that were there before it ran, and on each that comes', async () => {
    const seen: string[] = [];
    const world = newWorld((key) => Promise.resolve(void seen.push(key)));
    world.controller.enqueue('early', 'background');
    const running = world.run();
    await settle();
    world.controller.enqueue('late');
    await settle();
    world.stop.abort();
    await running;
    expect([seen, world.outcomes]).toEqual([
      ['early', 'late'],
      ['success', 'success'],
    ]);
  });

  it('tries again after a failure, later each time, and says why each time', async () => {
    const times: number[] = [];
    const world = newWorld(() => {
      times.push(world.clock.monotonic());
      return times.length < 4 ? Promise.reject(new Error('not yet')) : Promise.resolve(undefined);
    });
    void world.run();
    world.controller.enqueue('a');
    await settle();
    await world.clock.advance(10_000);
    expect(times).toHaveLength(4);
    const gaps = times.slice(1).map((time, at) => time - (times[at] ?? 0));
    expect(gaps).toEqual([...gaps].sort((left, right) => left - right));
    expect(world.outcomes).toEqual(['error', 'error', 'error', 'success']);
    expect(world.log.all[0]).toContain('"code":"Internal","reason":"not yet"');
    world.stop.abort();
  });

  it('does not try again what trying cannot mend, until something happens', async () => {
    let runs = 0;
    const world = newWorld(() => {
      runs++;
      return Promise.reject(new TerminalError('Bad', 'the policy says nothing'));
    });
    void world.run();
    world.controller.enqueue('a');
    await settle();
    await world.clock.advance(24 * 3_600_000);
    expect([runs, world.outcomes, world.clock.timers]).toEqual([1, ['terminal_error'], 0]);
    world.controller.enqueue('a');
    await settle();
    expect(runs).toBe(2);
    world.stop.abort();
  });

  it('looks again at the time that a run asks for, or earlier if something happens', async () => {
    const times: number[] = [];
    const world = newWorld(() => {
      times.push(world.clock.monotonic());
      return Promise.resolve({ requeueAfterMs: 60_000 });
    });
    void world.run();
    world.controller.enqueue('a');
    await settle();
    await world.clock.advance(60_000);
    await world.clock.advance(10_000);
    world.controller.enqueue('a');
    await settle();
    await world.clock.advance(60_000);
    expect(times).toEqual([0, 60_000, 70_000, 130_000]);
    expect(world.outcomes).toEqual(['requeue', 'requeue', 'requeue', 'requeue']);
    world.stop.abort();
  });

  it('never works on one key twice at a time, and on no more keys than it may', async () => {
    const working = new Set<string>();
    let most = 0;
    const open: (() => void)[] = [];
    const world = newWorld(
      async (key) => {
        expect(working.has(key)).toBe(false);
        working.add(key);
        most = Math.max(most, working.size);
        await new Promise<void>((resolve) => open.push(resolve));
        working.delete(key);
        return undefined;
      },
      { concurrency: 3 },
    );
    void world.run();
    for (let round = 0; round < 5; round++) {
      for (let key = 0; key < 10; key++) world.controller.enqueue(`key-${key}`);
      await settle();
      for (let left = 30; left > 0; left--) {
        open.shift()?.();
        await settle();
      }
    }
    expect([most, world.outcomes.length, world.controller.length]).toEqual([3, 50, 0]);
    world.stop.abort();
  });

  it('stops in order: what is under way is told and finished, nothing else begins, nothing is tried again', async () => {
    const begun: string[] = [];
    let fail = (): void => undefined;
    const world = newWorld(
      (key, { signal }) =>
        new Promise((_, reject) => {
          begun.push(key);
          signal.addEventListener('abort', () => (fail = () => reject(new Error('interrupted'))));
        }),
      { concurrency: 1 },
    );
    const running = world.run();
    world.controller.enqueue('a');
    world.controller.enqueue('b');
    await settle();
    world.stop.abort();
    let over = false;
    void running.then(() => (over = true));
    await settle();
    expect(over).toBe(false);
    fail();
    await running;
    world.controller.enqueue('c');
    expect([begun, world.clock.timers, world.log.lines]).toEqual([['a'], 0, []]);
  });

  it('goes on though an observer fails, or a reconcile throws before it has begun', async () => {
    let runs = 0;
    const world = newWorld(
      () => {
        if (runs++ === 0) throw new Error('at once');
        return Promise.resolve(undefined);
      },
      {
        observe: () => {
          throw new Error('the metrics are broken');
        },
      },
    );
    void world.run();
    world.controller.enqueue('a');
    await settle();
    await world.clock.advance(1_000);
    world.controller.enqueue('b');
    await settle();
    expect(runs).toBe(3);
    world.stop.abort();
  });
});
