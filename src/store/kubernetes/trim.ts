import { SIGNET_GROUP } from '../../resources/meta.js';
import { Interner } from './interner.js';
import type { ApiObject } from './watch.js';

/** Annotations are read by ID templates: one of a pod's longer than this is not kept, nor more than so many in all. */
const LONGEST_ANNOTATION = 1024;
const MOST_ANNOTATIONS_LENGTH = 4096;
/**
 * What a kubelet says of a static pod on its mirror, kept whatever is beside it and however long it is: who makes a mirror writes
 * the others, too, and one that is not known for a mirror would be taken for a pod of its namespace.
 */
const MIRROR_ANNOTATIONS: readonly string[] = ['mirror', 'hash', 'source'].map(
  (name) => `kubernetes.io/config.${name}`,
);
/** Twice a hash: what is longer is none, and stays none when it is cut. */
const LONGEST_MIRROR_ANNOTATION = 64;
/** Written by tools for themselves. */
const IGNORED_ANNOTATIONS: ReadonlySet<string> = new Set([
  'kubectl.kubernetes.io/last-applied-configuration',
]);

type Fields = Readonly<Record<string, unknown>>;

/** Leaves out what nobody here reads: who manages which field. */
export function trimObject(object: ApiObject): ApiObject {
  const { managedFields, ...metadata } = object.metadata as ApiObject['metadata'] & {
    managedFields?: unknown;
  };
  return managedFields === undefined ? object : { ...object, metadata };
}

/**
 * Makes what trims pods: keeps what identities and policies are decided by. What pods have in common (labels, containers,
 * owners, node) is kept once, so that 100,000 pods fit.
 */
export function podTrimmer(): (pod: ApiObject) => ApiObject {
  const interner = new Interner();
  const share = <T>(value: T): T => interner.share(value);
  return (pod) => {
    const spec = fields((pod as { readonly spec?: unknown }).spec);
    const status = fields((pod as { readonly status?: unknown }).status);
    const { metadata } = pod;
    const trimmed = {
      apiVersion: share(pod.apiVersion),
      kind: share(pod.kind),
      metadata: {
        name: metadata.name,
        namespace: share(metadata.namespace),
        uid: metadata.uid,
        resourceVersion: metadata.resourceVersion,
        ...present('generation', metadata.generation),
        ...present('labels', share(metadata.labels ?? {})),
        ...present('annotations', share(shortAnnotations(metadata.annotations))),
        ...present('ownerReferences', share(ownersOf(metadata))),
        ...present('deletionTimestamp', metadata.deletionTimestamp),
      },
      spec: {
        ...present('serviceAccountName', share(spec['serviceAccountName'])),
        ...present('nodeName', share(spec['nodeName'])),
        ...present('hostNetwork', spec['hostNetwork']),
        ...present('containers', share(containersOf(spec['containers']))),
        ...present('initContainers', share(containersOf(spec['initContainers']))),
        ...present('ephemeralContainers', share(containersOf(spec['ephemeralContainers']))),
        ...present('readinessGates', share(ours(spec['readinessGates'], 'conditionType'))),
      },
      status: {
        ...present('phase', share(status['phase'])),
        ...present('podIP', status['podIP']),
        ...present('conditions', ours(status['conditions'], 'type')),
        ...present('containerStatuses', started(status['containerStatuses'], share)),
        ...present('initContainerStatuses', started(status['initContainerStatuses'], share)),
        ...present('ephemeralContainerStatuses', started(status['ephemeralContainerStatuses'], share)),
      },
    };
    return trimmed as unknown as ApiObject;
  };
}

function present(name: string, value: unknown): Fields {
  if (value === undefined || value === null) return {};
  if (Array.isArray(value) && value.length === 0) return {};
  return { [name]: value };
}

function shortAnnotations(annotations: Readonly<Record<string, string>> | undefined): Fields | undefined {
  const kept: Record<string, string> = {};
  for (const name of MIRROR_ANNOTATIONS) {
    const value = annotations?.[name];
    if (value !== undefined) kept[name] = value.slice(0, LONGEST_MIRROR_ANNOTATION);
  }
  let length = 0;
  for (const [name, value] of Object.entries(annotations ?? {})) {
    if (
      MIRROR_ANNOTATIONS.includes(name) ||
      IGNORED_ANNOTATIONS.has(name) ||
      value.length > LONGEST_ANNOTATION
    )
      continue;
    length += name.length + value.length;
    if (length > MOST_ANNOTATIONS_LENGTH) break;
    kept[name] = value;
  }
  return Object.keys(kept).length === 0 ? undefined : kept;
}

function ownersOf(metadata: object): readonly Fields[] {
  const owners = (metadata as { readonly ownerReferences?: unknown }).ownerReferences;
  return list(owners).map(({ apiVersion, kind, name, uid, controller }) => ({
    ...{ apiVersion, kind, name, uid },
    ...present('controller', controller),
  }));
}

function containersOf(containers: unknown): readonly Fields[] {
  return list(containers).map((container) => ({
    ...present('name', container['name']),
    ...present('image', container['image']),
    ...present('ports', container['ports']),
    ...present('restartPolicy', container['restartPolicy']),
    ...present('livenessProbe', probeOf(container['livenessProbe'])),
    ...present('readinessProbe', probeOf(container['readinessProbe'])),
    ...present('startupProbe', probeOf(container['startupProbe'])),
    ...(fields(container['securityContext'])['privileged'] === true
      ? { securityContext: { privileged: true } }
      : {}),
  }));
}

/** Readiness gates and conditions of Signet's; the others come and go with every change of a pod's health. */
function ours(values: unknown, field: string): readonly Fields[] {
  return list(values).filter((value) => String(value[field]).startsWith(`${SIGNET_GROUP}/`));
}

/** Which containers were started, and of which image; how they are comes and goes. */
function started(statuses: unknown, share: <T>(value: T) => T): readonly Fields[] {
  // Mapped last: a list that grew to its length is kept with room for more.
  return list(statuses)
    .filter(({ containerID }) => typeof containerID === 'string' && containerID !== '')
    .map(({ name, containerID, imageID }) => ({
      ...{ name: share(name), containerID: shortId(String(containerID)), imageID: share(imageID) },
    }));
}

/** The first 32 digits of a container's ID, which are as good as all: there is one for every container of the cluster. */
function shortId(containerID: string): string {
  const id = /^[a-z0-9.+-]+:\/\/([0-9a-f]{32})[0-9a-f]{32}$/.exec(containerID)?.[1];
  // By way of bytes: a part of a text keeps the whole in memory.
  return id === undefined ? containerID : Buffer.from(id, 'latin1').toString('latin1');
}

/** Where it knocks; how often is nobody's business. */
function probeOf(probe: unknown): Fields | undefined {
  const { httpGet, tcpSocket, grpc } = fields(probe);
  const kept = {
    ...present('httpGet', httpGet),
    ...present('tcpSocket', tcpSocket),
    ...present('grpc', grpc),
  };
  return Object.keys(kept).length === 0 ? undefined : kept;
}

function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}

function list(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.map(fields) : [];
}
