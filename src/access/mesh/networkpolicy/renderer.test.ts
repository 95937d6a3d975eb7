import { describe, expect, it } from '@jest/globals';
import { compilePolicySet } from '../../policy/policy-set.js';
import type { PolicyInput, RuleInput, TargetInput } from '../../policy/input.js';
import { ZoneClock } from '../../policy/time-window.js';
import { parseIpBlock } from '../../../lib/ip-address.js';
import { createInventory, type InventoryWorkload } from '../inventory.js';
import { overallFidelity, render, type KubernetesObject, type Rendering } from '../renderer.js';
import { networkPolicyRenderer, type NetworkPolicyOptions } from './renderer.js';

const workload = (
  namespace: string,
  name: string,
  more: Partial<InventoryWorkload> = {},
): InventoryWorkload => ({
  namespace,
  name,
  serviceAccount: name,
  labels: { app: name },
  namespaceLabels: {},
  spiffeIds: [`spiffe://td/ns/${namespace}/sa/${name}`],
  ports: [{ port: 8080, protocol: 'http' }],
  ...more,
});

const shop = [workload('shop', 'api'), workload('shop', 'web'), workload('dev', 'web')];

const policy = (
  rules: readonly RuleInput[],
  target: TargetInput = { podSelector: { matchLabels: { app: 'api' } } },
): PolicyInput => ({
  kind: 'AccessPolicy',
  metadata: { name: 'p', namespace: 'shop' },
  spec: { target, rules },
});

function rendered(
  inputs: readonly PolicyInput[],
  options: NetworkPolicyOptions & {
    readonly workloads?: readonly InventoryWorkload[];
    readonly defaultAction?: 'Allow' | 'Deny';
  } = {},
): Rendering {
  const { workloads = shop, defaultAction = 'Allow', ...rest } = options;
  const namespaces = [...new Set(workloads.map(({ namespace }) => namespace))].map((name) => ({
    name,
    labels: {},
  }));
  const set = compilePolicySet(inputs, {
    trustDomain: 'td',
    defaultAction,
    namespaces: () => namespaces.map(({ name }) => name),
  });
  expect(set.policies.flatMap(({ problems }) => problems ?? [])).toEqual([]);
  const inventory = createInventory({ trustDomain: 'td', namespaces, workloads });
  return render(networkPolicyRenderer(rest), { set, inventory, time: 0, zones: new ZoneClock() });
}

const specOf = ({ objects }: Rendering, name: string): KubernetesObject['spec'] | undefined =>
  objects.find(({ kind, metadata }) => kind === 'NetworkPolicy' && metadata.name === name)?.spec;

const web = { serviceAccounts: [{ name: 'web' }] };
const isFrom = (namespace: string, app: string): object => ({
  namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } },
  podSelector: { matchLabels: { app } },
});

describe('NetworkPolicy', () => {
  it('lets in no pods of which one container alone holds the identity, for the others come from there as well', () => {
    const rules: readonly RuleInput[] = [{ name: 'r', from: [web], to: [{ ports: [8080] }] }];
    const ofNamespace: readonly RuleInput[] = [{ name: 'r', from: [{ namespaces: ['shop'] }] }];
    const partly = [workload('shop', 'api'), workload('shop', 'web', { alsoWithout: true })];
    for (const allowing of [rules, ofNamespace]) {
      const result = rendered([policy(allowing)], { workloads: partly });
      expect(JSON.stringify(specOf(result, 'workload.api'))).not.toContain('"web"');
      expect(overallFidelity(result.verdicts)).not.toBe('Exact');
    }
  });

  it('lets in the pods that hold the identity, and closes the target by its own selector too', () => {
    const result = rendered([policy([{ name: 'r', from: [web], to: [{ ports: [8080] }] }])]);
    expect(specOf(result, 'workload.api')).toEqual({
      podSelector: { matchLabels: { app: 'api' } },
      policyTypes: ['Ingress'],
      ingress: [{ from: [isFrom('shop', 'web')], ports: [{ protocol: 'TCP', port: 8080 }] }],
    });
    expect(specOf(result, 'closed-by.policy.p')).toMatchObject({ ingress: [] });
    expect(overallFidelity(result.verdicts)).toBe('Exact');
  });

  it('trap 5: who is nobody gets no rule, never an empty "from"', () => {
    const result = rendered([policy([{ name: 'r', from: [{ serviceAccounts: [{ name: 'nobody' }] }] }])]);
    expect(specOf(result, 'workload.api')).toMatchObject({ ingress: [] });
    expect(JSON.stringify(result.objects)).not.toContain('"from":[]');
  });

  it('trap 23: everybody has no "from", and every object says that it is about ingress', () => {
    const result = rendered([policy([{ name: 'r', from: [{ anyone: true }] }])]);
    expect(specOf(result, 'workload.api')).toMatchObject({ ingress: [{}], policyTypes: ['Ingress'] });
    expect(result.verdicts[0]?.reasons.join()).toContain('the pod’s own node is always let in');
  });

  it('trap 23: namespace and pod selectors stand in one peer, where both must hold', () => {
    const spec = specOf(rendered([policy([{ name: 'r', from: [web] }])]), 'workload.api');
    expect(spec).toMatchObject({ ingress: [{ from: [{ namespaceSelector: {}, podSelector: {} }] }] });
  });

  it('opens other ports again that the policy leaves open, since a pod is closed as a whole', () => {
    const spec = specOf(
      rendered([
        policy([{ name: 'r', from: [web] }], { podSelector: { matchLabels: { app: 'api' } }, ports: [8080] }),
      ]),
      'workload.api',
    );
    expect(spec?.['ingress']).toEqual([
      { from: [isFrom('shop', 'web')], ports: [{ protocol: 'TCP', port: 8080 }] },
      {
        ports: [
          [1, 8079],
          [8081, 65535],
        ].flatMap(([port, endPort]) =>
          ['TCP', 'UDP', 'SCTP'].map((protocol) => ({ protocol, port, endPort })),
        ),
      },
    ]);
  });

  it('excludes by absent labels where other pods have the same labels and more', () => {
    const workloads = [
      workload('shop', 'api'),
      workload('shop', 'web'),
      workload('shop', 'canary', { labels: { app: 'web', track: 'canary' } }),
    ];
    const spec = specOf(rendered([policy([{ name: 'r', from: [web] }])], { workloads }), 'workload.api');
    expect(spec).toMatchObject({
      ingress: [
        {
          from: [
            {
              podSelector: {
                matchLabels: { app: 'web' },
                matchExpressions: [{ key: 'track', operator: 'DoesNotExist' }],
              },
            },
          ],
        },
      ],
    });
  });

  it('lets nobody in by labels that also another pod has, and says whose', () => {
    const workloads = [
      workload('shop', 'api'),
      workload('shop', 'web'),
      workload('shop', 'twin', { labels: { app: 'web' } }),
    ];
    const result = rendered([policy([{ name: 'r', from: [web] }])], { workloads });
    expect(specOf(result, 'workload.api')).toMatchObject({ ingress: [] });
    expect(result.verdicts).toMatchObject([
      { rule: 'r', fidelity: 'Narrower', reasons: [expect.stringContaining('shop/web, shop/twin')] },
    ]);
  });

  it('selects a namespace as a whole only while each of its pods holds one of its identities', () => {
    const rules: readonly RuleInput[] = [{ name: 'r', from: [{ namespaces: ['dev'] }] }];
    expect(specOf(rendered([policy(rules)]), 'workload.api')).toMatchObject({
      ingress: [{ from: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'dev' } } }] }],
    });
    const workloads = [...shop, workload('dev', 'bare', { spiffeIds: [] })];
    expect(specOf(rendered([policy(rules)], { workloads }), 'workload.api')).toMatchObject({
      ingress: [{ from: [isFrom('dev', 'web')] }],
    });
  });

  it('leaves HTTP out, or opens for it when a mesh enforces it', () => {
    const rules: readonly RuleInput[] = [
      { name: 'r', from: [web], to: [{ http: { methods: ['GET'] } }] },
      { name: 'no', effect: 'Deny', from: [{ anyone: true }], to: [{ http: { methods: ['PUT'] } }] },
    ];
    const alone = rendered([policy(rules)]);
    expect(specOf(alone, 'workload.api')).toMatchObject({ ingress: [] });
    expect(alone.verdicts.map(({ rule, fidelity }) => [rule, fidelity])).toEqual([
      ['no', 'Narrower'],
      ['r', 'Unsupported'],
    ]);
    const outer = rendered([policy(rules)], { assumeHttpEnforcedElsewhere: true });
    expect(specOf(outer, 'workload.api')).toMatchObject({ ingress: [{ from: [isFrom('shop', 'web')] }] });
    expect(outer.verdicts[0]).toMatchObject({
      fidelity: 'Exact',
      reasons: expect.arrayContaining([expect.stringContaining('only together with the mesh')]),
    });
  });

  it('takes denied pods away from those that are let in', () => {
    const result = rendered([
      policy([
        { name: 'r', from: [{ namespaces: ['shop', 'dev'] }] },
        { name: 'no', effect: 'Deny', from: [{ namespaces: ['dev'] }] },
      ]),
    ]);
    expect(specOf(result, 'workload.api')).toMatchObject({
      ingress: [
        { from: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'shop' } } }] },
      ],
    });
  });

  it('says addresses without those that are excepted, in their canonical form', () => {
    const from = [
      {
        ipBlocks: ['2001:db8:0:0:0:0:0:0/32', '10.0.0.0/8'],
        except: [{ anyone: true, ipBlocks: ['10.1.0.0/16'] }],
      },
    ];
    const result = rendered([policy([{ name: 'r', from }])], { podNetworks: [blockOf('10.1.0.0/16')] });
    expect(specOf(result, 'workload.api')?.['ingress']).toEqual([
      {
        from: [
          { ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] } },
          { ipBlock: { cidr: '2001:db8::/32' } },
        ],
      },
    ]);
  });

  it('trap 24: cluster policies only ever deny, at one priority, and every peer says what it is', () => {
    const result = rendered(
      [
        {
          kind: 'ClusterAccessPolicy',
          metadata: { name: 'no-dev' },
          spec: {
            tier: 'Admin',
            target: { namespaces: ['shop'] },
            rules: [{ name: 'no', effect: 'Deny', from: [{ namespaces: ['dev'] }] }],
          },
        },
        policy([{ name: 'r', from: [{ anyone: true }] }]),
      ],
      { clusterNetworkPolicy: { priority: 7 }, outsideHoldsIdentities: false },
    );
    const cluster = result.objects.filter(({ kind }) => kind === 'ClusterNetworkPolicy');
    expect(cluster.map(({ metadata }) => metadata.name)).toEqual(['workload.shop.api', 'workload.shop.web']);
    expect(cluster[0]?.spec).toEqual({
      tier: 'Admin',
      priority: 7,
      subject: { pods: isFrom('shop', 'api') },
      ingress: [
        {
          action: 'Deny',
          from: [{ namespaces: { matchLabels: { 'kubernetes.io/metadata.name': 'dev' } } }],
        },
      ],
    });
    // Nothing closes web, so only the Deny is said of it.
    expect(specOf(result, 'workload.web')).toBeUndefined();
  });

  it('says Deny rules of the Baseline tier in the Baseline tier where nothing else is said', () => {
    const result = rendered(
      [
        {
          kind: 'ClusterAccessPolicy',
          metadata: { name: 'no-dev' },
          spec: {
            tier: 'Baseline',
            target: {},
            rules: [{ name: 'no', effect: 'Deny', from: [{ namespaces: ['dev'] }] }],
          },
        },
      ],
      { clusterNetworkPolicy: { priority: 7 } },
    );
    expect(result.objects.map(({ kind, spec }) => [kind, spec?.['tier']])).toEqual([
      ['ClusterNetworkPolicy', 'Baseline'],
      ['ClusterNetworkPolicy', 'Baseline'],
      ['ClusterNetworkPolicy', 'Baseline'],
    ]);
  });

  it('closes every namespace where nothing is allowed unless said', () => {
    const result = rendered([], { defaultAction: 'Deny' });
    expect(
      result.objects
        .filter(({ metadata }) => metadata.name === 'default-deny')
        .map(({ metadata, spec }) => [metadata.namespace, spec]),
    ).toEqual([
      ['shop', { podSelector: {}, policyTypes: ['Ingress'], ingress: [] }],
      ['dev', { podSelector: {}, policyTypes: ['Ingress'], ingress: [] }],
    ]);
  });
});

function blockOf(text: string): Extract<ReturnType<typeof parseIpBlock>, { readonly ok: true }>['block'] {
  const parsed = parseIpBlock(text);
  if (!parsed.ok) throw new Error(parsed.message);
  return parsed.block;
}
