import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { readDecision } from './decision-line.js';

const line = (fields: object): string =>
  JSON.stringify({ level: 'info', timestamp: '2026-01-31T09:00:00.000Z', ...fields });

describe('readDecision', () => {
  it('reads a denial of a request', () => {
    const denial = {
      message: 'access denied',
      decision: 'd-1',
      source: 'spiffe://example.org/ns/shop/sa/web',
      target: 'payments/pay-0',
      port: '8443',
      method: 'GET',
      path: '/cards',
      reason: 'no rule allows it',
      tokenProblem: 'it has expired',
      requestId: 'r-1',
      omitted: 3,
    };
    expect(readDecision(line(denial), 'n1')).toEqual({
      time: '2026-01-31T09:00:00.000Z',
      node: 'n1',
      outcome: 'denied',
      decision: 'd-1',
      source: 'spiffe://example.org/ns/shop/sa/web',
      target: 'payments/pay-0',
      port: '8443',
      operation: 'GET /cards',
      reason: 'no rule allows it',
      tokenProblem: 'it has expired',
      requestId: 'r-1',
      omitted: 3,
    });
  });

  it('reads what an application asked, what an Audit policy objects to, and what was no question', () => {
    const asked = { message: 'access denied', action: 'read', resource: 'document 7', reason: 'x' };
    expect(readDecision(line(asked), 'n')?.operation).toBe('read document 7');
    const audited = {
      message: 'access allowed, against a policy in Audit mode',
      audit: 'shop/p: not allowed',
    };
    expect(readDecision(line(audited), 'n')).toMatchObject({
      outcome: 'audited',
      audit: 'shop/p: not allowed',
    });
    expect(readDecision(line({ message: 'access refused', reason: 'no target' }), 'n')?.outcome).toBe(
      'refused',
    );
    const nobody = { message: 'identity refused', source: 'the pod with UID u-1', reason: 'none selects it' };
    expect(readDecision(line(nobody), 'n')).toMatchObject({
      ...{ outcome: 'refused', source: 'the pod with UID u-1', operation: 'identity' },
      reason: 'none selects it',
    });
  });

  it('passes over every other line', () => {
    expect(readDecision(line({ message: 'the agent is ready' }), 'n')).toBeUndefined();
    expect(readDecision(line({ message: 'constructor' }), 'n')).toBeUndefined();
    expect(readDecision('{"message":', 'n')).toBeUndefined();
    expect(readDecision('null', 'n')).toBeUndefined();
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => readDecision(text, 'n') === undefined));
  });
});
