import { describe, expect, it } from '@jest/globals';
import { createInventory } from '../mesh/inventory.js';
import type { PolicyInput } from '../policy/input.js';
import { compilePolicySet } from '../policy/policy-set.js';
import { runPolicyTests, type TestReport } from './policy-test.js';

const workload = (name: string): Parameters<typeof createInventory>[0]['workloads'][number] => ({
  namespace: 'shop',
  name,
  serviceAccount: name,
  labels: { app: name },
  namespaceLabels: {},
  spiffeIds: [`spiffe://td/ns/shop/sa/${name}`],
  ports: [{ port: 8080, protocol: 'http' }],
});
const inventory = createInventory({
  trustDomain: 'td',
  namespaces: [{ name: 'shop', labels: {} }],
  workloads: [workload('web'), workload('api')],
});
const policy: PolicyInput = {
  kind: 'AccessPolicy',
  metadata: { name: 'api', namespace: 'shop' },
  spec: {
    target: { podSelector: { matchLabels: { app: 'api' } } },
    rules: [
      {
        name: 'web',
        from: [{ serviceAccounts: [{ name: 'web' }] }],
        to: [{ http: { methods: ['GET'], paths: [{ prefix: '/items' }] } }],
      },
      { name: 'never-asked', from: [{ spiffeIDs: ['spiffe://td/other'] }] },
    ],
  },
};
const set = compilePolicySet([policy], { trustDomain: 'td' });

function run(spec: unknown): TestReport {
  return runPolicyTests([{ metadata: { name: 't', namespace: 'shop' }, spec }], set, { inventory, time: 0 });
}

describe('PolicyTests', () => {
  it('compare answers, and who gave them, and count the rules that decided', () => {
    const { results, coverage } = run({
      defaults: { from: 'shop/web', to: 'shop/api', http: { method: 'GET', path: '/items/1' } },
      tests: [
        { name: 'reads', expect: 'Allow', decidedBy: 'shop/api/web' },
        { name: 'stranger', request: { source: 'spiffe://td.evil/ns/shop/sa/web' }, expect: 'Deny' },
        {
          name: 'closed',
          request: { http: { method: 'POST', path: '/items' } },
          expect: 'Deny',
          decidedBy: 'shop/api',
        },
        { name: 'wrong', request: { http: { method: 'POST', path: '/items' } }, expect: 'Allow' },
        { name: 'other rule', expect: 'Allow', decidedBy: 'shop/api/never-asked' },
      ],
    });
    expect(results.map(({ name, passed }) => [name, passed])).toEqual([
      ['reads', true],
      ['stranger', true],
      ['closed', true],
      ['wrong', false],
      ['other rule', false],
    ]);
    expect(results[3]?.message).toContain('expected Allow, got Deny: no rule allows POST /items');
    expect(results[4]?.message).toContain('decided by shop/api/web instead of "shop/api/never-asked"');
    expect(coverage).toEqual({ rules: 2, covered: 1, uncovered: ['shop/api/never-asked'] });
  });

  it.each([
    [{}, 'spec.tests must be a list of tests'],
    [{ tests: [] }, 'spec.tests must be a list of tests'],
    [{ tests: [{ request: { to: 'shop/api' } }] }, 'spec.tests[0].expect'],
    [{ tests: [{ expect: 'allow', request: { to: 'shop/api' } }] }, '"allow" is none of Allow, Deny'],
    [{ tests: [{ expect: 'Allow', request: {} }] }, 'must say what is called'],
    [
      { tests: [{ expect: 'Allow', request: { to: 'shop/apo' } }] },
      'is no workload, written namespace/name; there are shop/web',
    ],
    [
      { tests: [{ expect: 'Allow', request: { to: 'shop/api', port: 0 } }] },
      'spec.tests[0].request.port "0" is no port',
    ],
    [{ tests: [{ expect: 'Allow', request: { to: 'shop/api', time: 'noon' } }] }, 'is no instant'],
    [{ tests: [{ expect: 'Allow', request: { to: 'shop/api', htttp: {} } }] }, 'htttp is not a field'],
    [
      { tests: [{ expect: 'Allow', request: { to: 'shop/api', token: 'x' } }] },
      'must hold the claims of a token',
    ],
    [
      { tests: [{ expect: 'Allow', request: { to: 'shop/api', action: 'read' } }] },
      'must say what the action is on',
    ],
    [
      { tests: [{ expect: 'Allow', request: { from: 'shop/web', source: 'x', to: 'shop/api' } }] },
      'goes not with source',
    ],
  ])('fail with the field and the fix when they cannot be read: %j', (spec, message) => {
    const { results } = run(spec);
    expect(results).toHaveLength(1);
    expect(results[0]?.passed).toBe(false);
    expect(results[0]?.message).toContain(message);
  });

  it('do not pass for a request that the engine refuses to read', () => {
    const { results } = run({
      tests: [
        {
          name: 'dots',
          expect: 'Deny',
          decidedBy: 'request',
          request: { from: 'shop/web', to: 'shop/api', http: { path: '/items/../x' } },
        },
      ],
    });
    expect(results[0]?.message).toContain('the request is refused');
    expect(results[0]?.passed).toBe(true);
  });
});
