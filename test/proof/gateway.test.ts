import { describe, expect, it } from '@jest/globals';
import { gatewayRenderer, type GatewayOptions } from '../../src/access/mesh/gateway/renderer.js';
import type { InventoryWorkload } from '../../src/access/mesh/inventory.js';
import type { PolicyInput, RuleInput } from '../../src/access/policy/input.js';
import { compilePolicySet } from '../../src/access/policy/policy-set.js';
import { compileWorld } from '../support/policies.js';
import { holdAgainst, PAIR, renderFor } from '../support/reference/connections.js';
import { gatewayAllows } from '../support/reference/gateway.js';

const X = 'spiffe://td/ns/a/sa/x';
const Y = 'spiffe://td/ns/a/sa/y';
const [ONE, CANARY] = PAIR.workloads as [InventoryWorkload, InventoryWorkload];

const policy = (rules: readonly RuleInput[], spec: Partial<PolicyInput['spec']> = {}): PolicyInput => ({
  kind: 'AccessPolicy',
  metadata: { name: 'p', namespace: 'a' },
  spec: { target: {}, rules, ...spec },
});

function ask(inputs: readonly PolicyInput[], options: GatewayOptions = {}) {
  const rendering = renderFor(gatewayRenderer(options), compileWorld(inputs, PAIR), PAIR);
  return {
    rendering,
    allows: (source: string | undefined, pod = ONE, port = 8080): boolean =>
      gatewayAllows(rendering.objects, { source, pod, port, trustDomain: 'td' }),
  };
}

describe('Gateway API, decided as GEP-3779 says', () => {
  it.each([{}, { serviceAccounts: true }])(
    'never lets in whom the policies deny, and answers alike where the verdicts say exact: %j',
    (options) => {
      const tally = holdAgainst(gatewayRenderer(options), (rendering, { source, target, port = 8080 }) =>
        gatewayAllows(rendering.objects, { source, pod: target, port, trustDomain: 'td' }),
      );
      expect(tally.open).toBeGreaterThan(tally.asked / 10);
      expect(tally.asked - tally.open).toBeGreaterThan(tally.asked / 10);
      expect(tally.exact).toBeGreaterThan(tally.asked / 10);
      expect(tally.exactOpen).toBeGreaterThan(tally.exact / 20);
      expect(tally.narrower).toBeGreaterThan(tally.asked / 10);
    },
    60_000,
  );

  it('trap 26: leaves sources out for anyone, and writes an empty list for nobody', () => {
    const open = ask([policy([{ name: 'r', from: [{ anyone: true }] }])]);
    expect(open.rendering.objects.map(({ spec }) => spec?.['rules'])).toEqual([[{}], [{}]]);
    expect(open.allows(undefined)).toBe(true);
    const closed = ask([policy([])]);
    expect(closed.rendering.objects.map(({ spec }) => spec?.['rules'])).toEqual([
      [{ sources: [] }],
      [{ sources: [] }],
    ]);
    expect(closed.allows(X)).toBe(false);
    // The empty list must be there in what is sent, since leaving it out means everybody.
    expect(JSON.stringify(closed.rendering.objects[0])).toContain('"sources":[]');
  });

  it('trap 27: writes trust domains in lower case, since nothing else is let into a policy', () => {
    const input = policy([{ name: 'r', from: [{ spiffeIDs: ['spiffe://TD/ns/a/sa/x'] }] }]);
    const set = compilePolicySet([input], { trustDomain: 'td', defaultAction: 'Allow' });
    const rendering = renderFor(gatewayRenderer(), set, PAIR);
    expect(set.policies[0]?.problems?.[0]?.message).toContain('td');
    expect(JSON.stringify(rendering.objects)).not.toContain('TD');
    for (const source of [X, 'spiffe://TD/ns/a/sa/x']) {
      expect(gatewayAllows(rendering.objects, { source, pod: ONE, port: 8080, trustDomain: 'td' })).toBe(
        false,
      );
    }
    const right = ask([policy([{ name: 'r', from: [{ spiffeIDs: [X, 'spiffe://td/ns/A/sa/X'] }] }])]);
    expect([
      right.allows(X),
      right.allows('spiffe://td/ns/A/sa/X'),
      right.allows('spiffe://td/ns/a/sa/X'),
    ]).toEqual([true, true, false]);
  });

  it('names service accounts where it is told that identities are those of service accounts', () => {
    const input = policy([{ name: 'r', from: [{ namespaces: ['b'] }, { spiffeIDs: [X] }] }]);
    const { rendering, allows } = ask([input], { serviceAccounts: true });
    expect(rendering.objects[0]?.spec?.['rules']).toEqual([
      {
        sources: [
          { type: 'ServiceAccount', serviceAccount: { namespace: 'b', name: '*' } },
          { type: 'ServiceAccount', serviceAccount: { namespace: 'a', name: 'x' } },
        ],
      },
    ]);
    expect([allows('spiffe://td/ns/b/sa/new'), allows('spiffe://td.evil/ns/b/sa/new'), allows(Y)]).toEqual([
      true,
      false,
      false,
    ]);
  });

  it('tells workloads apart whose labels are among those of another', () => {
    const { allows } = ask([
      policy([{ name: 'r', from: [{ spiffeIDs: [X] }] }], {
        target: { podSelector: { matchLabels: { track: 'canary' } } },
      }),
    ]);
    expect([allows(X, CANARY), allows(X, ONE)]).toEqual([true, false]);
  });

  it('writes ports where they differ', () => {
    const { allows } = ask([policy([{ name: 'r', from: [{ spiffeIDs: [X] }], to: [{ ports: [9000] }] }])]);
    expect([allows(X, ONE, 9000), allows(X, ONE, 8080), allows(X, ONE, 7000)]).toEqual([true, false, false]);
  });
});
