import type { PartChanges } from '../../../access/mesh/part-book.js';
import { policyNamesOf } from '../../../access/mesh/objects.js';
import type { KubernetesObject } from '../../../access/mesh/renderer.js';
import { SIGNET_API_VERSION } from '../../../resources/meta.js';
import type { DesiredObject } from '../../../store/kubernetes/applied-content.js';
import type { Mesh } from './meshes.js';

/** `AccessPolicy/payments/p`, `ClusterAccessPolicy/p`. */
export type PolicyKey = string;

/** The uid of a policy that there is. */
export type UidOf = (policy: PolicyKey) => string | undefined;

/**
 * What one mesh is to have, by owner: all objects of a namespace are one owner's, since who is let in there is said by
 * all of them together, so that what is old stays until the new is there. Those without a namespace are of an owner too.
 */
export class DesiredObjects {
  readonly #mesh: Mesh;
  readonly #byOwner = new Map<string, Map<string, KubernetesObject>>();
  /** By policy: how many objects each owner has of it. */
  readonly #byPolicy = new Map<PolicyKey, Map<string, number>>();
  /** As they were given last, so that what stays the same stays the same object. */
  readonly #given = new WeakMap<
    KubernetesObject,
    { readonly uids: string; readonly object: DesiredObject }
  >();

  constructor(mesh: Mesh) {
    this.#mesh = mesh;
  }

  /** Takes a change of the rendering; returns the owners whose objects are other than before. */
  change({ changed, removed }: Pick<PartChanges, 'changed' | 'removed'>): ReadonlySet<string> {
    const touched = new Set<string>();
    for (const object of removed) touched.add(this.#takeOut(object));
    for (const object of changed) {
      this.#takeOut(object);
      touched.add(this.#putIn(object));
    }
    return touched;
  }

  /** Whether an owner is to have objects. */
  has(owner: string): boolean {
    return this.#byOwner.has(owner);
  }

  /** The owners of objects. */
  owners(): Iterable<string> {
    return this.#byOwner.keys();
  }

  /** The owners of objects that say something of a policy. */
  ownersOf(policy: PolicyKey): Iterable<string> {
    return this.#byPolicy.get(policy)?.keys() ?? [];
  }

  /** How many objects say something of a policy. */
  countOf(policy: PolicyKey): number {
    return [...(this.#byPolicy.get(policy)?.values() ?? [])].reduce((sum, count) => sum + count, 0);
  }

  /** The policies that an object says something of, by the object's name among all (`apiVersion kind namespace/name`). */
  policiesOf(owner: string, id: string): readonly PolicyKey[] {
    const object = this.#byOwner.get(owner)?.get(id);
    return object === undefined ? [] : policyKeys(object);
  }

  /** What an owner is to have. What denies comes first, so that nothing is open in between that no policy opens. */
  of(owner: string, uidOf: UidOf): readonly DesiredObject[] {
    const objects = [...(this.#byOwner.get(owner)?.values() ?? [])];
    return objects
      .sort((a, b) => Number(denies(b)) - Number(denies(a)))
      .map((object) => this.#withOwners(object, uidOf));
  }

  #putIn(object: KubernetesObject): string {
    const owner = this.#ownerOf(object);
    const known = this.#byOwner.get(owner) ?? new Map<string, KubernetesObject>();
    this.#byOwner.set(owner, known.set(objectId(object), object));
    for (const policy of policyKeys(object)) {
      const counts = this.#byPolicy.get(policy) ?? new Map<string, number>();
      this.#byPolicy.set(policy, counts.set(owner, (counts.get(owner) ?? 0) + 1));
    }
    return owner;
  }

  #takeOut(object: KubernetesObject): string {
    const owner = this.#ownerOf(object);
    const objects = this.#byOwner.get(owner);
    const known = objects?.get(objectId(object));
    if (objects === undefined || known === undefined) return owner;
    objects.delete(objectId(object));
    if (objects.size === 0) this.#byOwner.delete(owner);
    for (const policy of policyKeys(known)) {
      const counts = this.#byPolicy.get(policy);
      const left = (counts?.get(owner) ?? 1) - 1;
      if (left > 0) counts?.set(owner, left);
      else counts?.delete(owner);
      if (counts?.size === 0) this.#byPolicy.delete(policy);
    }
    return owner;
  }

  #ownerOf({ metadata: { namespace = '' } }: KubernetesObject): string {
    return ownerName(this.#mesh.name, namespace);
  }

  /** With the policy as owner, where the object may go together with it, whether we run or not. */
  #withOwners(object: KubernetesObject, uidOf: UidOf): DesiredObject {
    const [policy, ...others] = policyKeys(object);
    const namespace = object.metadata.namespace ?? '';
    const alone = policy !== undefined && others.length === 0 && namespace !== '';
    // An owner in another namespace is none to the API server: it would delete the object at once.
    const owns = alone && this.#mesh.endsWithPolicy?.(object) === true && mayOwn(policy, namespace);
    const uid = owns ? uidOf(policy) : undefined;
    const uids = `${policy ?? ''} ${uid ?? ''}`;
    const given = this.#given.get(object);
    if (given?.uids === uids) return given.object;
    const made =
      uid === undefined || policy === undefined
        ? object
        : {
            ...object,
            metadata: { ...object.metadata, ownerReferences: [reference(policy, uid)] },
          };
    this.#given.set(object, { uids, object: made });
    return made;
  }
}

/** The owner of a mesh's objects in a namespace; in none, where that is empty. */
export function ownerName(mesh: string, namespace: string): string {
  return `${mesh}/${namespace}`;
}

/** The mesh whose objects an owner has. */
export function meshOf(owner: string): string {
  return owner.slice(0, owner.indexOf('/'));
}

/** As the API server's answers name it. */
export function objectId({
  apiVersion,
  kind,
  metadata: { namespace, name },
}: Pick<KubernetesObject, 'apiVersion' | 'kind' | 'metadata'>): string {
  return `${apiVersion} ${kind} ${namespace === undefined ? name : `${namespace}/${name}`}`;
}

function policyKeys(object: KubernetesObject): readonly PolicyKey[] {
  return policyNamesOf(object).map((name) =>
    name.includes('/') ? `AccessPolicy/${name}` : `ClusterAccessPolicy/${name}`,
  );
}

const denies = ({ spec }: KubernetesObject): boolean => spec?.['action'] === 'DENY';

function mayOwn(policy: PolicyKey, namespace: string): boolean {
  const [kind, first] = policy.split('/');
  return kind === 'ClusterAccessPolicy' || first === namespace;
}

function reference(policy: PolicyKey, uid: string): object {
  const parts = policy.split('/');
  return {
    apiVersion: SIGNET_API_VERSION,
    kind: parts[0],
    name: parts.at(-1),
    uid,
    controller: false,
    blockOwnerDeletion: false,
  };
}
