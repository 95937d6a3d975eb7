import { hash } from 'node:crypto';
import type { SourceWorkload } from '../../access/policy/model.js';
import type { PodFacts, Registration } from '../../identity/registration/registration.js';
import type { PolicyItem } from '../../rpc/node-api.js';
import type { StoredObject } from '../../store/store.js';

type Fields = Readonly<Record<string, unknown>>;

const made = new WeakMap<StoredObject, PolicyItem>();

/** A policy, a role, a Revocation or the TrustDomain, as agents are sent it. Made once for each object, so that it is one for all agents. */
export function objectItem(object: StoredObject): PolicyItem {
  const known = made.get(object);
  if (known !== undefined) return known;
  const { name, namespace } = object.metadata;
  const item = itemOf(keyOf(object), {
    ...object,
    status: undefined,
    metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
    ...(object.kind === 'TrustDomain' ? { spec: trustDomainSpec(object) } : {}),
  });
  made.set(object, item);
  return item;
}

/** Where keys are and what seals them is nobody's business but the server's. */
function trustDomainSpec(object: StoredObject): Fields {
  const { name, defaultAction, tokenIssuers } = ((object as { readonly spec?: unknown }).spec ??
    {}) as Fields;
  return {
    name,
    ...(defaultAction === undefined ? {} : { defaultAction }),
    ...(tokenIssuers === undefined ? {} : { tokenIssuers }),
  };
}

export function namespaceItem(name: string, labels: Readonly<Record<string, string>>): PolicyItem {
  return itemOf(`Namespace/${name}`, {
    ...{ apiVersion: 'v1', kind: 'Namespace' },
    metadata: { name, labels: sorted(labels) },
  });
}

/** A pod as the target of decisions: not its containers, which say something of callers alone. */
export function podItem(
  pod: StoredObject,
  facts: PodFacts,
  registrations: readonly Registration[],
): PolicyItem {
  const { namespace, name, uid, labels, serviceAccount, nodeName } = facts;
  const owner = ownerOf(pod);
  return itemOf(`Pod/${namespace}/${name}`, {
    ...{ apiVersion: 'v1', kind: 'Pod' },
    metadata: {
      ...{ namespace, name, uid, labels: sorted(labels) },
      ...(owner === undefined ? {} : { ownerReferences: [owner] }),
    },
    spec: { serviceAccountName: serviceAccount, nodeName },
    identities: registrations.map(({ spiffeId, identity }) => ({ uri: spiffeId.uri, ...identity })),
  });
}

/** By whose name people know the pod. */
function ownerOf({ metadata }: StoredObject): Fields | undefined {
  const owners = (metadata as { readonly ownerReferences?: unknown }).ownerReferences;
  const owner = (Array.isArray(owners) ? (owners as readonly Fields[]) : []).find(
    ({ controller }) => controller === true,
  );
  return owner === undefined ? undefined : { kind: owner['kind'], name: owner['name'], controller: true };
}

/** What an identity gives out. */
export function identityItem(object: StoredObject, uris: readonly string[]): PolicyItem {
  const { apiVersion, kind, metadata } = object;
  const { name, namespace } = metadata;
  return itemOf(keyOf(object), {
    ...{ apiVersion, kind },
    metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
    uris,
  });
}

export function sourceItem(uri: string, source: SourceWorkload): PolicyItem {
  return itemOf(`Source/${uri}`, { ...source });
}

function itemOf(key: string, content: Fields): PolicyItem {
  const json = JSON.stringify(content);
  return { key, revision: hash('sha256', json, 'base64url').slice(0, 16), json };
}

/** `Kind/namespace/name`, or `Kind/name`. */
export function keyOf({ kind, metadata }: StoredObject): string {
  const { namespace, name } = metadata;
  return namespace === undefined ? `${kind}/${name}` : `${kind}/${namespace}/${name}`;
}

function sorted(labels: Readonly<Record<string, string>>): Fields {
  return Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}
