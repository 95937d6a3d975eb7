import type { ContainerFacts, PodFacts } from '../identity/registration/registration.js';
import type { StoredObject } from '../store/store.js';

type Fields = Readonly<Record<string, unknown>>;

/**
 * A Pod object as the identity side sees it. Undefined for a pod that has ended (`Succeeded`, `Failed`): it stays in the
 * cluster for people to look at, but nothing runs in it that could hold an identity.
 */
export function podFacts(pod: StoredObject): PodFacts | undefined {
  const spec = fields((pod as { spec?: unknown }).spec);
  const status = fields((pod as { status?: unknown }).status);
  const phase = status['phase'];
  if (phase === 'Succeeded' || phase === 'Failed') return undefined;
  const containers = ['initContainers', 'containers', 'ephemeralContainers'].flatMap((field) =>
    list(spec[field]),
  );
  const ip = text(status['podIP']);
  return {
    namespace: pod.metadata.namespace ?? 'default',
    name: pod.metadata.name,
    uid: pod.metadata.uid,
    serviceAccount: text(spec['serviceAccountName']) || 'default',
    labels: pod.metadata.labels ?? {},
    annotations: pod.metadata.annotations ?? {},
    nodeName: text(spec['nodeName']),
    images: containers.map((container) => text(container['image'])),
    privileged: containers.some((container) => fields(container['securityContext'])['privileged'] === true),
    ...(ip === '' ? {} : { ip }),
    containerNames: containers.map((container) => text(container['name'])),
    containers: startedContainers(status),
    ...(pod.metadata.annotations?.[MIRROR] === undefined
      ? {}
      : { staticUid: staticUidOf(pod.metadata.annotations) }),
  };
}

/** On the pod that a kubelet makes in the API for one that it runs from its own files; it cannot be added to one later. */
const MIRROR = 'kubernetes.io/config.mirror';

/**
 * The UID by which a node runs the static pod that this is the mirror of: the hash of its manifest, which no other pod has
 * for a UID. A manifest with a UID of its own is not told apart from other pods.
 */
function staticUidOf(annotations: Readonly<Record<string, string>>): string {
  const uid = annotations[MIRROR] ?? '';
  const source = annotations['kubernetes.io/config.source'];
  const isStatic = source === 'file' || source === 'http';
  return isStatic && annotations['kubernetes.io/config.hash'] === uid && /^[0-9a-f]{32}$/.test(uid)
    ? uid
    : '';
}

const NO_CONTAINERS: readonly never[] = Object.freeze([]);

/** The objects of the status themselves: there is one for every container of the cluster. */
function startedContainers(status: Fields): readonly ContainerFacts[] {
  const [first, ...more] = [
    'containerStatuses',
    'initContainerStatuses',
    'ephemeralContainerStatuses',
  ].flatMap((field) => {
    const started = statuses(status[field]);
    return started.length === 0 ? [] : [started];
  });
  return first === undefined ? NO_CONTAINERS : more.length === 0 ? first : [...first, ...more.flat()];
}

function statuses(value: unknown): readonly ContainerFacts[] {
  if (!Array.isArray(value)) return NO_CONTAINERS;
  const all: readonly unknown[] = value;
  return all.every(isStarted) ? all : all.filter(isStarted);
}

function isStarted(value: unknown): value is ContainerFacts {
  const { name, containerID, imageID } = fields(value);
  return (
    typeof name === 'string' &&
    typeof containerID === 'string' &&
    containerID !== '' &&
    (imageID === undefined || typeof imageID === 'string')
  );
}

function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}

function list(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.map(fields) : [];
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
