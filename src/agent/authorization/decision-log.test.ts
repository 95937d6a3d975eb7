import { describe, expect, it } from '@jest/globals';
import { evaluate } from '../../access/policy/evaluate.js';
import type { AccessRequest } from '../../access/policy/model.js';
import { compilePolicySet } from '../../access/policy/policy-set.js';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { createDecisionLog } from './decision-log.js';

const set = compilePolicySet([], { trustDomain: 'td' });
const request: AccessRequest = {
  source: 'spiffe://td/ns/a/sa/b',
  target: { namespace: 'n', name: 't', serviceAccount: 's', labels: {}, namespaceLabels: {} },
  port: 80,
  http: {
    method: 'GET',
    path: `/${'x'.repeat(2000)}?secret=1`,
    headers: { authorization: 'Bearer token', cookie: 'c=1' },
  },
  token: null,
  time: 0,
};
const denied = { id: 'd1', request, decision: evaluate(set, request) };

describe('the log of decisions', () => {
  it('is bounded per second, and counts what it leaves out', async () => {
    const clock = new FakeClock();
    const logger = recordingLogger();
    const log = createDecisionLog(logger, clock);
    for (let i = 0; i < 1000; i++) log.record(denied);
    expect(logger.all).toHaveLength(100);
    await clock.advance(1000);
    for (let i = 0; i < 1000; i++) log.refused({ id: 'd2' }, 'no reason');
    expect(logger.all).toHaveLength(120);
    expect(logger.all[100]).toContain('"omitted":900');
    expect(logger.all[101]).not.toContain('omitted');
  });

  it('says which request it was about, and what was wrong with a token', () => {
    const logger = recordingLogger();
    const log = createDecisionLog(logger, new FakeClock());
    log.record({ ...denied, requestId: 'r-1', tokenProblem: 'it has expired' });
    log.refused({ id: 'd2', requestId: 'r-2' }, 'no reason');
    expect(logger.all[0]).toMatch(/"decision":"d1","requestId":"r-1".*"tokenProblem":"it has expired"/);
    expect(logger.all[1]).toContain('"decision":"d2","requestId":"r-2","reason":"no reason"');
  });

  it('holds no query, header or token, and no long text', () => {
    const logger = recordingLogger();
    createDecisionLog(logger, new FakeClock()).record(denied);
    const [line = ''] = logger.all;
    expect(line).toContain('access denied');
    expect(line).toContain('"target":"n/t"');
    expect(line).not.toContain('requestId');
    for (const secret of ['secret', 'Bearer', 'cookie', 'c=1']) expect(line).not.toContain(secret);
    expect(line.length).toBeLessThan(2000);
  });
});
