import { labelSelectorMatches } from '../../resources/selector.js';
import type { LabelSelector, LabelSelectorRequirement } from '../../resources/meta.js';
import { type Grant, isRegistration, type ReadyIdentity } from './grants.js';
import { identityTitle } from './outcome.js';
import { processMisses } from './process.js';
import type { PodFacts, ProcessFacts } from './registration.js';

/** The longest explanation, in bytes: it travels in a gRPC status message. */
export const MAX_EXPLANATION_BYTES = 1024;
/** The identities that are told of. */
const NEAREST = 3;
/** The identities that are looked at: an explanation must not cost more than what it explains. */
const MAX_LOOKED_AT = 2000;

interface Near {
  readonly title: string;
  readonly misses: readonly string[];
}

/** Why a pod has no identity: which select it and failed, else which came nearest and what they missed. */
export function explainPod<Identity extends ReadyIdentity>(
  pod: PodFacts | undefined,
  grants: readonly Grant<Identity>[],
  inReach: Iterable<Identity>,
  selectsNamespace: (identity: Identity) => boolean,
): string {
  if (pod === undefined) return 'the pod is not known here: it is on no node, on another node, or gone';
  const name = `pod ${pod.namespace}/${pod.name} (service account ${pod.serviceAccount})`;
  const failed = grants.flatMap(({ identity, result }) =>
    isRegistration(result)
      ? []
      : [`${identityTitle(identity.rules.ref)} selects it, but: ${result.reason}: ${result.message}`],
  );
  if (failed.length > 0) return bounded(`${name}: ${failed.join('; ')}`);
  if (grants.length > 0) return bounded(`${name} has an identity`);
  const near = nearest(inReach, (identity) => podMisses(identity, pod, selectsNamespace));
  return bounded(
    `no identity selects ${name}${near === '' ? `; there is none for namespace ${pod.namespace}` : `; nearest: ${near}`}`,
  );
}

/** Why a process has no identity: the nearest process selectors and what they missed. */
export function explainProcess(facts: ProcessFacts, identities: Iterable<ReadyIdentity>): string {
  const name = `process (uid ${facts.uid}, gid ${facts.gid}, path ${facts.path ?? 'not known'})`;
  const near = nearest(identities, ({ rules, problem }) => {
    const misses = processMisses(rules.process ?? {}, facts);
    return misses.length === 0 && problem !== undefined ? [`${problem.reason}: ${problem.message}`] : misses;
  });
  return bounded(
    `no identity selects ${name}${near === '' ? '; no ClusterWorkloadIdentity has a processSelector' : `; nearest: ${near}`}`,
  );
}

function nearest<Identity extends ReadyIdentity>(
  identities: Iterable<Identity>,
  missesOf: (identity: Identity) => readonly string[],
): string {
  const near: Near[] = [];
  let looked = 0;
  for (const identity of identities) {
    if (looked++ >= MAX_LOOKED_AT) break;
    near.push({ title: identityTitle(identity.rules.ref), misses: missesOf(identity) });
    near.sort((a, b) => a.misses.length - b.misses.length || (a.title < b.title ? -1 : 1));
    if (near.length > NEAREST) near.pop();
  }
  return near
    .map(({ title, misses }) => `${title} (${misses.length === 0 ? 'matches now' : misses.join(', ')})`)
    .join('; ');
}

function podMisses<Identity extends ReadyIdentity>(
  identity: Identity,
  pod: PodFacts,
  selectsNamespace: (identity: Identity) => boolean,
): readonly string[] {
  const { serviceAccounts, podSelector } = identity.rules;
  // Its selectors say nothing then.
  if (identity.problem?.reason === 'SelectorInvalid') return [identity.problem.message];
  const misses: string[] = [];
  if (!selectsNamespace(identity))
    misses.push(`namespace ${pod.namespace} does not match its namespaceSelector`);
  if (serviceAccounts?.has(pod.serviceAccount) === false)
    misses.push(`service account is ${pod.serviceAccount}, it wants ${oneOf([...serviceAccounts])}`);
  return podSelector === undefined ? misses : [...misses, ...labelMisses(podSelector, pod.labels)];
}

function labelMisses(selector: LabelSelector, labels: Readonly<Record<string, string>>): string[] {
  const requirements: LabelSelectorRequirement[] = [
    ...Object.entries(selector.matchLabels ?? {}).map(
      ([key, value]) => ({ key, operator: 'In', values: [value] }) as const,
    ),
    ...(selector.matchExpressions ?? []),
  ];
  return requirements
    .filter((requirement) => !labelSelectorMatches({ matchExpressions: [requirement] }, labels))
    .map((requirement) => {
      const { key } = requirement;
      const seen = Object.hasOwn(labels, key)
        ? `label ${key} is "${labels[key]}"`
        : `there is no label ${key}`;
      return `${seen}, it wants ${wanted(requirement)}`;
    });
}

function wanted({ operator, values = [] }: LabelSelectorRequirement): string {
  switch (operator) {
    case 'In':
      return oneOf(values.map((value) => `"${value}"`));
    case 'NotIn':
      return `none of ${oneOf(values.map((value) => `"${value}"`))}`;
    case 'Exists':
      return 'any';
    case 'DoesNotExist':
      return 'none';
  }
}

function oneOf(values: readonly string[]): string {
  const shown = values.slice(0, 4).join(' or ');
  return values.length > 4 ? `${shown} or ${values.length - 4} more` : shown;
}

/** Cut at a whole character, never in one. */
function bounded(text: string): string {
  if (Buffer.byteLength(text) <= MAX_EXPLANATION_BYTES) return text;
  const cut = Buffer.from(text).subarray(0, MAX_EXPLANATION_BYTES - 3);
  return `${cut.toString('utf8').replace(/\uFFFD+$/u, '')}…`;
}
