/** Holds the evaluator against the reference on random worlds; for the usual tests and the long proof. */
import fc from 'fast-check';
import { evaluate, type Decision } from '../../../src/access/policy/evaluate.js';
import type { PolicyInput } from '../../../src/access/policy/input.js';
import type { AccessRequest } from '../../../src/access/policy/model.js';
import { compilePolicySet } from '../../../src/access/policy/policy-set.js';
import { labelsMatch } from '../../../src/access/policy/selector.js';
import { language, roles, WORLD, type Language } from '../policies.js';
import { asking, worlds, type World } from '../policy-worlds.js';
import { referenceAnswer, ruleMatches, type ReferenceAnswer, type ReferenceWorld } from './policy.js';

/** Instants around which clocks are put forward and back, in Berlin and New York. */
const CHANGES = [
  '2026-03-29T01:00:00Z',
  '2026-10-25T01:00:00Z',
  '2026-03-08T07:00:00Z',
  '2026-11-01T06:00:00Z',
];

const times = [
  WORLD.now,
  WORLD.now - 1,
  WORLD.now + 3_600_000,
  WORLD.now + 12 * 3_600_000,
  // A login at the very end of its age, and one that is as far in the future as clocks may differ, and farther.
  WORLD.now + 240_000,
  WORLD.now - 120_000,
  WORLD.now - 120_001,
  WORLD.now + 4 * 24 * 3_600_000,
  ...CHANGES.flatMap((text) => [Date.parse(text) - 1, Date.parse(text), Date.parse(text) + 5 * 3_600_000]),
];

const PLAIN: Partial<Language> = {
  selectors: [],
  targetPorts: false,
  validity: false,
  modes: ['Enforce'],
  effects: ['Allow', 'Allow', 'Allow', 'Allow', 'Deny'],
};
const ONE_RULE: Partial<Language> = {
  ...PLAIN,
  principals: ['anyone'],
  except: false,
  roles: false,
  maxPolicies: 2,
  maxRules: 2,
};
const FEWER: readonly Partial<Language>[] = [
  { ...PLAIN, operations: ['ports'], roles: false },
  { ...PLAIN, when: [], except: false },
  // One feature at a time, so that its corners are not hidden behind what else a rule asks for.
  { ...ONE_RULE, operations: ['headers', 'query'], when: [] },
  { ...ONE_RULE, operations: ['ports'], when: ['token'] },
  { ...ONE_RULE, operations: ['actions'], when: ['attributes', 'cel'] },
  { ...ONE_RULE, operations: ['ports'], when: ['sourcePosture', 'during', 'outside'] },
];

/** What a run has seen, to show that it was worth something. */
export interface Seen {
  asked: number;
  readonly by: Map<ReferenceAnswer['by'], number>;
}

export interface Disputed extends World {
  readonly defaultAction: 'Allow' | 'Deny';
  /** Which of the policies are made unreadable. */
  readonly broken: readonly boolean[];
}

/** Random worlds in which now and then a policy cannot be compiled. */
export function disputes(count: number): fc.Arbitrary<Disputed> {
  const asked = asking({ times, lowerCaseMethods: true });
  return fc
    .record({
      // Few say yes to everything that a whole rule may ask; so every second world is of fewer words.
      world: fc.oneof(
        worlds(language(), asked, count),
        ...FEWER.map((knobs) => worlds(language(knobs), asked, count)),
      ),
      thin: fc.option(fc.nat({ max: 1000 }), { nil: undefined }),
      twists: fc.array(fc.nat({ max: TWISTS.length * 5 }), { minLength: count, maxLength: count }),
      defaultAction: fc.constantFrom('Allow' as const, 'Deny' as const),
      broken: fc.array(
        fc.integer({ max: 9, min: 0 }).map((dice) => dice === 0),
        { minLength: 5, maxLength: 5 },
      ),
    })
    .map(({ world, defaultAction, broken, twists, thin }) => ({
      ...world,
      inputs: thin === undefined ? world.inputs : world.inputs.map((policy) => thinned(policy, thin)),
      requests: twisted(world.requests, twists),
      defaultAction,
      broken,
    }));
}

/** What the world's own requests do not hold. */
const TWISTS: readonly ((request: AccessRequest) => AccessRequest)[] = [
  // The segments of a service account's ID, but for the first.
  (request) => ({ ...request, source: 'spiffe://td/sn/a/sa/x' }),
  ({ target, ...request }) => ({ ...request, target: { ...target, labels: {}, namespaceLabels: {} } }),
  // Claims that cannot be compared, alone and among others.
  ...[[{}], [{}, 'eng'], {}, null, []].map((department) => (request: AccessRequest) => ({
    ...request,
    token: { claims: { iss: 'https://issuer.example', sub: 'ann', department } },
  })),
];

function twisted(list: readonly AccessRequest[], twists: readonly number[]): readonly AccessRequest[] {
  return list.map((request, index) => TWISTS[twists[index] ?? TWISTS.length]?.(request) ?? request);
}

/** The same rules, of whose tokens and operations one field is left: what asks for much hardly ever matches. */
function thinned(policy: PolicyInput, which: number): PolicyInput {
  const one = <T extends object>(value: T): T =>
    Object.fromEntries(Object.entries(value).filter((_, index, all) => index === which % all.length)) as T;
  const rules = policy.spec.rules.map((rule) => ({
    ...rule,
    ...(rule.when?.token === undefined ? {} : { when: { token: one(rule.when.token) } }),
    ...(rule.to === undefined
      ? {}
      : { to: rule.to.map(({ http, ...rest }) => (http === undefined ? rest : { http: one(http) })) }),
  }));
  return { ...policy, spec: { ...policy.spec, rules } };
}

/** A rule that nobody can read: its target stays what it was. */
function spoilt(policy: PolicyInput): PolicyInput {
  return { ...policy, spec: { ...policy.spec, rules: [...policy.spec.rules, { name: 'spoilt', from: [] }] } };
}

/** Asks both for every request of a world; throws where they differ. */
export function compare({ inputs, inventory, requests, defaultAction, broken }: Disputed, seen: Seen): void {
  const spoilts = new Set(
    inputs.filter((_, index) => broken[index] === true).map(({ metadata }) => metadata.name),
  );
  const given = inputs.map((policy) => (spoilts.has(policy.metadata.name) ? spoilt(policy) : policy));
  const held = (namespace: string, name: string): readonly string[] =>
    inventory.workloads.find((one) => one.namespace === namespace && one.name === name)?.spiffeIds ?? [];
  const set = compilePolicySet(given, {
    trustDomain: inventory.trustDomain,
    roles: roles(),
    defaultAction,
    identity: ({ namespace, name }) => held(namespace, name),
    namespaces: (requirements) =>
      inventory.namespaces.filter(({ labels }) => labelsMatch(requirements, labels)).map(({ name }) => name),
  });
  for (const { ref, problems } of set.policies) {
    if ((problems !== undefined) !== spoilts.has(ref.name))
      throw new Error(JSON.stringify({ ref, problems }));
  }
  const world: ReferenceWorld = {
    trustDomain: inventory.trustDomain,
    defaultAction,
    roles: roles(),
    namespaces: inventory.namespaces,
    identity: held,
    broken: spoilts,
  };
  for (const request of requests) {
    const decision = evaluate(set, request);
    const expected = referenceAnswer(given, request, world);
    seen.asked++;
    seen.by.set(expected.by, (seen.by.get(expected.by) ?? 0) + 1);
    if (decision.allowed !== expected.allowed || kindOf(decision) !== expected.by) {
      throw new Error(
        `the evaluator says ${kindOf(decision)} (${decision.reason}), the reference ${expected.by}, of ${JSON.stringify(request)}`,
      );
    }
    checkNamedRule(decision, given, request, world);
  }
}

function kindOf({ decidedBy, allowed }: Decision): ReferenceAnswer['by'] {
  switch (decidedBy.kind) {
    case 'rule':
      return allowed ? 'allow' : 'deny';
    case 'policy':
      return decidedBy.why === 'broken' ? 'deny' : 'closed';
    case 'request':
    case 'default':
      return decidedBy.kind;
  }
}

/** The rule that is said to have decided must be one that matches. */
function checkNamedRule(
  { decidedBy, allowed }: Decision,
  policies: readonly PolicyInput[],
  request: AccessRequest,
  world: ReferenceWorld,
): void {
  if (decidedBy.kind !== 'rule') return;
  const policy = policies.find(({ metadata }) => metadata.name === decidedBy.policy.name);
  const rule = policy?.spec.rules.find(({ name }) => name === decidedBy.rule);
  const truth = rule === undefined ? false : ruleMatches(rule, request, world);
  if (truth === false || (truth === undefined && allowed)) {
    throw new Error(`rule ${decidedBy.rule} of ${decidedBy.policy.name} is named, but does not match`);
  }
}
