import type { Inventory } from '../access/mesh/inventory.js';
import type { PolicyInput, RoleInput } from '../access/policy/input.js';
import type { LabelRequirement } from '../access/policy/model.js';
import { createPolicyCompiler, type NamedPolicy } from '../access/policy/policy-compiler.js';
import type { PolicySet } from '../access/policy/policy-set.js';
import type { IdentityName, PrincipalResolver } from '../access/policy/principals.js';
import { labelsMatch } from '../access/policy/selector.js';
import type { Registration } from '../identity/registration/registration.js';
import type { StoreChange, StoredObject, StoreReader } from '../store/store.js';
import { readInventory } from './inventory.js';
import { readRegistrations } from './registrations.js';
import type { TrustDomainSettings } from './trust-domain.js';

/** Everything that a question about access is answered from. */
export interface AccessView {
  readonly policies: PolicySet;
  readonly inventory: Inventory;
}

/** The registrations of a store, as far as access is about them. */
export interface RegistrationSource {
  all(): Iterable<Pick<Registration, 'subject' | 'identity' | 'spiffeId'>>;
}

/** The policies of a store, compiled, and the workloads that they are about. */
export function readAccessView(
  store: StoreReader,
  settings: TrustDomainSettings,
  registrations: RegistrationSource = readRegistrations(store, settings),
): AccessView {
  return createAccessReader(store, settings, registrations).view;
}

/** Which object of a store is other than before. */
export type ChangedObject = Pick<StoreChange, 'kind' | 'key'>;

/** A view that is read again in part. */
export interface AccessReader {
  readonly view: AccessView;
  /**
   * Reads what a change is about: a policy's is that policy alone, and that of a pod, an identity or a namespace leaves
   * all policies but those as they are that ask for just that. Views of before stay what they are.
   */
  update(changes: readonly ChangedObject[]): AccessView;
}

const POLICIES: readonly string[] = ['AccessPolicy', 'ClusterAccessPolicy'];

/** Reads a view of a store, to read again later what has changed of it. */
export function createAccessReader(
  store: StoreReader,
  settings: TrustDomainSettings,
  registrations: RegistrationSource,
): AccessReader {
  const world = readWorld(store, settings, registrations);
  let { inventory } = world;
  const roles = (): readonly RoleInput[] => store.list('AccessRole') as unknown as readonly RoleInput[];
  const compiler = createPolicyCompiler(
    POLICIES.flatMap((kind) => store.list(kind).map((object) => named(kind, keyOf(object), object))),
    { ...world.resolver, roles: roles(), defaultAction: settings.defaultAction },
  );
  return {
    get view() {
      return { inventory, policies: compiler.set };
    },
    update(changes) {
      const other = changes.some((change) => changesWorld(change, store))
        ? readWorld(store, settings, registrations)
        : undefined;
      const policies = changes
        .filter(({ kind }) => POLICIES.includes(kind))
        .map(({ kind, key }) => named(kind, key, store.get(kind, key)));
      compiler.update({
        policies,
        ...(changes.some(({ kind }) => kind === 'AccessRole') ? { roles: roles() } : {}),
        ...(other === undefined ? {} : { resolver: other.resolver }),
      });
      // Pods come and go oftener than workloads do.
      if (other !== undefined && !isSame(other.inventory, inventory)) inventory = other.inventory;
      return { inventory, policies: compiler.set };
    },
  };
}

function named(kind: string, key: string, object: StoredObject | undefined): NamedPolicy {
  return { key: `${kind}/${key}`, input: object as unknown as PolicyInput | undefined };
}

/** As the store calls an object. */
function keyOf({ metadata }: StoredObject): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
}

/** Whether a change may be one of what policies are about; a policy's is where nothing else says that there is its namespace. */
function changesWorld({ kind, key }: ChangedObject, store: StoreReader): boolean {
  if (kind !== 'AccessPolicy') return kind !== 'ClusterAccessPolicy' && kind !== 'AccessRole';
  const slash = key.indexOf('/');
  return slash < 0 || store.get('Namespace', key.slice(0, slash)) === undefined;
}

/** Whether all that is said is the same; what is asked of an inventory follows from that. */
function isSame(a: Inventory, b: Inventory): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

interface World {
  readonly inventory: Inventory;
  readonly resolver: PrincipalResolver;
}

/** What policies are about. */
function readWorld(
  store: StoreReader,
  settings: TrustDomainSettings,
  registrations: RegistrationSource,
): World {
  const { byPod, byIdentity } = indexRegistrations(registrations);
  const inventory = readInventory(store, {
    trustDomain: settings.name,
    spiffeIds: (uid) => [...(byPod.get(uid) ?? [])],
  });
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
  return { inventory, resolver };
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
