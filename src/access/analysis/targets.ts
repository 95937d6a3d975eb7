import type { InventoryContent } from '../mesh/inventory.js';
import type { LabelRequirement, Policy, TargetWorkload } from '../policy/model.js';
import type { PolicySet } from '../policy/policy-set.js';
import { labelsMatch } from '../policy/selector.js';
import { fingerprint, fingerprintAll } from './fingerprint.js';
import { fresh } from './space.js';

/** What there is, and so what a policy may select besides what may come. */
export type Universe = Pick<InventoryContent, 'namespaces' | 'workloads'>;

/** Workloads to which two sets of policies say the same things, with one of them. */
export interface TargetClass {
  readonly target: TargetWorkload;
  /** Those that exist, `namespace/name`; none for workloads that might come. */
  readonly workloads: readonly string[];
  readonly before: readonly Policy[];
  readonly after: readonly Policy[];
}

export interface TargetClasses {
  readonly classes: readonly TargetClass[];
  /** Namespaces whose selectors combine in too many ways for workloads that might come. */
  readonly incomplete: readonly string[];
}

/** Combinations of selectors per namespace that are looked at for workloads that might come. */
const MAX_COMBINATIONS = 2000;

/**
 * Every way in which policies of two sets may come together on a workload where they are not the same: on the workloads
 * that exist, and on those that a namespace, a service account and labels could make.
 */
export function differingTargets(before: PolicySet, after: PolicySet, universe: Universe): TargetClasses {
  const found = new Map<string, TargetClass>();
  const keep = (target: TargetWorkload, name: string | undefined, sides: Sides): void => {
    const [b, a] = sides;
    const texts = [fingerprintAll(b), fingerprintAll(a)];
    if (texts[0] === texts[1] && before.defaultAction === after.defaultAction) return;
    const key = JSON.stringify([texts, labelOutcomes([...b, ...a], target)]);
    const known = found.get(key);
    if (known === undefined) {
      found.set(key, { target, workloads: name === undefined ? [] : [name], before: b, after: a });
    } else if (name !== undefined) {
      found.set(key, { ...known, workloads: [...known.workloads, name] });
    }
  };
  for (const workload of universe.workloads) {
    const sides: Sides = [enforced(before, workload), enforced(after, workload)];
    keep(workload, `${workload.namespace}/${workload.name}`, sides);
  }
  const incomplete: string[] = [];
  const sameDefault = before.defaultAction === after.defaultAction;
  for (const namespace of namespacesOf([...before.policies, ...after.policies], universe)) {
    const sides: Sides = [
      inNamespace(before.policies, namespace.name),
      inNamespace(after.policies, namespace.name),
    ];
    const complete = explore(namespace, sides, sameDefault, (target, both) => keep(target, undefined, both));
    if (!complete) incomplete.push(namespace.name);
  }
  return { classes: [...found.values()], incomplete };
}

type Sides = readonly [before: readonly Policy[], after: readonly Policy[]];

function enforced(set: PolicySet, workload: TargetWorkload): readonly Policy[] {
  return set.concerning(workload).filter(({ mode }) => mode === 'Enforce');
}

interface NamespaceKind {
  readonly name: string;
  /** Absent where the labels are not known, so that any may come. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** Namespaces that exist, that are named, and one more. */
function namespacesOf(policies: readonly Policy[], universe: Universe): readonly NamespaceKind[] {
  const known = new Map<string, NamespaceKind>(universe.namespaces.map((one) => [one.name, one]));
  for (const { namespace, namespaceLabels } of universe.workloads) {
    if (!known.has(namespace)) known.set(namespace, { name: namespace, labels: namespaceLabels });
  }
  for (const { target } of policies) {
    for (const name of target.namespaceNames ?? []) if (!known.has(name)) known.set(name, { name });
  }
  return [...known.values(), { name: fresh('other-namespace', known) }];
}

function inNamespace(policies: readonly Policy[], name: string): readonly Policy[] {
  return policies.filter(
    ({ mode, target }) => mode === 'Enforce' && target.namespaceNames?.includes(name) !== false,
  );
}

/** What is known of a workload so far: `n` of its namespace's labels, `p` of its own, `sa` its account. */
type Known = ReadonlyMap<string, string | undefined>;

interface Question {
  /** `n` and the label's key, `p` and the label's key, or `sa`. */
  readonly about: string;
  readonly values: readonly string[];
  readonly holds: (value: string | undefined) => boolean;
}

/** Asks what tells the policies apart, until they are the same on both sides or nothing is left to ask. */
function explore(
  namespace: NamespaceKind,
  sides: Sides,
  sameDefault: boolean,
  keep: (target: TargetWorkload, sides: Sides) => void,
): boolean {
  let left = MAX_COMBINATIONS;
  const walk = (known: Known, [before, after]: Sides): void => {
    if (left <= 0) return;
    const both: Sides = [
      before.filter((one) => mayStillBe(one, known)),
      after.filter((one) => mayStillBe(one, known)),
    ];
    if (sameDefault && fingerprintAll(both[0]) === fingerprintAll(both[1])) return;
    const about = nextQuestion(both, known);
    if (about === undefined) {
      left--;
      keep(workloadOf(namespace.name, known, namespace.labels), both);
      return;
    }
    const asked = [...both[0], ...both[1]].flatMap(questions).filter((question) => question.about === about);
    const values = new Set(asked.flatMap((question) => question.values));
    const options = [...values, fresh('other', values), ...(about === 'sa' ? [] : [undefined])];
    for (const value of options) walk(new Map([...known, [about, value]]), both);
  };
  const start = new Map<string, string | undefined>();
  if (namespace.labels === undefined) {
    walk(start, sides);
  } else {
    const { labels } = namespace;
    const here = (list: readonly Policy[]): readonly Policy[] =>
      list.filter(({ target }) => labelsMatch(target.namespaces, labels));
    for (const { about } of [...sides[0], ...sides[1]].flatMap(questions)) {
      if (about.startsWith('n'))
        start.set(about, Object.hasOwn(labels, about.slice(1)) ? labels[about.slice(1)] : undefined);
    }
    walk(start, [here(sides[0]), here(sides[1])]);
  }
  return left > 0;
}

const asked = new WeakMap<
  Policy,
  { readonly select: readonly Question[]; readonly all: readonly Question[] }
>();

function questionsOf(policy: Policy): {
  readonly select: readonly Question[];
  readonly all: readonly Question[];
} {
  let known = asked.get(policy);
  if (known === undefined) {
    const { namespaces, pods, serviceAccounts } = policy.target;
    const select = [
      ...namespaces.map((requirement) => labelQuestion('n', requirement)),
      ...(serviceAccounts === undefined
        ? []
        : [
            {
              about: 'sa',
              values: serviceAccounts,
              holds: (value: string | undefined) => value !== undefined && serviceAccounts.includes(value),
            },
          ]),
      ...pods.map((requirement) => labelQuestion('p', requirement)),
    ];
    const conditions = policy.rules.flatMap(({ when }) => when?.targetLabels ?? []);
    known = { select, all: [...select, ...conditions.map((one) => labelQuestion('p', one))] };
    asked.set(policy, known);
  }
  return known;
}

function questions(policy: Policy): readonly Question[] {
  return questionsOf(policy).all;
}

function labelQuestion(scope: 'n' | 'p', requirement: LabelRequirement): Question {
  return {
    about: `${scope}${requirement.key}`,
    values: 'values' in requirement ? [...requirement.values] : [],
    holds: (value) => labelsMatch([requirement], value === undefined ? {} : { [requirement.key]: value }),
  };
}

function mayStillBe(policy: Policy, known: Known): boolean {
  return questionsOf(policy).select.every(({ about, holds }) => !known.has(about) || holds(known.get(about)));
}

/** First what the policies ask that are not on both sides: once they are out, nothing else matters. */
function nextQuestion([before, after]: Sides, known: Known): string | undefined {
  const texts = [new Set(before.map(fingerprint)), new Set(after.map(fingerprint))] as const;
  const differing = [
    ...before.filter((policy) => !texts[1].has(fingerprint(policy))),
    ...after.filter((policy) => !texts[0].has(fingerprint(policy))),
  ];
  for (const policy of [...differing, ...before, ...after]) {
    const open = questions(policy).find(({ about }) => !known.has(about));
    if (open !== undefined) return open.about;
  }
  return undefined;
}

function workloadOf(
  namespace: string,
  known: Known,
  namespaceLabels: Readonly<Record<string, string>> | undefined,
): TargetWorkload {
  const labels = (scope: string): Record<string, string> =>
    Object.fromEntries(
      [...known].flatMap(([about, value]): readonly [string, string][] =>
        about.startsWith(scope) && value !== undefined ? [[about.slice(1), value]] : [],
      ),
    );
  const account = known.get('sa');
  const pods = new Map([...known].filter(([about]) => about.startsWith('p')));
  const own = labels('p');
  const words = [...pods.keys()].map((about) => `${about.slice(1)}=${own[about.slice(1)] ?? '(none)'}`);
  return {
    namespace,
    name: words.length === 0 ? 'any workload' : `any workload with ${words.join(', ')}`,
    serviceAccount: account ?? 'other',
    labels: own,
    namespaceLabels: namespaceLabels ?? labels('n'),
  };
}

/** Which rules that ask for the target's labels hold: targets where they differ are not alike. */
function labelOutcomes(policies: readonly Policy[], target: TargetWorkload): readonly string[] {
  const outcomes = policies.flatMap((policy) => {
    const asked = policy.rules.flatMap(({ when }) =>
      when?.targetLabels === undefined ? [] : [when.targetLabels],
    );
    if (asked.length === 0) return [];
    const held = asked.map((requirements) => labelsMatch(requirements, target.labels));
    return [`${fingerprint(policy)} ${held.join()}`];
  });
  return [...new Set(outcomes)].sort();
}
