import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { DriftAlarm } from './drift-alarm.js';

describe('the alarm of drift', () => {
  it('tells at once five times, then every half minute while it goes on, and forgets who has come to rest', async () => {
    const clock = new FakeClock();
    const alarm = new DriftAlarm(clock);
    const told: number[] = [];
    alarm.listen(() => told.push(clock.monotonic()));
    for (let second = 0; second < 120; second++) {
      alarm.raise('me', 'object');
      await clock.advance(1_000);
    }
    expect(told.slice(0, 6)).toEqual([0, 1_000, 2_000, 3_000, 4_000, 30_000 + 5_000]);
    expect(told.length).toBeLessThan(12);
    await clock.advance(300_000);
    alarm.calm('object');
    expect(clock.timers).toBe(0);
    const before = told.length;
    alarm.raise('me', 'object');
    expect(told.length).toBe(before + 1);
  });

  it('tells all who listen, each object by itself, and nobody after it is closed', async () => {
    const clock = new FakeClock();
    const alarm = new DriftAlarm(clock);
    const told: string[] = [];
    const end = alarm.listen((owner) => told.push(`one ${owner}`));
    alarm.listen((owner) => told.push(`two ${owner}`));
    for (let object = 0; object < 20; object++) alarm.raise('me', `object-${object}`);
    expect(told).toHaveLength(40);
    end();
    for (let round = 0; round < 10; round++) alarm.raise('you', 'object-0');
    expect(told.slice(40)).toEqual(Array.from({ length: 4 }, () => 'two you'));
    alarm.close();
    await clock.advance(60_000);
    alarm.raise('you', 'object-1');
    expect([told.length, clock.timers]).toEqual([44, 0]);
  });
});
