import type { PodFacts } from '../identity/registration/registration.js';
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
  };
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
