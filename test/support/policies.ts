/**
 * Random access policies over a small world, in which names collide often. For every suite that holds something against
 * `evaluate`; the inventories and requests of the same world are in policy-worlds.ts.
 *
 *     const knobs = language({ when: [], principals: ['spiffeId', 'namespace'] });
 *     fc.assert(fc.property(policies(knobs), inventories(), (inputs, content) => {
 *       const inventory = createInventory(content);
 *       const set = compileWorld(inputs, inventory);
 *       …
 *     }), proof(200));
 *
 * - `policies(knobs)`: PolicyInputs. A knob is a list of what may occur; `[]` or false switches the feature off.
 * - `roles()`: the AccessRoles that `knobs.roles` rules grant; give the same to `compileWorld`.
 * - `compileWorld(inputs, inventory, options)`: the PolicySet. An identity `namespace/name` gives out the SPIFFE IDs of the
 *   workload of that name (none where there is no such workload); namespaces are selected by the inventory's labels.
 * - `proof(usual)`: how a property is tried, for `fc.assert`; SIGNET_PROOF_RUNS and SIGNET_PROOF_SEED change it.
 * - `proofRuns(usual)`: how often a property is tried: `usual`, or as the environment says (SIGNET_PROOF_RUNS).
 */
import fc from 'fast-check';
import type { Inventory } from '../../src/access/mesh/inventory.js';
import type {
  OperationInput,
  PathInput,
  PolicyInput,
  PrincipalInput,
  RoleInput,
  RuleInput,
  SelectorInput,
  SimplePrincipalInput,
  TargetInput,
  ValidityInput,
  ValueInput,
} from '../../src/access/policy/input.js';
import { compilePolicySet, type PolicySet } from '../../src/access/policy/policy-set.js';
import { labelsMatch } from '../../src/access/policy/selector.js';
import { conditions, type ConditionKind } from './policy-conditions.js';

/** The words of the world: few, and such that one is the beginning of another. */
export const WORLD = {
  trustDomain: 'td',
  trustDomains: ['td', 'td.evil'],
  namespaces: ['a', 'ab'],
  serviceAccounts: ['x', 'xy'],
  apps: ['one', 'two'],
  teams: ['blue', 'red'],
  ports: [8080, 9000],
  /** Named in policies and asked, declared by no workload. */
  strayPort: 7000,
  methods: ['GET', 'POST'],
  hosts: ['api.example', 'web.api.example'],
  paths: ['/', '/p', '/p/q', '/p/q/r', '/pq'],
  headers: ['x-env', 'x-tier'],
  parameters: ['q', 'page'],
  values: ['one', 'two'],
  services: ['pay.v1.Pay', 'pay.v1.Payments'],
  rpcs: ['Charge', 'Refund'],
  ipBlocks: ['10.0.0.0/8', '10.1.0.0/16', '192.0.2.7/32', '2001:db8::/32'],
  ips: ['10.0.0.1', '10.1.2.3', '192.0.2.7', '192.0.2.8', '2001:db8::1', '2001:db9::1'],
  actions: ['read', 'write'],
  resourceTypes: ['document', 'folder'],
  resourceIds: ['1', '2'],
  roles: ['reader', 'writer', 'nothing'],
  /** A Wednesday, 10:30 in UTC and 11:30 in Berlin. */
  now: Date.UTC(2026, 0, 7, 10, 30),
} as const;

export type PrincipalKind =
  | 'spiffeId'
  | 'serviceAccount'
  | 'namespace'
  | 'namespaceSelector'
  | 'trustDomain'
  | 'identity'
  | 'authenticated'
  | 'anyone'
  | 'ipBlock';

export type OperationKind =
  'ports' | 'methods' | 'hosts' | 'paths' | 'headers' | 'query' | 'grpc' | 'actions';
export type SelectorKind = 'matchLabels' | 'matchExpressions' | 'serviceAccountNames' | 'namespaceSelector';

/** What may occur in the policies. */
export interface Language {
  readonly principals: readonly PrincipalKind[];
  readonly except: boolean;
  readonly operations: readonly OperationKind[];
  readonly pathKinds: readonly ('exact' | 'prefix' | 'template')[];
  readonly when: readonly ConditionKind[];
  readonly roles: boolean;
  readonly effects: readonly ('Allow' | 'Deny')[];
  readonly modes: readonly ('Enforce' | 'Audit')[];
  readonly tiers: readonly ('Admin' | 'Namespaced' | 'Baseline')[];
  readonly validity: boolean;
  readonly selectors: readonly SelectorKind[];
  readonly targetPorts: boolean;
  readonly maxPolicies: number;
  readonly maxRules: number;
}

/** The whole language, but for what a knob says. */
export function language(knobs: Partial<Language> = {}): Language {
  return {
    principals: [
      'spiffeId',
      'serviceAccount',
      'namespace',
      'namespaceSelector',
      'trustDomain',
      'identity',
      'authenticated',
      'anyone',
      'ipBlock',
    ],
    except: true,
    operations: ['ports', 'methods', 'hosts', 'paths', 'headers', 'query', 'grpc', 'actions'],
    pathKinds: ['exact', 'prefix', 'template'],
    when: [
      'token',
      'during',
      'outside',
      'sourceLabels',
      'targetLabels',
      'sourcePosture',
      'attributes',
      'cel',
    ],
    roles: true,
    effects: ['Allow', 'Allow', 'Allow', 'Deny'],
    modes: ['Enforce', 'Enforce', 'Enforce', 'Audit'],
    tiers: ['Admin', 'Namespaced', 'Namespaced', 'Namespaced', 'Baseline'],
    validity: true,
    selectors: ['matchLabels', 'matchExpressions', 'serviceAccountNames', 'namespaceSelector'],
    targetPorts: true,
    maxPolicies: 5,
    maxRules: 3,
    ...knobs,
  };
}

/** How often a property is tried. */
export function proofRuns(usual: number): number {
  const said = Number(process.env['SIGNET_PROOF_RUNS']);
  return Number.isInteger(said) && said > 0 ? said : usual;
}

/** Where the random choices of a proof begin: 1, or as the environment says (SIGNET_PROOF_SEED). */
export function proofSeed(): number {
  const said = Number(process.env['SIGNET_PROOF_SEED']);
  return Number.isInteger(said) ? said : 1;
}

/**
 * How a property is tried. The same each time, since a proof also asks that its sample holds enough of everything: other
 * samples are for runs by hand, which name another seed.
 */
export function proof(usual: number): { readonly numRuns: number; readonly seed: number } {
  return { numRuns: proofRuns(usual), seed: proofSeed() };
}

/** Policies, resolved against what there is. Fails where one does not compile, since these are all meant to. */
export function compileWorld(
  inputs: readonly PolicyInput[],
  inventory: Inventory,
  options: { readonly defaultAction?: 'Allow' | 'Deny'; readonly roles?: readonly RoleInput[] } = {},
): PolicySet {
  const set = compilePolicySet(inputs, {
    trustDomain: inventory.trustDomain,
    roles: roles(),
    ...options,
    identity: ({ namespace, name }) =>
      inventory.workloads.find((workload) => workload.namespace === namespace && workload.name === name)
        ?.spiffeIds ?? [],
    namespaces: (requirements) =>
      inventory.namespaces.filter(({ labels }) => labelsMatch(requirements, labels)).map(({ name }) => name),
  });
  const problems = set.policies.flatMap(({ problems: list }) => list ?? []);
  if (problems.length > 0) throw new Error(`the policies do not compile: ${JSON.stringify(problems)}`);
  return set;
}

/** The roles that rules grant: one includes another, one permits an application's actions, one nothing. */
export function roles(): readonly RoleInput[] {
  const role = (name: string, spec: RoleInput['spec']): RoleInput => ({
    kind: 'AccessRole',
    metadata: { name },
    spec,
  });
  return [
    role('reader', {
      permissions: [
        { http: { methods: ['GET'], paths: [{ prefix: '/p' }] } },
        { actions: ['read'], resources: [{ type: 'document' }] },
      ],
    }),
    role('writer', {
      permissions: [{ ports: [8080], http: { methods: ['POST'] } }],
      includes: ['reader'],
    }),
    role('nothing', {}),
  ];
}

const pick = <T>(items: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...items);
const few = <T>(items: readonly T[]): fc.Arbitrary<readonly T[]> =>
  fc.uniqueArray(pick(items), { minLength: 1, maxLength: 2 });
const maybe = <T>(arbitrary: fc.Arbitrary<T>, on: boolean, nils = 1): fc.Arbitrary<T | undefined> =>
  on
    ? fc.oneof({ weight: nils, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary })
    : fc.constant(undefined);

/** A record without the fields that are undefined. */
function record<T extends object>(fields: { readonly [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc
    .record(fields)
    .map((all) => Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as T);
}

/** Every ID that somebody could try: of both trust domains, with an ID inside an ID, and beside the pattern. */
export const IDS: readonly string[] = WORLD.trustDomains.flatMap((domain) => [
  ...WORLD.namespaces.flatMap((namespace) =>
    WORLD.serviceAccounts.map((account) => `spiffe://${domain}/ns/${namespace}/sa/${account}`),
  ),
  `spiffe://${domain}/ns/a/sa/x/ns/ab/sa/xy`,
  `spiffe://${domain}/ns/a/other/x`,
  `spiffe://${domain}/x`,
]);

const namespaceSelector: fc.Arbitrary<SelectorInput> = fc.oneof(
  pick(WORLD.teams).map((team) => ({ matchLabels: { team } })),
  few(WORLD.teams).map((values) => ({ matchExpressions: [{ key: 'team', operator: 'NotIn', values }] })),
  fc.constant({}),
);

const PRINCIPALS: Readonly<Record<PrincipalKind, fc.Arbitrary<SimplePrincipalInput>>> = {
  spiffeId: few(IDS).map((spiffeIDs) => ({ spiffeIDs })),
  serviceAccount: record<SimplePrincipalInput>({
    serviceAccounts: fc.array(
      fc.record({ namespace: pick(WORLD.namespaces), name: pick(WORLD.serviceAccounts) }),
      { minLength: 1, maxLength: 2 },
    ),
    trustDomains: maybe(few(WORLD.trustDomains), true, 3),
  }),
  namespace: record<SimplePrincipalInput>({
    namespaces: few(WORLD.namespaces),
    trustDomains: maybe(few(WORLD.trustDomains), true, 3),
  }),
  namespaceSelector: namespaceSelector.map((selector) => ({ namespaceSelector: selector })),
  trustDomain: few(WORLD.trustDomains).map((trustDomains) => ({ trustDomains })),
  identity: fc
    .array(fc.record({ namespace: pick(WORLD.namespaces), name: pick(WORLD.apps) }), {
      minLength: 1,
      maxLength: 2,
    })
    .map((identities) => ({ identities })),
  authenticated: record<SimplePrincipalInput>({
    anyAuthenticated: fc.constant(true),
    trustDomains: maybe(few(WORLD.trustDomains), true, 3),
  }),
  anyone: fc.constant({ anyone: true }),
  ipBlock: few(WORLD.ipBlocks).map((ipBlocks) => ({ ipBlocks })),
};

/** What is wide comes oftener, or hardly anything would be allowed. */
const WEIGHTS: Partial<Record<PrincipalKind, number>> = { namespace: 2, authenticated: 2, anyone: 2 };

function simplePrincipal(knobs: Language): fc.Arbitrary<SimplePrincipalInput> {
  const blocks = few(WORLD.ipBlocks);
  return fc
    .tuple(
      fc.oneof(
        ...knobs.principals.map((kind) => ({ arbitrary: PRINCIPALS[kind], weight: WEIGHTS[kind] ?? 1 })),
      ),
      maybe(blocks, knobs.principals.includes('ipBlock'), 5),
    )
    .map(([entry, ipBlocks]) => (ipBlocks === undefined ? entry : { ...entry, ipBlocks }));
}

function principal(knobs: Language): fc.Arbitrary<PrincipalInput> {
  const simple = simplePrincipal(knobs);
  return fc
    .tuple(simple, maybe(fc.array(simple, { minLength: 1, maxLength: 2 }), knobs.except, 3))
    .map(([entry, except]) => (except === undefined ? entry : { ...entry, except }));
}

const TEMPLATES = ['/{a}', '/p/{a}', '/{a}/q', '/p/{rest=**}', '/{a}/{rest=**}', '/p/{a}/r'] as const;

function path(knobs: Language): fc.Arbitrary<PathInput> {
  const kinds = {
    exact: pick(WORLD.paths).map((exact) => ({ exact })),
    prefix: pick(WORLD.paths).map((prefix) => ({ prefix })),
    template: pick(TEMPLATES).map((template) => ({ template })),
  };
  return fc.oneof(...knobs.pathKinds.map((kind): fc.Arbitrary<PathInput> => kinds[kind]));
}

function valueMatch(names: readonly string[]): fc.Arbitrary<ValueInput> {
  return fc.oneof(
    record<ValueInput>({
      name: pick(names),
      operator: pick(['In', 'NotIn', undefined]),
      values: few([...WORLD.values, 'a b']),
    }),
    record<ValueInput>({ name: pick(names), operator: pick(['Exists', 'DoesNotExist']) }),
  );
}

function operation(knobs: Language): fc.Arbitrary<OperationInput> {
  const has = (kind: OperationKind): boolean => knobs.operations.includes(kind);
  const ports = few([...WORLD.ports, WORLD.strayPort]);
  const list = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<readonly T[]> =>
    fc.array(arbitrary, { minLength: 1, maxLength: 2 });
  const http = record<NonNullable<OperationInput['http']>>({
    methods: maybe(few(WORLD.methods), has('methods'), 2),
    hosts: maybe(few([...WORLD.hosts, '*.api.example', '*.example']), has('hosts'), 4),
    paths: maybe(list(path(knobs)), has('paths'), 2),
    headers: maybe(list(valueMatch(WORLD.headers)), has('headers'), 4),
    query: maybe(list(valueMatch(WORLD.parameters)), has('query'), 4),
  });
  const grpc = record<NonNullable<OperationInput['grpc']>>({
    service: pick(WORLD.services),
    methods: maybe(few(WORLD.rpcs), true),
  });
  const resource = record<NonNullable<OperationInput['resources']>[number]>({
    type: pick(WORLD.resourceTypes),
    ids: maybe(few(WORLD.resourceIds), true),
  });
  const kinds: fc.Arbitrary<OperationInput>[] = [];
  if (has('ports')) kinds.push(ports.map((list_) => ({ ports: list_ })));
  if (has('methods') || has('paths') || has('hosts') || has('headers') || has('query')) {
    const entry = record<OperationInput>({
      ports: maybe(ports, has('ports'), 3),
      http: http.map((part) => (Object.keys(part).length === 0 ? undefined : part)),
    });
    // Said oftener than the others, since most of the language is in it.
    kinds.push(entry, entry, entry);
  }
  if (has('grpc')) kinds.push(record<OperationInput>({ ports: maybe(ports, has('ports'), 3), grpc }));
  if (has('actions')) {
    kinds.push(
      record<OperationInput>({
        actions: maybe(few(WORLD.actions), true),
        resources: maybe(list(resource), true),
      }),
    );
  }
  return fc.oneof(...kinds).filter((entry) => Object.keys(entry).length > 0);
}

function rules(knobs: Language): fc.Arbitrary<readonly RuleInput[]> {
  const grant = fc.oneof(
    pick(WORLD.roles).map((name) => ({ name })),
    fc.record({ name: pick(WORLD.roles), claim: pick(['roles', '/realm/roles']) }),
    fc.record({ name: pick(WORLD.roles), claim: fc.constant('roles'), value: pick(WORLD.values) }),
  );
  const rule = record<Omit<RuleInput, 'name'>>({
    effect: pick(knobs.effects),
    from: fc.array(principal(knobs), { minLength: 1, maxLength: 2 }),
    to:
      knobs.operations.length === 0
        ? fc.constant(undefined)
        : maybe(fc.array(operation(knobs), { minLength: 1, maxLength: 2 }), true),
    roles: maybe(fc.array(grant, { minLength: 1, maxLength: 2 }), knobs.roles, 4),
    when: maybe(conditions(knobs.when), knobs.when.length > 0, 2),
  });
  return fc
    .array(rule, { maxLength: knobs.maxRules })
    .map((list) => list.map((entry, index) => ({ name: `r${index}`, ...entry })));
}

const VALIDITIES: readonly ValidityInput[] = [
  { from: '2026-01-01T00:00:00Z' },
  { from: '2027-01-01T00:00:00Z' },
  { until: '2026-01-07T10:30:00Z' },
  { from: '2026-01-07T10:30:00Z', until: '2026-01-07T12:00:00+01:00' },
];

function target(knobs: Language, cluster: boolean): fc.Arbitrary<TargetInput> {
  const has = (kind: SelectorKind): boolean => knobs.selectors.includes(kind);
  const byLabel = pick(WORLD.apps).map((app): SelectorInput => ({ matchLabels: { app } }));
  const byExpression: fc.Arbitrary<SelectorInput> = fc.oneof(
    fc
      .record({ operator: pick(['In', 'NotIn']), values: few([...WORLD.apps, 'three']) })
      .map((expression) => ({ matchExpressions: [{ key: 'app', ...expression }] })),
    fc
      .record({ key: pick(['app', 'version']), operator: pick(['Exists', 'DoesNotExist']) })
      .map((expression) => ({ matchExpressions: [expression] })),
  );
  const selectors = [
    ...(has('matchLabels') ? [byLabel] : []),
    ...(has('matchExpressions') ? [byExpression] : []),
  ];
  return record<TargetInput>({
    podSelector: maybe(
      selectors.length === 0 ? fc.constant({}) : fc.oneof(...selectors),
      selectors.length > 0,
    ),
    serviceAccountNames: maybe(few(WORLD.serviceAccounts), has('serviceAccountNames'), 4),
    ports: maybe(few([...WORLD.ports, WORLD.strayPort]), knobs.targetPorts, 3),
    namespaces: maybe(few(WORLD.namespaces), cluster, 2),
    namespaceSelector: maybe(namespaceSelector, cluster && has('namespaceSelector'), 2),
  });
}

/** A set of policies; names are unique, and neither their order nor their number says anything. */
export function policies(knobs: Language = language()): fc.Arbitrary<readonly PolicyInput[]> {
  const spec = (tier: string): fc.Arbitrary<PolicyInput['spec']> =>
    record<PolicyInput['spec']>({
      tier: fc.constant(tier === 'Namespaced' ? undefined : tier),
      mode: pick(knobs.modes),
      target: target(knobs, tier !== 'Namespaced'),
      rules: rules(knobs),
      validity: maybe(pick(VALIDITIES), knobs.validity, 5),
    });
  const policy = pick(knobs.tiers).chain((tier) =>
    fc.tuple(fc.constant(tier), pick(WORLD.namespaces), spec(tier)),
  );
  return fc.array(policy, { minLength: 1, maxLength: knobs.maxPolicies }).map((list) =>
    list.map(([tier, namespace, content], index) => ({
      kind: tier === 'Namespaced' ? 'AccessPolicy' : 'ClusterAccessPolicy',
      metadata: { name: `p${index}`, ...(tier === 'Namespaced' ? { namespace } : {}) },
      spec: content,
    })),
  );
}
