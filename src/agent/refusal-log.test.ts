import { expect, it } from '@jest/globals';
import { FakeClock } from '../../test/support/fake-clock.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import { RefusalLog } from './refusal-log.js';

it('tells of a caller that comes again and again once in five minutes, and of each other one', async () => {
  const clock = new FakeClock();
  const logger = recordingLogger();
  const log = new RefusalLog(clock, logger);
  for (let second = 0; second < 299; second++) {
    log.refused('pod a', 'no identity selects it');
    await clock.advance(1_000);
  }
  log.refused('pod b', 'no identity selects it', 'r-9');
  expect(logger.all[1]).toContain('"requestId":"r-9"');
  expect(logger.all.map((line) => /pod ./.exec(line)?.[0])).toEqual(['pod a', 'pod b']);
  await clock.advance(1_000);
  log.refused('pod a', 'no identity selects it');
  log.refused('pod b', 'no identity selects it');
  expect(logger.all).toHaveLength(3);
  expect(logger.lines).toEqual([]);
});

it('writes a bounded number of lines, whatever callers call themselves', async () => {
  const clock = new FakeClock();
  const logger = recordingLogger();
  const log = new RefusalLog(clock, logger);
  for (let count = 0; count < 10_000; count++) log.refused(`process ${count}`, 'none');
  expect(logger.all).toHaveLength(50);
  await clock.advance(10_000);
  for (let count = 0; count < 10_000; count++) log.refused(`process ${count}`, 'none');
  expect(logger.all).toHaveLength(100);
});
