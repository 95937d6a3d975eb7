import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { AttestationLimits, defaultAttestationLimits } from './attestation-limits.js';
import { CallLimits, defaultAgentCallLimits } from './call-limits.js';

const exhausted = { status: 'ResourceExhausted' };
const sign = (): Promise<string> => Promise.resolve('signed');

describe('what an agent may use', () => {
  const limits = new CallLimits(
    {
      ...defaultAgentCallLimits,
      ...{ signing: 2, streams: 2, svidsPerSecond: 10, svidBurst: 20 },
      ...{ explanationsPerSecond: 1, explanationBurst: 2 },
    },
    new FakeClock(),
  );

  it('is bounded in batches at one time, and the others’ share is not touched', async () => {
    const ends: (() => void)[] = [];
    const slow = (): Promise<void> => new Promise((resolve) => ends.push(resolve));
    const running = [limits.signing('n1', 1, slow), limits.signing('n1', 1, slow)];
    await expect(limits.signing('n1', 1, sign)).rejects.toMatchObject(exhausted);
    expect(await limits.signing('n2', 1, sign)).toBe('signed');
    ends.forEach((end) => end());
    await Promise.all(running);
    expect(await limits.signing('n1', 1, sign)).toBe('signed');
  });

  it('is given back when signing fails', async () => {
    const fails = (): Promise<never> => Promise.reject(new Error('no'));
    for (let at = 0; at < 5; at++) await expect(limits.signing('n3', 1, fails)).rejects.toThrow('no');
    expect(await limits.signing('n3', 1, sign)).toBe('signed');
  });

  it('is bounded in SVIDs per second, whole batches at a time', async () => {
    expect(await limits.signing('n4', 15, sign)).toBe('signed');
    await expect(limits.signing('n4', 6, sign)).rejects.toMatchObject(exhausted);
    expect(await limits.signing('n4', 5, sign)).toBe('signed');
    expect(await limits.signing('n5', 20, sign)).toBe('signed');
  });

  it('is bounded in streams of a kind, and in explanations', () => {
    const end = limits.stream('n1', 'sync');
    limits.stream('n1', 'sync');
    expect(() => limits.stream('n1', 'sync')).toThrow(/2 sync streams open/);
    limits.stream('n1', 'bundles');
    limits.stream('n2', 'sync');
    end();
    limits.stream('n1', 'sync');
    limits.explaining('n1');
    limits.explaining('n1');
    expect(() => limits.explaining('n1')).toThrow(/explanations/);
    limits.explaining('n2');
  });

  it('recovers with time, and is remembered for many agents without growing for ever', async () => {
    const clock = new FakeClock();
    const many = new CallLimits({ ...defaultAgentCallLimits, svidsPerSecond: 1, svidBurst: 1 }, clock);
    expect(await many.signing('spent', 1, sign)).toBe('signed');
    for (let at = 0; at < 25_000; at++) many.stream(`n${at}`, 'sync')();
    await expect(many.signing('spent', 1, sign)).rejects.toMatchObject(exhausted);
    await clock.advance(1_000);
    expect(await many.signing('spent', 1, sign)).toBe('signed');
  });
});

describe('what strangers may use', () => {
  const fails = (): Promise<never> => Promise.reject(new Error('refused'));
  const newLimits = (clock = new FakeClock()): AttestationLimits =>
    new AttestationLimits({ ...defaultAttestationLimits, failedBurst: 3, failedPerMinute: 1 }, clock);

  it('ends for an address of which too much has failed, and for no other', async () => {
    const clock = new FakeClock();
    const limits = newLimits(clock);
    let asked = 0;
    const count = (): Promise<never> => {
      asked++;
      return fails();
    };
    for (let at = 0; at < 3; at++) await expect(limits.run('10.0.0.1', count)).rejects.toThrow('refused');
    await expect(limits.run('10.0.0.1', count)).rejects.toMatchObject({
      ...exhausted,
      code: 'AttestationLimit',
    });
    expect(asked).toBe(3);
    expect(await limits.run('10.0.0.2', sign)).toBe('signed');
    await clock.advance(61_000);
    await expect(limits.run('10.0.0.1', count)).rejects.toThrow('refused');
    expect(asked).toBe(4);
  });

  it('has no end for an address whose agents are honest', async () => {
    const limits = newLimits();
    for (let at = 0; at < 1_000; at++) await limits.run('10.0.0.1', sign);
  });

  it('is bounded at one time', async () => {
    const limits = new AttestationLimits({ ...defaultAttestationLimits, attestations: 1 }, new FakeClock());
    let end: (() => void) | undefined;
    const running = limits.run('a', () => new Promise<void>((resolve) => (end = resolve)));
    await expect(limits.run('b', sign)).rejects.toMatchObject(exhausted);
    end?.();
    await running;
    expect(await limits.run('b', sign)).toBe('signed');
  });

  it('remembers a bounded number of addresses, the newest of them', async () => {
    const limits = newLimits();
    for (let at = 0; at < 10_100; at++) await limits.run(`a${at}`, fails).catch(() => undefined);
    for (let at = 0; at < 2; at++) await expect(limits.run('a10099', fails)).rejects.toThrow('refused');
    await expect(limits.run('a10099', fails)).rejects.toMatchObject(exhausted);
  });
});
