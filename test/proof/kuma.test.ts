import { describe, expect, it } from '@jest/globals';
import { kumaRenderer } from '../../src/access/mesh/kuma/renderer.js';
import type { InventoryWorkload } from '../../src/access/mesh/inventory.js';
import type { PolicyInput, RuleInput } from '../../src/access/policy/input.js';
import { compileWorld } from '../support/policies.js';
import { holdAgainst, PAIR, renderFor } from '../support/reference/connections.js';
import { kumaAnswer } from '../support/reference/kuma.js';

const X = 'spiffe://td/ns/a/sa/x';
const Y = 'spiffe://td/ns/a/sa/y';
const [ONE, CANARY] = PAIR.workloads as [InventoryWorkload, InventoryWorkload];

function policy(rules: readonly RuleInput[], spec: Partial<PolicyInput['spec']> = {}): PolicyInput {
  return {
    kind: 'AccessPolicy',
    metadata: { name: `p${rules.length}`, namespace: 'a' },
    spec: { target: {}, rules, ...spec },
  };
}

const from = (...spiffeIDs: readonly string[]): RuleInput => ({ name: 'r', from: [{ spiffeIDs }] });

describe('Kuma, decided as its sources say', () => {
  it('never lets in whom the policies deny, and answers alike where the verdicts say exact', () => {
    const tally = holdAgainst(
      kumaRenderer(),
      (rendering, { source, target, port = 8080 }) =>
        kumaAnswer(rendering.objects, { source, pod: target, port }).allowed,
    );
    expect(tally.open).toBeGreaterThan(tally.asked / 10);
    expect(tally.asked - tally.open).toBeGreaterThan(tally.asked / 10);
    expect(tally.exact).toBeGreaterThan(tally.asked / 10);
    expect(tally.exactOpen).toBeGreaterThan(tally.exact / 20);
    expect(tally.narrower).toBeGreaterThan(tally.asked / 10);
  }, 60_000);

  it('trap 20: names whole identities only, never a prefix, and lists those of a namespace', () => {
    const set = compileWorld([policy([{ name: 'r', from: [{ namespaces: ['a'] }] }])], PAIR);
    const rendering = renderFor(kumaRenderer(), set, PAIR);
    const text = JSON.stringify(rendering.objects);
    expect(text).toContain('"Exact"');
    expect(text).not.toContain('Prefix');
    const answer = (source: string): boolean =>
      kumaAnswer(rendering.objects, { source, pod: CANARY, port: 8080 }).allowed;
    expect(
      [X, Y, 'spiffe://td/ns/a-2/sa/x', 'spiffe://td/ns/ab/sa/x', 'spiffe://td.evil/ns/a/sa/x', `${X}y`].map(
        answer,
      ),
    ).toEqual([true, true, false, false, false, false]);
    expect(rendering.verdicts.find(({ rule }) => rule === 'r')).toMatchObject({ fidelity: 'Narrower' });
  });

  it('trap 21: says under which conditions Kuma enforces at all, and without them it does not', () => {
    const set = compileWorld([policy([from(X)])], PAIR);
    const rendering = renderFor(kumaRenderer(), set, PAIR);
    const stranger = { source: Y, pod: ONE, port: 8080 };
    expect(kumaAnswer(rendering.objects, stranger).allowed).toBe(false);
    expect(kumaAnswer(rendering.objects, { ...stranger, hasIdentity: false }).allowed).toBe(true);
    expect(kumaAnswer(rendering.objects, { ...stranger, plaintext: true }).allowed).toBe(true);
    for (const { rule, reasons } of rendering.verdicts) {
      if (rule === undefined)
        expect(reasons.join()).toContain(
          'where the data plane has a workload identity and MeshTLS is Strict',
        );
    }
  });

  it('lets in whom an audited policy would deny, and has Kuma log it', () => {
    const set = compileWorld(
      [
        policy([from(X, Y)]),
        policy(
          [
            { name: 'no', effect: 'Deny', from: [{ spiffeIDs: [Y] }] },
            { name: 'z', effect: 'Deny', from: [{ spiffeIDs: [`${Y}z`] }] },
          ],
          { mode: 'Audit' },
        ),
      ],
      PAIR,
    );
    const rendering = renderFor(kumaRenderer(), set, PAIR);
    const answer = (source: string) => kumaAnswer(rendering.objects, { source, pod: ONE, port: 8080 });
    expect(answer(Y)).toEqual({ allowed: true, shadowDenied: 'policy' });
    // Trap 21 again: everybody else is logged as denied by "default", and let in all the same.
    expect(answer(X)).toEqual({ allowed: true, shadowDenied: 'default' });
    expect(
      rendering.verdicts
        .filter(({ policy: { name } }) => name === 'p2')
        .flatMap(({ reasons }) => reasons)
        .join(),
    ).toContain('under the name "default"');
  });

  it('names the inbound where ports differ, by its name or by its number', () => {
    const set = compileWorld(
      [
        policy([{ name: 'r', from: [{ spiffeIDs: [X] }], to: [{ ports: [8080] }] }]),
        policy([from(Y), { ...from(Y), name: 's', to: [{ ports: [9000] }] }], { target: { ports: [9000] } }),
      ],
      PAIR,
    );
    const { objects } = renderFor(kumaRenderer(), set, PAIR);
    const sections = objects.map(({ spec }) => (spec?.['targetRef'] as { sectionName?: string }).sectionName);
    expect(new Set(sections)).toEqual(new Set(['web', '9000']));
  });

  it('closes a workload whose labels are all carried by another that is ruled otherwise', () => {
    const open = policy([from(X)], { target: { podSelector: { matchLabels: { track: 'canary' } } } });
    const base = policy([from(Y), { ...from(Y), name: 's' }]);
    const rendering = renderFor(kumaRenderer(), compileWorld([open, base], PAIR), PAIR);
    const answer = (source: string, pod: InventoryWorkload): boolean =>
      kumaAnswer(rendering.objects, { source, pod, port: 8080 }).allowed;
    expect([answer(X, CANARY), answer(Y, CANARY), answer(Y, ONE)]).toEqual([true, true, false]);
    expect(rendering.verdicts.flatMap(({ reasons }) => reasons).join()).toContain(
      'Kuma cannot leave them out',
    );
  });
});
