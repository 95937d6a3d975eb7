import type { Inventory } from '../access/mesh/inventory.js';
import type { PolicyInput, RoleInput } from '../access/policy/input.js';
import { createPolicyCompiler, type NamedPolicy } from '../access/policy/policy-compiler.js';
import type { PolicySet } from '../access/policy/policy-set.js';
import type { StoredObject, StoreReader } from '../store/store.js';
import { readRegistrations } from './registrations.js';
import type { TrustDomainSettings } from './trust-domain.js';
import { World, type ChangedObject, type RegistrationSource } from './world.js';

export type { ChangedObject, RegistrationSource };

/** Everything that a question about access is answered from. */
export interface AccessView {
  readonly policies: PolicySet;
  readonly inventory: Inventory;
}

/** The policies of a store, compiled, and the workloads that they are about. */
export function readAccessView(
  store: StoreReader,
  settings: TrustDomainSettings,
  registrations: RegistrationSource = readRegistrations(store, settings),
): AccessView {
  return createAccessReader(store, settings, registrations).view;
}

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
  const world = new World(store, settings.name, registrations);
  const roles = (): readonly RoleInput[] => store.list('AccessRole') as unknown as readonly RoleInput[];
  const compiler = createPolicyCompiler(
    POLICIES.flatMap((kind) => store.list(kind).map((object) => named(kind, keyOf(object), object))),
    { ...world.resolver, roles: roles(), defaultAction: settings.defaultAction },
  );
  return {
    get view() {
      return { inventory: world.inventory, policies: compiler.set };
    },
    update(changes) {
      const isOther = changes.some((change) => changesWorld(change, store));
      if (isOther) world.update(changes);
      const policies = changes
        .filter(({ kind }) => POLICIES.includes(kind))
        .map(({ kind, key }) => named(kind, key, store.get(kind, key)));
      compiler.update({
        policies,
        ...(changes.some(({ kind }) => kind === 'AccessRole') ? { roles: roles() } : {}),
        ...(isOther ? { resolver: world.resolver } : {}),
      });
      return { inventory: world.inventory, policies: compiler.set };
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
