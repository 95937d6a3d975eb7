/** Random `when` parts of rules, in the world of policies.ts. */
import fc from 'fast-check';
import type { AttributeInput, ClaimInput, TokenInput, WhenInput } from '../../src/access/policy/input.js';

export type ConditionKind = keyof WhenInput;

/** Issuers, subjects and the like of the tokens of this world. */
export const TOKENS = {
  issuers: ['https://issuer.example', 'https://other.example'],
  audiences: ['api', 'web'],
  subjects: ['ann', 'bob'],
  departments: ['eng', 'law'],
  roles: ['reader', 'writer', 'one', 'two'],
  methods: ['pwd', 'mfa'],
  classes: ['bronze', 'gold'],
} as const;

const pick = <T>(items: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...items);
const few = <T>(items: readonly T[]): fc.Arbitrary<readonly T[]> =>
  fc.uniqueArray(pick(items), { minLength: 1, maxLength: 2 });

const claim: fc.Arbitrary<ClaimInput> = fc.oneof(
  fc.record({
    claim: pick(['department', 'roles', '/realm/roles']),
    operator: pick(['In', 'NotIn', 'ContainsAll']),
    values: few([...TOKENS.departments, ...TOKENS.roles]),
  }),
  fc.record({ claim: fc.constant('level'), values: few(['1', '2', 'true']) }),
  fc.record({
    claim: pick(['department', 'level', '/realm/roles']),
    operator: pick(['Exists', 'DoesNotExist']),
  }),
);

const token: fc.Arbitrary<TokenInput> = fc.record(
  {
    issuers: few(TOKENS.issuers),
    audiences: few(TOKENS.audiences),
    subjects: few(TOKENS.subjects),
    claims: fc.array(claim, { minLength: 1, maxLength: 2 }),
    amr: few(TOKENS.methods),
    acr: few(TOKENS.classes),
    maxAuthAge: pick(['5m', '1h']),
  },
  { requiredKeys: [] },
);

const window = fc.record(
  {
    days: few(['Mon', 'Tue', 'Wed', 'Thu', 'Sun']),
    from: pick(['09:00', '22:00']),
    until: pick(['11:00', '17:00', '24:00', '06:00']),
    timeZone: pick(['UTC', 'Europe/Berlin', 'America/New_York']),
  },
  { requiredKeys: ['from', 'until', 'timeZone'] },
);

const labels = fc.oneof(
  pick(['one', 'two']).map((app) => ({ matchLabels: { app } })),
  pick(['Exists', 'DoesNotExist']).map((operator) => ({ matchExpressions: [{ key: 'version', operator }] })),
  pick(['one', 'two']).map((app) => ({
    matchExpressions: [{ key: 'app', operator: 'NotIn', values: [app] }],
  })),
);

/** Attributes of network requests and of applications alike; some are often missing. */
const ATTRIBUTES = ['subject.department', 'resource.owner', 'action.name', 'environment.risk'] as const;

const attribute: fc.Arbitrary<AttributeInput> = fc.oneof(
  fc.record({
    attribute: pick([...ATTRIBUTES, 'subject.realm.roles']),
    operator: pick(['In', 'NotIn']),
    values: few(['eng', 'law', 'ann', 'read', 'GET', 'reader', '3']),
  }),
  fc.record({ attribute: pick(ATTRIBUTES), operator: pick(['Exists', 'DoesNotExist']) }),
  fc.record({
    attribute: pick(['resource.owner', 'subject.department']),
    operator: pick(['Equals', 'NotEquals']),
    other: pick(['subject.id', 'resource.department']),
  }),
  fc.record({
    attribute: pick(['environment.risk', 'subject.level']),
    operator: pick(['GreaterThan', 'AtLeast', 'LessThan', 'AtMost']),
    values: pick(['2', '10', '2.50']).map((value) => [value]),
  }),
);

/** Expressions that a reader can evaluate by hand; see reference evaluators. */
export const CEL_TEXTS = [
  'subject.department == "eng"',
  'resource.owner == subject.id',
  'action.name in ["read", "GET"]',
  'has(subject.department) && subject.department != "law"',
] as const;

const CONDITIONS: { readonly [K in ConditionKind]-?: fc.Arbitrary<NonNullable<WhenInput[K]>> } = {
  token,
  during: fc.array(window, { minLength: 1, maxLength: 2 }),
  outside: fc.array(window, { minLength: 1, maxLength: 2 }),
  sourceLabels: labels,
  targetLabels: labels,
  sourcePosture: fc.record(
    {
      imageDigests: fc.constant(true),
      allowedImages: few(['registry.example/good', 'registry.example:5000']),
      noPrivileged: fc.constant(true),
    },
    { requiredKeys: [] },
  ),
  attributes: fc.array(attribute, { minLength: 1, maxLength: 2 }),
  cel: pick(CEL_TEXTS),
};

/** One or two kinds of condition, of those that may occur. */
export function conditions(kinds: readonly ConditionKind[]): fc.Arbitrary<WhenInput> {
  if (kinds.length === 0) return fc.constant({});
  return fc
    .uniqueArray(pick(kinds), { minLength: 1, maxLength: 2 })
    .chain((chosen): fc.Arbitrary<WhenInput> =>
      fc.record(
        Object.fromEntries(chosen.map((kind) => [kind, CONDITIONS[kind]])) as Record<
          string,
          fc.Arbitrary<never>
        >,
      ),
    );
}
