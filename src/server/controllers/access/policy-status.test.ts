import { describe, expect, it } from '@jest/globals';
import type { Verdict } from '../../../access/mesh/renderer.js';
import type { Policy } from '../../../access/policy/model.js';
import { accessPolicyStatus } from '../../../resources/policy-schema.js';
import { checkSchema } from '../../../resources/schema-check.js';
import type { ApplyFailure } from '../../../store/kubernetes/applied-report.js';
import { policyStatus, type PolicyFacts } from './policy-status.js';

const NOW = Date.UTC(2026, 0, 1);
const ref = { kind: 'AccessPolicy', namespace: 'a', name: 'p' } as const;
const policy: Policy = {
  ...{ ref, tier: 'Namespaced', mode: 'Enforce', rules: [] },
  target: { namespaceNames: ['a'], namespaces: [], pods: [] },
};
const facts = (more: Partial<PolicyFacts> = {}): PolicyFacts => ({
  ...{ policy, generation: 3, meshes: [], meshProblems: [], withheld: [], roleProblems: [] },
  ...{ pods: 1, unheld: [] },
  ...more,
});
const failure = (code: ApplyFailure['code'], message = 'why'): ApplyFailure => ({
  ...{ object: `v1 Thing a/${code}`, code, message, retry: true },
});

describe('the status of a policy', () => {
  it('stays within what the CRD takes, however much there is to say', () => {
    const long = 'x'.repeat(5_000);
    const verdicts = Array.from({ length: 500 }, (_, index): Verdict => ({
      ...{ policy: ref, rule: `rule-${index}`, fidelity: 'Narrower', reasons: [`${index} ${long}`] },
      targets: Array.from({ length: 1_000 }, (__, at) => `a/workload-${at}`),
    }));
    const status = policyStatus(
      facts({
        policy: { ...policy, problems: [{ field: 'spec', message: long }] },
        meshes: [{ mesh: 'istio', verdicts, objects: 5, failures: [] }],
        unheld: Array.from({ length: 500 }, (_, index) => `${index} ${long}`),
      }),
      undefined,
      NOW,
    );
    expect(checkSchema(accessPolicyStatus.node, status).problems).toEqual([]);
    expect(JSON.stringify(status).length).toBeLessThan(40_000);
    expect(status.renderings?.[0]?.reasons?.at(-1)).toBe('and 484 more');
    expect(status.renderings?.[0]?.reasons?.[0]).toMatch(
      /^rule "rule-0" on a\/workload-0, a\/workload-1, a\/workload-2 and 997 more: 0 x/,
    );
  });

  it('says what needs somebody before what mends itself', () => {
    const all = ['NotSynced', 'Failed', 'Refused', 'NotOurs', 'NotServed', 'Forbidden'] as const;
    const reasons = all.map((_, index) => {
      const failures = all.slice(0, index + 1).map((code) => failure(code));
      const meshes = [{ mesh: 'm', verdicts: [], objects: 1, failures }];
      return policyStatus(facts({ meshes }), undefined, NOW).conditions?.[0]?.reason;
    });
    expect(reasons).toEqual(
      'NotApplied NotApplied ObjectRefused ObjectTaken MeshMissing Forbidden'.split(' '),
    );
    const several = [failure('Forbidden', 'first'), failure('Forbidden', 'second')];
    const meshes = [{ mesh: 'm', verdicts: [], objects: 2, failures: several }];
    expect(policyStatus(facts({ meshes }), undefined, NOW).conditions?.[0]?.message).toBe(
      'v1 Thing a/Forbidden: first; the same of 1 more objects',
    );
  });

  it('moves its time with its status alone', () => {
    const first = policyStatus(facts(), undefined, NOW);
    const later = policyStatus(facts({ generation: 4, pods: 9 }), first, NOW + 60_000);
    expect(later.conditions?.[0]).toMatchObject({
      lastTransitionTime: '2026-01-01T00:00:00Z',
      observedGeneration: 4,
    });
    const broken = policyStatus(facts({ roleProblems: ['r'] }), later, NOW + 120_000);
    expect(broken.conditions?.[0]?.lastTransitionTime).toBe('2026-01-01T00:02:00Z');
  });
});
