import type { Inventory } from '../access/mesh/inventory.js';
import type { PolicyInput, RoleInput } from '../access/policy/input.js';
import type { LabelRequirement } from '../access/policy/model.js';
import { compilePolicySet, type PolicySet } from '../access/policy/policy-set.js';
import type { IdentityName, PrincipalResolver } from '../access/policy/principals.js';
import { labelsMatch } from '../access/policy/selector.js';
import type { IdentityResource } from '../identity/registration/identity-rules.js';
import { createRegistrationIndex } from '../identity/registration/registration-index.js';
import type { Registration } from '../identity/registration/registration.js';
import type { Store } from '../store/store.js';
import { readInventory } from './inventory.js';
import { podFacts } from './pod-facts.js';
import type { TrustDomainSettings } from './trust-domain.js';

/** Everything that a question about access is answered from. */
export interface AccessView {
  readonly policies: PolicySet;
  readonly inventory: Inventory;
}

/** The registrations of a store, as far as access is about them. */
export interface RegistrationSource {
  all(): Iterable<Registration>;
}

/** The policies of a store, compiled, and the workloads that they are about. */
export function readAccessView(
  store: Store,
  settings: TrustDomainSettings,
  registrations: RegistrationSource = computeRegistrations(store, settings),
): AccessView {
  const { byPod, byIdentity } = indexRegistrations(registrations);
  const inventory = readInventory(store, {
    trustDomain: settings.name,
    spiffeIds: (uid) => [...(byPod.get(uid) ?? [])],
  });
  return { inventory, policies: readPolicies(store, settings, inventory, byIdentity) };
}

function readPolicies(
  store: Store,
  settings: TrustDomainSettings,
  inventory: Inventory,
  byIdentity: ReadonlyMap<string, ReadonlySet<string>>,
): PolicySet {
  const resolver: PrincipalResolver = {
    trustDomain: settings.name,
    identity(ref) {
      const key = ref.namespace === '' ? ref.name : `${ref.namespace}/${ref.name}`;
      if (store.get(ref.kind, key) === undefined) return undefined;
      return [...(byIdentity.get(identityKey(ref)) ?? [])].sort();
    },
    namespaces: (requirements: readonly LabelRequirement[]) =>
      inventory.namespaces.filter(({ labels }) => labelsMatch(requirements, labels)).map(({ name }) => name),
  };
  const inputs = ['AccessPolicy', 'ClusterAccessPolicy'].flatMap(
    (kind) => store.list(kind) as unknown as readonly PolicyInput[],
  );
  const roles = store.list('AccessRole') as unknown as readonly RoleInput[];
  return compilePolicySet(inputs, { ...resolver, roles, defaultAction: settings.defaultAction });
}

function indexRegistrations(registrations: RegistrationSource): {
  readonly byPod: ReadonlyMap<string, ReadonlySet<string>>;
  readonly byIdentity: ReadonlyMap<string, ReadonlySet<string>>;
} {
  const byPod = new Map<string, Set<string>>();
  const byIdentity = new Map<string, Set<string>>();
  const add = (map: Map<string, Set<string>>, key: string, uri: string): void => {
    const known = map.get(key);
    if (known === undefined) map.set(key, new Set([uri]));
    else known.add(uri);
  };
  for (const { subject, identity, spiffeId } of registrations.all()) {
    if (subject.kind === 'pod') add(byPod, subject.uid, spiffeId.uri);
    add(byIdentity, identityKey(identity), spiffeId.uri);
  }
  return { byPod, byIdentity };
}

const identityKey = ({ kind, namespace, name }: IdentityName): string => `${kind} ${namespace}/${name}`;

/** Who gets which identity, worked out anew: for those who have no server that keeps it. */
function computeRegistrations(store: Store, settings: TrustDomainSettings): RegistrationSource {
  const index = createRegistrationIndex({
    trustDomain: settings.name,
    defaults: { x509TtlSeconds: settings.ttlSeconds.x509Svid, jwtTtlSeconds: settings.ttlSeconds.jwtSvid },
    maxX509TtlSeconds: settings.ttlSeconds.authority,
  });
  // Selectors before pods, so that each pod is computed once.
  for (const { metadata } of store.list('Namespace'))
    index.applyNamespace(metadata.name, metadata.labels ?? {});
  for (const kind of ['WorkloadIdentity', 'ClusterWorkloadIdentity'])
    for (const object of store.list(kind)) index.applyIdentity(object as unknown as IdentityResource);
  for (const object of store.list('Pod')) {
    const facts = podFacts(object);
    if (facts !== undefined) index.applyPod(facts);
  }
  return index;
}
