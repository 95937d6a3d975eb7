import { describe, expect, it } from '@jest/globals';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { evaluate } from '../../src/access/policy/evaluate.js';
import type { AccessRequest, TargetWorkload } from '../../src/access/policy/model.js';
import { runPolicyTests, type PolicyTestInput } from '../../src/access/testing/policy-test.js';
import { openAccessSource, type AccessSource } from '../../src/cli/access-source.js';
import { FakeClock } from '../support/fake-clock.js';

/* Every cell of the tables that the examples of roles and of attributes stand for. */

const folder = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'examples', 'access');
const told: string[] = [];
const source: AccessSource = await openAccessSource(
  {
    clock: new FakeClock(),
    environment: {},
    stdout: () => undefined,
    stderr: (text) => told.push(text),
    signal: new AbortController().signal,
  },
  folder,
  {},
);

function workload(namespace: string, name: string): TargetWorkload {
  const found = source.inventory.workloads.find((one) => one.namespace === namespace && one.name === name);
  if (found === undefined) throw new Error(`there is no ${namespace}/${name}`);
  return found;
}

function allowed(request: Omit<AccessRequest, 'time' | 'source'> & Partial<AccessRequest>): boolean {
  return evaluate(source.policies, { source: undefined, time: Date.UTC(2026, 0, 7, 10), ...request }).allowed;
}

describe('the examples', () => {
  it('hold nothing to complain of, and pass their own tests, which every rule decides one of', () => {
    expect(told).toEqual([]);
    const report = runPolicyTests(
      source.policyTests as unknown as readonly PolicyTestInput[],
      source.policies,
      { inventory: source.inventory, time: 0 },
    );
    expect(report.results.filter(({ passed }) => !passed)).toEqual([]);
    expect(report.coverage.uncovered).toEqual([]);
  });
});

const ACTIONS = ['read', 'write', 'delete', 'manage_users'] as const;
const ROLES: readonly (readonly [string, readonly string[]])[] = [
  ['viewer', ['read']],
  ['editor', ['read', 'write']],
  ['admin', ACTIONS],
  ['somebody', []],
];

describe('roles', () => {
  const target = workload('wiki', 'wiki');
  const asks = (action: string): Pick<AccessRequest, 'target' | 'application'> => ({
    target,
    application: { action: { name: action }, resource: { type: 'page', id: 'home' } },
  });
  const cells = ROLES.flatMap(([role, may]) =>
    ACTIONS.map((action) => [role, action, may.includes(action)] as const),
  );

  it.each(cells)('%s, by token: %s is allowed: %s', (role, action, expected) => {
    expect(allowed({ ...asks(action), token: { claims: { sub: 'u', roles: [role] } } })).toBe(expected);
    // The role may be one of several, and stand alone.
    expect(allowed({ ...asks(action), token: { claims: { sub: 'u', roles: ['x', role] } } })).toBe(expected);
    expect(allowed({ ...asks(action), token: { claims: { sub: 'u', roles: role } } })).toBe(expected);
  });

  it.each(cells)('%s, by workload: %s is allowed: %s', (role, action, expected) => {
    const account =
      { viewer: 'search-index', editor: 'importer', admin: 'user-directory' }[role] ?? 'somebody';
    const caller = `spiffe://example.org/ns/wiki/sa/${account}`;
    expect(allowed({ ...asks(action), token: null, source: caller })).toBe(expected);
    for (const other of [
      `spiffe://evil.example/ns/wiki/sa/${account}`,
      `spiffe://example.org/ns/shop/sa/${account}`,
    ]) {
      expect(allowed({ ...asks(action), token: null, source: other })).toBe(false);
    }
  });

  it.each(ACTIONS)('%s is denied without a token, and where tokens are not seen', (action) => {
    expect(allowed({ ...asks(action), token: null })).toBe(false);
    expect(allowed(asks(action))).toBe(false);
  });

  it('an action that no role has is denied to an admin too', () => {
    expect(allowed({ ...asks('drop'), token: { claims: { roles: ['admin'] } } })).toBe(false);
  });
});

/** Who asks. */
const PEOPLE: Readonly<Record<string, Record<string, unknown>>> = {
  admin: { sub: 'ada', department: 'it', roles: ['admin'] },
  owner: { sub: 'ann', department: 'law', roles: [] },
  colleague: { sub: 'bob', department: 'law', roles: [] },
  stranger: { sub: 'eve', department: 'sales', roles: [] },
};

/** Of 9 to 17 h in Berlin, with the instants at both ends. */
const HOURS: readonly (readonly [string, boolean])[] = [
  ['2026-01-07T07:59:59.999Z', false],
  ['2026-01-07T08:00:00Z', true],
  ['2026-01-07T15:59:59.999Z', true],
  ['2026-01-07T16:00:00Z', false],
  // Summer time: 9 h is an hour earlier.
  ['2026-07-07T06:59:59Z', false],
  ['2026-07-07T07:00:00Z', true],
];

/** The table in words: what is expected of one cell. */
function mayAccess(who: string, action: string, classification: string, businessHours: boolean): boolean {
  if (action === 'read' && classification === 'sensitive' && !businessHours) return false;
  if (who === 'admin') return true;
  if (who === 'owner' && ['read', 'write', 'delete'].includes(action)) return true;
  return (who === 'owner' || who === 'colleague') && action === 'read' && classification !== 'confidential';
}

describe('documents', () => {
  const target = workload('office', 'documents');
  const asks = (
    action: string,
    properties: Record<string, unknown>,
  ): Pick<AccessRequest, 'target'> & { application: NonNullable<AccessRequest['application']> } => ({
    target,
    application: { action: { name: action }, resource: { type: 'document', id: '1', properties } },
  });
  const cells = Object.keys(PEOPLE).flatMap((who) =>
    ['read', 'write', 'delete', 'share'].flatMap((action) =>
      ['public', 'internal', 'confidential', 'sensitive'].map(
        (classification) => [who, action, classification] as const,
      ),
    ),
  );

  it.each(cells)('%s: %s of a document that is %s, at every hour', (who, action, classification) => {
    const claims = PEOPLE[who] ?? {};
    const { sub, ...others } = claims;
    const request = asks(action, { owner: 'ann', department: 'law', classification });
    const subject = { type: 'user', id: String(sub), properties: others };
    for (const [at, open] of HOURS) {
      const time = Date.parse(at);
      const expected = mayAccess(who, action, classification, open);
      const seen = { who, action, classification, at };
      expect({ ...seen, allowed: allowed({ ...request, time, token: { claims } }) }).toEqual({
        ...seen,
        allowed: expected,
      });
      // The same when the application says who asks.
      const application = { ...request.application, subject };
      expect(allowed({ target, application, time, token: null })).toBe(expected);
    }
  });

  it('is closed to whoever says nothing of himself, and for what nobody has classified', () => {
    const law = { owner: 'ann', department: 'law' };
    const night = Date.parse('2026-01-07T20:00:00Z');
    const token = { claims: PEOPLE['colleague'] ?? {} };
    expect(allowed({ ...asks('read', { ...law, classification: 'public' }), token: null })).toBe(false);
    expect(allowed({ ...asks('read', law), token })).toBe(false);
    expect(allowed({ ...asks('read', { classification: 'public' }), token })).toBe(false);
    // Nobody can say that it is not sensitive.
    expect(allowed({ ...asks('read', law), token: { claims: PEOPLE['admin'] ?? {} }, time: night })).toBe(
      false,
    );
    expect(allowed({ ...asks('read', law), token: { claims: PEOPLE['admin'] ?? {} } })).toBe(true);
  });

  it('gives nobody anything but documents', () => {
    const application = { action: { name: 'read' }, resource: { type: 'invoice', id: '1' } };
    expect(allowed({ target, application, token: { claims: PEOPLE['admin'] ?? {} } })).toBe(false);
  });
});
