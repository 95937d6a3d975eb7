import { describe, expect, it } from '@jest/globals';
import { until } from '../../test/support/fake-call.js';
import { FakeClock, settle } from '../../test/support/fake-clock.js';
import { seededRandom } from '../../test/support/seeded-random.js';
import { silentLogger } from '../lib/logger.js';
import { follow } from './sync.js';

/** Follows a stream that is opened as `open` says, and keeps the times of its openings. */
function start(
  open: (signal: AbortSignal) => AsyncIterable<number>,
  take: (message: number) => void = () => undefined,
) {
  const clock = new FakeClock();
  const stop = new AbortController();
  const opened: number[] = [];
  const states: boolean[] = [];
  const running = follow<number>(
    {
      clock,
      random: seededRandom(),
      logger: silentLogger,
      backoff: { initialMs: 100, maxMs: 1_000, jitter: 0 },
    },
    {
      name: 'test',
      open: (signal) => {
        opened.push(clock.monotonic());
        return open(signal);
      },
      take,
      onConnected: (connected) => states.push(connected),
    },
    stop.signal,
  );
  return { clock, stop, opened, states, running };
}

describe('follow', () => {
  it('opens a stream that says nothing ever less often', async () => {
    // eslint-disable-next-line require-yield -- a stream that fails or ends before its first message
    const { clock, stop, opened, states, running } = start(async function* () {
      throw new Error('connection refused');
    });
    await settle();
    await clock.advance(5_000);
    expect(opened).toEqual([0, 100, 300, 700, 1_500, 2_500, 3_500, 4_500]);
    expect(states).not.toContain(true);
    stop.abort();
    await running;
  });

  it('starts its back-off over once a message was good', async () => {
    const { clock, stop, opened, states, running } = start(async function* () {
      yield 1;
    });
    await settle();
    await clock.advance(450);
    expect(opened).toEqual([0, 100, 200, 300, 400]);
    expect(states.slice(0, 4)).toEqual([true, false, true, false]);
    stop.abort();
    await running;
  });

  it('breaks the connection over a message that cannot be taken, and backs off', async () => {
    const seen: number[] = [];
    const aborted: AbortSignal[] = [];
    const { clock, stop, opened, running } = start(
      async function* (signal) {
        aborted.push(signal);
        yield 1;
        yield 2;
      },
      (message) => {
        seen.push(message);
        throw new Error('not for us');
      },
    );
    await settle();
    await clock.advance(650);
    expect(opened).toEqual([0, 100, 300]);
    expect(seen).toEqual([1, 1, 1]);
    expect(aborted.every((signal) => signal.aborted)).toBe(true);
    stop.abort();
    await running;
  });

  it('ends with its signal, in the middle of a stream or of a wait', async () => {
    const inStream = start(async function* (signal) {
      yield 1;
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    });
    await until(() => inStream.states.length === 1);
    inStream.stop.abort();
    await inStream.running;
    // eslint-disable-next-line require-yield -- a stream that fails or ends before its first message
    const inWait = start(async function* () {
      throw new Error('connection refused');
    });
    await inWait.clock.armed();
    inWait.stop.abort();
    await inWait.running;
    expect(inWait.clock.timers).toBe(0);
  });
});
