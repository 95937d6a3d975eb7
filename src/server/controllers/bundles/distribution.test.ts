import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../../../test/support/fake-clock.js';
import { Distribution } from './distribution.js';

describe('where the bundle stands', () => {
  const stands = async (): Promise<{ clock: FakeClock; distribution: Distribution }> => {
    const clock = new FakeClock();
    const distribution = new Distribution(clock);
    distribution.expect('cluster');
    distribution.expect('namespace/a');
    distribution.published('cluster', 5);
    distribution.published('namespace/a', 5);
    await clock.advance(1000);
    return { clock, distribution };
  };

  it('counts from when it stands in all places', async () => {
    const clock = new FakeClock();
    const distribution = new Distribution(clock);
    distribution.expect('cluster');
    distribution.expect('namespace/a');
    distribution.published('cluster', 5);
    await clock.advance(1000);
    expect(distribution.distributedForMs(5)).toBe(0);
    distribution.published('namespace/a', 5);
    await clock.advance(2000);
    expect([4, 5, 6].map((sequence) => distribution.distributedForMs(sequence))).toEqual([2000, 2000, 0]);
  });

  it('waits for a place that another attempt may mend', async () => {
    const { clock, distribution } = await stands();
    distribution.failed('namespace/a', { reason: 'Forbidden', message: 'no' }, true);
    distribution.published('cluster', 6);
    await clock.advance(1000);
    expect(distribution.distributedForMs(6)).toBe(0);
    expect(distribution.unpublished.value).toEqual({ reason: 'Forbidden', message: 'no' });
    distribution.published('namespace/a', 6);
    await clock.advance(500);
    expect(distribution.distributedForMs(6)).toBe(500);
    expect(distribution.unpublished.value).toBeUndefined();
  });

  it('is not held up by the owner of a namespace', async () => {
    const { clock, distribution } = await stands();
    distribution.failed('namespace/a', { reason: 'NotOurs', message: 'there is one' }, false);
    distribution.published('cluster', 6);
    await clock.advance(500);
    expect(distribution.distributedForMs(6)).toBe(500);
    expect(distribution.unpublished.value?.reason).toBe('NotOurs');
    distribution.forget('namespace/a');
    expect(distribution.unpublished.value).toBeUndefined();
  });

  it('knows nothing of what another leader did, nor of a state that was put back', async () => {
    const { clock, distribution } = await stands();
    distribution.published('cluster', 3);
    distribution.published('namespace/a', 3);
    await clock.advance(500);
    expect(distribution.distributedForMs(5)).toBe(0);
    distribution.reset();
    expect(distribution.distributedForMs(3)).toBe(0);
  });
});
