import { createHash } from 'node:crypto';
import { podTemplatePath } from '../../resources/kinds.js';
import type { StoredObject } from '../store.js';

/** A controller that asks for absurdly many pods gets this many. */
export const MAX_PODS_PER_WORKLOAD = 1000;

export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value at a path of keys, or undefined. */
export function dig(value: unknown, ...path: readonly string[]): unknown {
  let at = value;
  for (const key of path) at = isObject(at) && Object.hasOwn(at, key) ? at[key] : undefined;
  return at;
}

/** A uid that is the same for the same object on every start: a version 8 UUID (RFC 9562 §5.8) from a hash of its name. */
export function stableUid(kind: string, namespace: string, name: string): string {
  const bytes = createHash('sha256').update(`signet-folder\0${kind}\0${namespace}\0${name}`).digest();
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString('hex', 0, 16);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** How many pods a controller runs: its replicas, else one. */
function podCount(workload: StoredObject): number {
  if (!['Deployment', 'ReplicaSet', 'StatefulSet'].includes(workload.kind)) return 1;
  const replicas = dig(workload, 'spec', 'replicas');
  return typeof replicas === 'number'
    ? Math.min(Math.max(0, Math.trunc(replicas)), MAX_PODS_PER_WORKLOAD)
    : 1;
}

/**
 * The pods that a cluster would run for a controller, named `<name>-<n>` and running on `nodeName`: a folder has no
 * scheduler. They share the template's values, so a thousand replicas cost little.
 */
export function expandWorkload(workload: StoredObject, nodeName: string): StoredObject[] {
  const path = podTemplatePath(workload.kind);
  const template = path === undefined ? undefined : dig(workload, ...path);
  if (!isObject(template)) return [];
  const { name, namespace = 'default', uid } = workload.metadata;
  const labels = dig(template, 'metadata', 'labels') as Record<string, string> | undefined;
  const annotations = dig(template, 'metadata', 'annotations') as Record<string, string> | undefined;
  const spec = podSpec(template['spec'], nodeName);
  const ownerReferences = [
    { apiVersion: workload.apiVersion, kind: workload.kind, name, uid, controller: true },
  ];
  return Array.from({ length: podCount(workload) }, (_, index) => {
    const podName = `${name}-${index}`;
    const metadata = {
      name: podName,
      namespace,
      uid: stableUid('Pod', namespace, podName),
      generation: 1,
      ...(labels === undefined ? {} : { labels }),
      ...(annotations === undefined ? {} : { annotations }),
      ownerReferences,
    };
    return { apiVersion: 'v1', kind: 'Pod', metadata, spec, status: RUNNING } satisfies StoredObject &
      JsonObject;
  });
}

const RUNNING = { phase: 'Running' };

/** A Pod as written, placed on the node and running unless it says otherwise. */
export function placePod(
  pod: StoredObject & { spec?: unknown; status?: unknown },
  nodeName: string,
): StoredObject {
  const status = isObject(pod.status) ? { ...RUNNING, ...pod.status } : RUNNING;
  return { ...pod, spec: podSpec(pod.spec, nodeName), status } as StoredObject;
}

function podSpec(spec: unknown, nodeName: string): JsonObject {
  const written = isObject(spec) ? spec : {};
  return {
    ...written,
    nodeName: filled(written['nodeName'], nodeName),
    serviceAccountName: filled(written['serviceAccountName'], 'default'),
  };
}

function filled(value: unknown, fallback: string): string {
  return typeof value === 'string' && value !== '' ? value : fallback;
}
