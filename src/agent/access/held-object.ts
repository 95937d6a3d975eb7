import type { SourceWorkload } from '../../access/policy/model.js';
import { isRecord } from '../../access/policy/read.js';
import type { IdentityRef } from '../../identity/registration/registration.js';
import { parseSpiffeId, type SpiffeId } from '../../identity/spiffe/id.js';
import { SignetError } from '../../lib/errors.js';
import type { PolicyItem } from '../../rpc/node-api.js';

/** An object that was sent, in the form of a store's. */
export interface HeldObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly generation: number;
    readonly labels?: Readonly<Record<string, string>>;
  };
  /** Of a pod, the IDs that it has; of an identity, those that it gives out. */
  readonly identities?: readonly { readonly identity: IdentityRef; readonly spiffeId: SpiffeId }[];
  /** Of a `Source`, what is known of whoever holds the ID. */
  readonly source?: SourceWorkload;
}

type Fields = Readonly<Record<string, unknown>>;

/** Kinds that are sent. */
const KINDS: readonly string[] = [
  'TrustDomain',
  'AccessPolicy',
  'ClusterAccessPolicy',
  'AccessRole',
  'Revocation',
  'Namespace',
  'Pod',
  'WorkloadIdentity',
  'ClusterWorkloadIdentity',
  'Source',
];

/**
 * Reads an item. The key says what it is; what it holds must be that.
 *
 * @throws SignetError `PoliciesInvalid`
 */
export function readItem({ key, json }: PolicyItem, nodeName: string): HeldObject {
  const slash = key.indexOf('/');
  const [kind, name] = [key.slice(0, slash), key.slice(slash + 1)];
  if (slash < 0 || !KINDS.includes(kind)) return unusable(key, 'which is of no known kind');
  let read: unknown;
  try {
    read = JSON.parse(json);
  } catch {
    return unusable(key, 'whose content is no JSON');
  }
  if (!isRecord(read)) return unusable(key, 'which is no object');
  if (kind === 'Source') return sourceObject(key, name, read);
  const metadata = isRecord(read['metadata']) ? read['metadata'] : {};
  const { uid, namespace } = metadata;
  const whole = namespace === undefined ? metadata['name'] : `${text(namespace)}/${text(metadata['name'])}`;
  if (read['kind'] !== kind || whole !== name) return unusable(key, 'which holds another object');
  if (kind === 'Pod' && (isRecord(read['spec']) ? read['spec'] : {})['nodeName'] !== nodeName)
    return unusable(key, `a pod of another node; this is node ${nodeName}`);
  const object = {
    ...read,
    metadata: { ...metadata, uid: text(uid), generation: 0 },
  } as unknown as HeldObject;
  // Nothing is added to a policy: what does not belong there makes it one that cannot be compiled.
  const identities = kind === 'Pod' ? podIdentities(key, read) : identityUris(key, kind, metadata, read);
  return identities === undefined ? object : { ...object, identities };
}

function sourceObject(key: string, uri: string, read: Fields): HeldObject {
  const { labels, images, privileged } = read;
  const right =
    isRecord(labels) &&
    Object.values(labels).every((label) => typeof label === 'string') &&
    (images === undefined || (Array.isArray(images) && images.every((image) => typeof image === 'string'))) &&
    (privileged === undefined || typeof privileged === 'boolean');
  if (!right) return unusable(key, 'which does not say what its holders are');
  return {
    ...{ apiVersion: '', kind: 'Source' },
    metadata: { name: uri, uid: '', generation: 0 },
    source: read as unknown as SourceWorkload,
  };
}

function podIdentities(key: string, read: Fields): HeldObject['identities'] {
  const list = Array.isArray(read['identities']) ? (read['identities'] as readonly unknown[]) : [];
  return list.map((entry) => {
    const { kind, namespace, name, uri } = isRecord(entry) ? entry : {};
    return { identity: identityRef(key, kind, namespace, name), spiffeId: idOf(key, uri) };
  });
}

function identityUris(key: string, kind: string, metadata: Fields, read: Fields): HeldObject['identities'] {
  if (kind !== 'WorkloadIdentity' && kind !== 'ClusterWorkloadIdentity') return undefined;
  const identity = identityRef(key, kind, metadata['namespace'], metadata['name']);
  const uris = Array.isArray(read['uris']) ? (read['uris'] as readonly unknown[]) : [];
  return uris.map((uri) => ({ identity, spiffeId: idOf(key, uri) }));
}

function identityRef(key: string, kind: unknown, namespace: unknown, name: unknown): IdentityRef {
  if (kind !== 'WorkloadIdentity' && kind !== 'ClusterWorkloadIdentity')
    return unusable(key, 'whose identities are of no known kind');
  return { kind, namespace: text(namespace), name: text(name) };
}

function idOf(key: string, uri: unknown): SpiffeId {
  try {
    return parseSpiffeId(text(uri));
  } catch {
    return unusable(key, 'which holds what is no SPIFFE ID');
  }
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

function unusable(key: string, why: string): never {
  throw new SignetError('PoliciesInvalid', `the server sent policy item "${key.slice(0, 200)}", ${why}`);
}
