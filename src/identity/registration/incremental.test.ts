import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { aClusterWorkloadIdentity, aPod, aWorkloadIdentity } from '../../../test/support/identities.js';
import type { ClusterWorkloadIdentitySpec, WorkloadIdentitySpec } from '../../resources/identity.js';
import type { IdentityResource } from './identity-rules.js';
import { identityKey, type RegistrationDelta } from './outcome.js';
import { createRegistrationIndex, type RegistrationIndex } from './registration-index.js';
import type { IdentityRef, PodFacts, Registration } from './registration.js';

/*
 * The index against a reading of the rules that knows nothing of indexes: every pod against every identity, anew.
 * Few names and labels, so that selections, collisions and fallbacks meet all the time.
 */

type Labels = Readonly<Record<string, string>>;
interface World {
  readonly pods: Map<string, PodFacts>;
  readonly identities: Map<string, IdentityResource>;
  readonly namespaces: Map<string, Labels>;
}

interface Given {
  readonly id: string;
  readonly path: string;
  readonly hint: string;
  readonly nodeName: string;
  readonly ttl: number;
}
/** One pod × one identity: a registration, or the reason for none. */
type Verdict = { readonly key: string; readonly pod: string; readonly is: Given | string };

function refOf({ kind, metadata }: IdentityResource): IdentityRef {
  return { kind, namespace: metadata.namespace ?? '', name: metadata.name };
}

function labelsMatch(selector: WorkloadIdentitySpec['podSelector'], labels: Labels): boolean {
  const pairs = Object.entries(selector?.matchLabels ?? {});
  const expressions = selector?.matchExpressions ?? [];
  return (
    pairs.every(([key, value]) => labels[key] === value) &&
    expressions.every(({ key, operator }) => (operator === 'Exists') === (labels[key] !== undefined))
  );
}

function selects(identity: IdentityResource, pod: PodFacts, world: World): boolean {
  const { spec } = identity;
  if (spec.serviceAccountNames !== undefined && !spec.serviceAccountNames.includes(pod.serviceAccount))
    return false;
  if (!labelsMatch(spec.podSelector, pod.labels)) return false;
  if (identity.kind === 'WorkloadIdentity') return identity.metadata.namespace === pod.namespace;
  const { namespaceSelector, processSelector } = identity.spec;
  if (processSelector !== undefined) return false;
  if (namespaceSelector === undefined) return true;
  const labels = world.namespaces.get(pod.namespace);
  if (labels !== undefined) return labelsMatch(namespaceSelector, labels);
  const denies =
    namespaceSelector.matchExpressions?.some(({ operator }) => operator === 'DoesNotExist') === true;
  return !denies && labelsMatch(namespaceSelector, {});
}

function naivePod(pod: PodFacts, world: World): Verdict[] {
  const selecting = [...world.identities.values()]
    .filter((identity) => selects(identity, pod, world))
    .sort((a, b) => {
      const rank = (identity: IdentityResource): string =>
        `${identity.kind === 'WorkloadIdentity' ? 0 : 1} ${identity.metadata.name}`;
      return rank(a) < rank(b) ? -1 : 1;
    });
  const isFallback = (identity: IdentityResource): boolean =>
    identity.kind === 'ClusterWorkloadIdentity' && identity.spec.fallback === true;
  const usual = selecting.filter((identity) => !isFallback(identity));
  const given: Given[] = [];
  return (usual.length > 0 ? usual : selecting).map((identity) => {
    const is = invalid(identity) ?? unmet(identity, pod) ?? naiveOne(identity, pod, given);
    if (typeof is !== 'string') given.push(is);
    return { key: identityKey(refOf(identity)), pod: `${pod.namespace}/${pod.name}`, is };
  });
}

/** What is wrong with the identity whatever the pod. */
function invalid({ kind, metadata, spec }: IdentityResource): string | undefined {
  if (spec.spiffeIDTemplate?.includes('..') === true) return 'SpiffeIdInvalid';
  const escapes =
    kind === 'WorkloadIdentity' && metadata.namespace !== 'b' && spec.spiffeIDTemplate === '/ns/b/fixed';
  return escapes ? 'NamespaceEscape' : undefined;
}

function unmet({ spec }: IdentityResource, pod: PodFacts): string | undefined {
  if (pod.nodeName === '') return 'PodNotBound';
  return spec.requirements?.noPrivileged === true && pod.privileged ? 'PrivilegedContainer' : undefined;
}

function naiveOne(
  { metadata, spec }: IdentityResource,
  pod: PodFacts,
  given: readonly Given[],
): Given | string {
  const path = (spec.spiffeIDTemplate ?? '/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}')
    .replace('{{ .Namespace }}', pod.namespace)
    .replace('{{ .ServiceAccount }}', pod.serviceAccount)
    .replace('{{ .Labels.app }}', pod.labels['app'] ?? '?');
  if (path.includes('?')) return 'TemplateValueMissing';
  if (given.some((other) => other.path === path)) return 'DuplicateSPIFFEID';
  const hint = spec.hint ?? '';
  if (hint !== '' && given.some((other) => other.hint === hint)) return 'HintConflict';
  const id = [pod.uid, ...(metadata.namespace === undefined ? [] : [metadata.namespace]), metadata.name].join(
    '/',
  );
  return { id, path, hint, nodeName: pod.nodeName, ttl: spec.x509TTL === undefined ? 3600 : 60 };
}

function naive(world: World): Verdict[] {
  return [...world.pods.values()].flatMap((pod) => naivePod(pod, world));
}

const namespace = fc.constantFrom('a', 'b');
const account = fc.constantFrom('x', 'y');
const app = fc.constantFrom('one', 'two');
const labels = fc.record({ app, tier: fc.constantFrom('gold', 'iron') }, { requiredKeys: [] });
const selector = fc.oneof(
  fc.constant({}),
  app.map((value) => ({ matchLabels: { app: value } })),
  fc.constantFrom('Exists' as const, 'DoesNotExist' as const).map((operator) => ({
    matchExpressions: [{ key: 'tier', operator }],
  })),
);
const template = {
  spiffeIDTemplate: fc.constantFrom(
    '/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}',
    '/ns/{{ .Namespace }}/app/{{ .Labels.app }}',
    '/ns/b/fixed',
    '/ns/{{ .Namespace }}/../up',
  ),
  hint: fc.constantFrom('h1', 'h2'),
  x509TTL: fc.constant('1m'),
  requirements: fc.constant({ noPrivileged: true }),
  podSelector: selector,
  serviceAccountNames: fc.uniqueArray(account),
};
const pod: fc.Arbitrary<PodFacts> = fc
  .record({
    namespace,
    name: fc.constantFrom('p1', 'p2', 'p3'),
    serviceAccount: account,
    labels: labels,
    nodeName: fc.constantFrom('', 'n1', 'n1', 'n2'),
    privileged: fc.boolean(),
  })
  .map(aPod);
const workloadIdentity = fc
  .tuple(
    fc.constantFrom('i1', 'i2', 'i3'),
    namespace,
    fc.record(template, { requiredKeys: [] }) as fc.Arbitrary<WorkloadIdentitySpec>,
  )
  .map(([name, of, spec]) => aWorkloadIdentity(name, spec, of));
const clusterIdentity = fc
  .tuple(
    fc.constantFrom('i1', 'c2', 'c3'),
    fc.oneof(
      fc.record(
        { ...template, namespaceSelector: selector, fallback: fc.boolean() },
        { requiredKeys: [] },
      ) as fc.Arbitrary<ClusterWorkloadIdentitySpec>,
      fc.constant<ClusterWorkloadIdentitySpec>({ processSelector: { uid: 1 }, spiffeIDTemplate: '/host' }),
    ),
  )
  .map(([name, spec]) => aClusterWorkloadIdentity(name, spec));

type Operation =
  | { readonly do: 'pod'; readonly pod: PodFacts }
  | { readonly do: 'identity'; readonly identity: IdentityResource }
  | { readonly do: 'namespace'; readonly name: string; readonly labels: Labels }
  | { readonly do: 'removePod'; readonly pod: PodFacts }
  | { readonly do: 'removeIdentity'; readonly identity: IdentityResource }
  | { readonly do: 'removeNamespace'; readonly name: string };

const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 4, arbitrary: pod.map((value) => ({ do: 'pod', pod: value }) as const) },
  {
    weight: 4,
    arbitrary: fc
      .oneof(workloadIdentity, clusterIdentity)
      .map((identity) => ({ do: 'identity', identity }) as const),
  },
  fc
    .tuple(namespace, labels as fc.Arbitrary<Labels>)
    .map(([name, of]) => ({ do: 'namespace', name, labels: of }) as const),
  pod.map((value) => ({ do: 'removePod', pod: value }) as const),
  fc
    .oneof(workloadIdentity, clusterIdentity)
    .map((identity) => ({ do: 'removeIdentity', identity }) as const),
  namespace.map((name) => ({ do: 'removeNamespace', name }) as const),
);

function apply(index: RegistrationIndex, world: World, step: Operation): RegistrationDelta {
  switch (step.do) {
    case 'pod':
      world.pods.set(step.pod.uid, step.pod);
      return index.applyPod(step.pod);
    case 'removePod':
      world.pods.delete(step.pod.uid);
      return index.removePod(step.pod.uid);
    case 'identity':
      world.identities.set(identityKey(refOf(step.identity)), step.identity);
      return index.applyIdentity(step.identity);
    case 'removeIdentity':
      world.identities.delete(identityKey(refOf(step.identity)));
      return index.removeIdentity(refOf(step.identity));
    case 'namespace':
      world.namespaces.set(step.name, step.labels);
      return index.applyNamespace(step.name, step.labels);
    case 'removeNamespace':
      world.namespaces.delete(step.name);
      return index.removeNamespace(step.name);
  }
}

const brief = ({ id, spiffeId, hint, nodeName, x509TtlSeconds }: Registration): Given => ({
  id,
  path: spiffeId.path,
  hint,
  nodeName,
  ttl: x509TtlSeconds,
});
const byId = <T extends { readonly id: string }>(list: readonly T[]): T[] =>
  list.toSorted((a, b) => (a.id < b.id ? -1 : 1));

/** What the index says of every identity, in the words of the naive reading. */
function outcomes(index: RegistrationIndex, world: World): object {
  return Object.fromEntries(
    [...world.identities].map(([key, identity]) => {
      const outcome = index.outcome(refOf(identity));
      return [
        key,
        {
          selected: outcome?.podsSelected,
          pending: outcome?.pending,
          registrations: outcome?.registrations,
          problem: outcome?.problem?.reason,
          failures: outcome?.failures.map(({ pod: name, reason }) => `${name} ${reason}`),
        },
      ];
    }),
  );
}

function naiveOutcomes(verdicts: readonly Verdict[], world: World): object {
  return Object.fromEntries(
    [...world.identities].map(([key, identity]) => {
      const own = verdicts.filter((verdict) => verdict.key === key);
      const problem = invalid(identity);
      const process =
        identity.kind === 'ClusterWorkloadIdentity' && identity.spec.processSelector !== undefined;
      return [
        key,
        {
          selected: own.length,
          pending: own.filter(({ is }) => is === 'PodNotBound').length,
          registrations: process ? 1 : own.filter(({ is }) => typeof is !== 'string').length,
          problem,
          failures: own
            .flatMap(({ pod: name, is }) =>
              typeof is !== 'string' || is === 'PodNotBound' || is === problem ? [] : [`${name} ${is}`],
            )
            .sort(),
        },
      ];
    }),
  );
}

describe('the incremental index', () => {
  it('equals a full recomputation after any operations, and its deltas lead from one state to the next', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (steps) => {
        const index = createRegistrationIndex({
          trustDomain: 'example.org',
          defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
        });
        const world: World = { pods: new Map(), identities: new Map(), namespaces: new Map() };
        /** A reader per node that saw nothing but deltas. */
        const seen = new Map<string, Registration>();
        let before = outcomes(index, world) as Record<string, unknown>;
        for (const step of steps) {
          const delta = apply(index, world, step);
          for (const { nodeName, id } of delta.removed) expect(seen.delete(`${nodeName} ${id}`)).toBe(true);
          for (const registration of delta.changed)
            seen.set(`${registration.nodeName} ${registration.id}`, registration);

          const verdicts = naive(world);
          const wanted = byId(verdicts.flatMap(({ is }) => (typeof is === 'string' ? [] : [is])));
          const all = [...index.all()];
          expect(byId(all.filter(({ subject }) => subject.kind === 'pod').map(brief))).toEqual(wanted);
          expect(byId([...seen.values()])).toEqual(byId(all));
          for (const registration of all) expect(index.get(registration.id)).toBe(registration);
          for (const node of ['n1', 'n2', 'n3']) {
            expect(byId(index.forNode(node))).toEqual(
              byId(all.filter(({ nodeName }) => nodeName === node || nodeName === '')),
            );
          }
          const after = outcomes(index, world) as Record<string, unknown>;
          expect(after).toEqual(naiveOutcomes(verdicts, world));
          // Whoever rewrites only the statuses that a delta names misses none.
          const told = new Set(delta.outcomes.map(identityKey));
          for (const [key, outcome] of Object.entries(after))
            if (!told.has(key)) expect([key, outcome]).toEqual([key, before[key]]);
          before = after;
        }
      }),
      { numRuns: 300 },
    );
  });
});
