import { describe, expect, it } from '@jest/globals';
import { FakeClock, settle } from '../../test/support/fake-clock.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import { SignetError } from '../lib/errors.js';
import { systemRandom } from '../lib/random.js';
import { WatchedValue } from '../lib/watched.js';
import type { MadeKey } from './key-maker.js';
import { openOwnSvid, type OwnSvid, type SignedOwnSvid } from './own-svid.js';

const HOUR = 3_600_000;

interface World {
  readonly clock: FakeClock;
  readonly tainted: WatchedValue<readonly string[]>;
  /** Public keys that were to be certified, in hex. */
  readonly asked: string[];
  authorityId: string;
  /** Authorities that others trust; all unless set. */
  readonly trusts: WatchedValue<readonly string[] | undefined>;
  /** Awaited before each answer. */
  gate: () => Promise<void>;
  open(): Promise<OwnSvid>;
}

function world(): World {
  const clock = new FakeClock();
  const made: World = {
    ...{ clock, tainted: new WatchedValue<readonly string[]>([]), asked: [], authorityId: 'a' },
    trusts: new WatchedValue<readonly string[] | undefined>(undefined),
    gate: () => Promise.resolve(),
    open: () =>
      openOwnSvid({
        ...{ name: 'agent', keyType: 'ec-p256', clock, random: systemRandom, logger: recordingLogger() },
        tainted: made.tainted,
        isTrusted: ([, authority = new Uint8Array()]) =>
          made.trusts.value?.includes(Buffer.from(authority).toString()) ?? true,
        onTrustChange: (listener) => made.trusts.watch(listener),
        async request({ spki }: MadeKey): Promise<SignedOwnSvid> {
          made.asked.push(Buffer.from(spki).toString('hex'));
          await made.gate();
          const { authorityId } = made;
          const now = clock.now();
          const chain = [spki, Buffer.from(authorityId)];
          return { chain, notBefore: now - 10_000, notAfter: now + HOUR, authorityId };
        },
      }),
  };
  return made;
}

describe('the SVID of this process', () => {
  it('cannot be opened when the first one cannot be had, and nothing is left behind', async () => {
    const w = world();
    w.gate = () => Promise.reject(new SignetError('No', 'not now'));
    await expect(w.open()).rejects.toMatchObject({ code: 'No' });
    expect([w.clock.timers, w.tainted.watchers, w.trusts.watchers]).toEqual([0, 0, 0]);
  });

  it('is replaced at once when nobody trusts its authority any more, and not asked for without pause until one is trusted', async () => {
    const w = world();
    const own = await w.open();
    const first = own.svid.value;
    w.trusts.set(['a', 'b']);
    await settle();
    expect(own.svid.value).toBe(first);
    // The server is behind: it still signs by the one that is lost.
    w.trusts.set(['b']);
    await w.clock.advance(60_000);
    await settle();
    expect(own.svid.value).not.toBe(first);
    expect(w.asked.length).toBeGreaterThan(3);
    expect(w.asked.length).toBeLessThan(12);
    w.authorityId = 'b';
    await w.clock.advance(60_000);
    await settle();
    const last = own.svid.value;
    const asked = w.asked.length;
    await w.clock.advance(0.3 * HOUR);
    expect([own.svid.value, w.asked.length]).toEqual([last, asked]);
    own.close();
    expect(w.trusts.watchers).toBe(0);
  });

  it('is of a new key each time, between 45 and 55 % of its life', async () => {
    const w = world();
    const own = await w.open();
    const first = own.svid.value;
    await w.clock.advance(0.44 * HOUR);
    expect(own.svid.value).toBe(first);
    await w.clock.advance(0.12 * HOUR);
    await settle();
    expect(w.asked).toHaveLength(2);
    expect(new Set(w.asked).size).toBe(2);
    expect(own.svid.value?.key).not.toBe(first?.key);
    own.close();
    expect([w.clock.timers, w.tainted.watchers]).toEqual([0, 0]);
  });

  it('is asked for without a rush when the authority that signs is itself tainted', async () => {
    const w = world();
    const own = await w.open();
    w.tainted.set(['a']);
    await w.clock.advance(60_000);
    expect(w.asked.length).toBeGreaterThan(5);
    expect(w.asked.length).toBeLessThan(70);
    w.authorityId = 'b';
    await w.clock.advance(2_000);
    const asked = w.asked.length;
    await w.clock.advance(60_000);
    expect(w.asked).toHaveLength(asked);
    own.close();
  });

  it('is asked for within a second of the clock being set right, however long it was refused before', async () => {
    const w = world();
    const own = await w.open();
    const first = own.svid.value;
    w.gate = () => Promise.reject(new SignetError('No', 'the server is of the past'));
    w.clock.jump(2 * HOUR);
    await w.clock.advance(10 * 60_000);
    expect(own.svid.value).toBeUndefined();
    const asked = w.asked.length;
    // By the minute, by now.
    expect(asked).toBeLessThan(20);
    w.clock.jump(-2 * HOUR);
    await w.clock.advance(1_000);
    // The one that there was is good again.
    expect(own.svid.value).toBe(first);
    w.clock.jump(2 * HOUR);
    await w.clock.advance(10 * 60_000);
    w.clock.jump(-HOUR);
    w.gate = () => Promise.resolve();
    await w.clock.advance(1_000);
    await settle();
    expect(own.svid.value).toBeDefined();
    expect(own.svid.value).not.toBe(first);
    own.close();
    expect(w.clock.timers).toBe(0);
  });

  it('that comes after it was closed is not shown', async () => {
    const w = world();
    const own = await w.open();
    const first = own.svid.value;
    let answer: (() => void) | undefined;
    w.gate = () => new Promise((resolve) => (answer = resolve));
    w.tainted.set(['a']);
    await settle();
    own.close();
    answer?.();
    await settle();
    expect(own.svid.value).toBe(first);
    expect(w.clock.timers).toBe(0);
  });

  it('is asked for once at a time, however often something changes', async () => {
    const w = world();
    const own = await w.open();
    let answer: (() => void) | undefined;
    w.gate = () => new Promise((resolve) => (answer = resolve));
    for (let at = 0; at < 5; at++) w.tainted.set(['a', String(at)]);
    await w.clock.advance(5_000);
    expect(w.asked).toHaveLength(2);
    answer?.();
    own.close();
  });
});
