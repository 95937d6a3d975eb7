import { containerIdOf, containerMisses, shortContainerId } from './containers.js';
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

/**
 * Why a caller in this container gets none of what its pod has; undefined when the pod has nothing, or something for all of
 * it. Without a container: why whoever cannot be seen to be in one does not.
 */
export function explainContainer<Identity extends ReadyIdentity>(
  pod: PodFacts,
  grants: readonly Grant<Identity>[],
  container: string | undefined,
): string | undefined {
  const given = grants.filter(({ result }) => isRegistration(result));
  if (given.length === 0) return undefined;
  if (given.some(({ result }) => isRegistration(result) && result.containers === undefined)) return undefined;
  const titles = given.map(({ identity }) => identityTitle(identity.rules.ref)).join(' and ');
  const name = `pod ${pod.namespace}/${pod.name}`;
  if (container === undefined)
    return bounded(
      `${titles} is for containers of ${name} by themselves; it is given on the shared socket of the node alone, where the kernel tells containers apart`,
    );
  const id = shortContainerId(container);
  const facts = pod.containers?.find((one) => containerIdOf(one) === id);
  if (facts === undefined) return bounded(`the status of ${name} does not tell of this container yet`);
  const misses = given.map(({ identity: { rules } }) => {
    const missed = rules.containers === undefined ? [] : containerMisses(rules.containers, facts);
    return `${identityTitle(rules.ref)} (${missed.length === 0 ? 'selects it now' : missed.join(', ')})`;
  });
  return bounded(`no identity selects container ${facts.name} of ${name}: ${misses.join('; ')}`);
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
  if (identity.rules.staticPods !== (pod.staticUid !== undefined))
    misses.push(
      identity.rules.staticPods ? 'it is for static pods' : 'it is not for static pods, as this is one',
    );
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
