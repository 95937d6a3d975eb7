import { admitObject } from '../../resources/admit.js';
import { didYouMean } from '../../lib/did-you-mean.js';
import type { FileKind, KubernetesKind, SignetKind } from '../../resources/kinds.js';
import {
  FILE_KINDS,
  SIGNET_KINDS,
  apiVersionOf,
  isFileKind,
  isKubernetesKind,
  isSignetKind,
  podTemplatePath,
  scopeOf,
} from '../../resources/kinds.js';
import { SIGNET_API_VERSION, SIGNET_GROUP } from '../../resources/meta.js';
import type { FieldPath, Problem } from '../../resources/problem.js';
import type { StoredObject } from '../store.js';
import type { JsonObject } from './workloads.js';
import { expandWorkload, isObject, placePod, stableUid } from './workloads.js';

/** One object of a document, with what it brings along. */
export interface Entry {
  /** `Kind namespace/name`, or undefined when the text does not even say what it is. */
  readonly id?: string;
  /** Where in the document's value it stands: in a List, under `items`. */
  readonly prefix: FieldPath;
  /** The object and the pods that it makes; empty when there is an error. */
  readonly objects: readonly StoredObject[];
  readonly problems: readonly Problem[];
}

/** What a document's value says: an entry for each object of a kind that Signet reads. */
export function readEntries(value: unknown, nodeName: string, prefix: FieldPath = []): Entry[] {
  if (value === null || value === undefined) return [];
  if (!isObject(value)) return [ignored(prefix, 'this document is no object; it is ignored')];
  const { kind, apiVersion } = value;
  if (typeof kind !== 'string' || typeof apiVersion !== 'string') return untyped(value, prefix);
  if (kind === 'List' || (kind.endsWith('List') && Array.isArray(value['items']))) {
    // A list in a list is no list of Kubernetes.
    if (prefix.length > 0) return [ignored(prefix, 'a List in a List is not read; it is ignored')];
    return unpackList(kind, apiVersion, value['items'], nodeName);
  }
  if (apiVersion.startsWith(`${SIGNET_GROUP}/`))
    return signetEntry(kind, apiVersion, value, nodeName, prefix);
  if (isKubernetesKind(kind) && apiVersionOf(kind) === apiVersion)
    return [entry(kind, value, nodeName, prefix)];
  if (isSignetKind(kind)) {
    const message = `apiVersion "${apiVersion}" is not Signet's, so this ${kind} is ignored`;
    return [ignored([...prefix, 'apiVersion'], message, `write apiVersion: ${SIGNET_API_VERSION}`)];
  }
  return [];
}

/** Values files and the like stand in such folders too: only what was meant as an object is worth a word. */
function untyped(value: JsonObject, prefix: FieldPath): Entry[] {
  const meant = 'kind' in value || 'apiVersion' in value || ('metadata' in value && 'spec' in value);
  if (!meant) return [];
  const missing = typeof value['kind'] === 'string' ? 'apiVersion' : 'kind';
  return [ignored(prefix, `this document has no ${missing}; it is ignored`)];
}

function unpackList(kind: string, apiVersion: string, items: unknown, nodeName: string): Entry[] {
  // The items of a PodList need not say what they are.
  const itemKind = kind.slice(0, -'List'.length);
  const implied = itemKind === '' ? {} : { apiVersion, kind: itemKind };
  return (Array.isArray(items) ? items : []).flatMap((item: unknown, index) =>
    readEntries(isObject(item) ? { ...implied, ...item } : item, nodeName, ['items', index]),
  );
}

function signetEntry(
  kind: string,
  apiVersion: string,
  value: JsonObject,
  nodeName: string,
  prefix: FieldPath,
): Entry[] {
  if (!isSignetKind(kind) && !isFileKind(kind)) {
    const known = [...Object.keys(SIGNET_KINDS), ...Object.keys(FILE_KINDS)];
    const near = didYouMean(kind, known);
    const fix = near === undefined ? `write one of ${known.join(', ')}` : `did you mean ${near}?`;
    return [broken([...prefix, 'kind'], `Signet has no kind "${kind}"`, fix)];
  }
  if (apiVersion !== SIGNET_API_VERSION) {
    return [
      broken(
        [...prefix, 'apiVersion'],
        `version "${apiVersion}" is unknown`,
        `write apiVersion: ${SIGNET_API_VERSION}`,
      ),
    ];
  }
  return [entry(kind, value, nodeName, prefix)];
}

function entry(
  kind: SignetKind | FileKind | KubernetesKind,
  raw: JsonObject,
  nodeName: string,
  prefix: FieldPath,
): Entry {
  const { object, problems } = admitObject(kind, raw);
  const id = identify(kind, raw);
  const placed =
    prefix.length === 0 ? problems : problems.map((p) => ({ ...p, path: [...prefix, ...p.path] }));
  const about = id === undefined ? {} : { id };
  if (object === undefined || id === undefined) return { ...about, prefix, objects: [], problems: placed };
  return { ...about, prefix, objects: store(kind, object, nodeName), problems: placed };
}

/** The name under which a text would be stored, if it says so much. */
function identify(kind: string, raw: JsonObject): string | undefined {
  const metadata = raw['metadata'];
  if (!isObject(metadata)) return undefined;
  const { name, namespace } = metadata;
  if (typeof name !== 'string' || name === '') return undefined;
  if (scopeOf(kind) === 'Cluster') return `${kind} ${name}`;
  return `${kind} ${typeof namespace === 'string' && namespace !== '' ? namespace : 'default'}/${name}`;
}

function store(kind: string, object: JsonObject, nodeName: string): StoredObject[] {
  const stored = { ...object, metadata: storedMetadata(kind, object['metadata'] as JsonObject) };
  const asStored = stored as unknown as StoredObject & { status?: unknown };
  if (kind === 'Pod') return [placePod(asStored, nodeName)];
  // What a manifest says of a status is somebody else's observation.
  delete asStored.status;
  return podTemplatePath(kind) === undefined ? [asStored] : [asStored, ...expandWorkload(asStored, nodeName)];
}

/** What is kept of the metadata; admission has checked its form. */
function storedMetadata(kind: string, written: JsonObject): StoredObject['metadata'] {
  const name = written['name'] as string;
  const namespace =
    scopeOf(kind) === 'Namespaced'
      ? ((written['namespace'] as string | null | undefined) ?? 'default')
      : undefined;
  const kept: Record<string, unknown> = { name };
  if (namespace !== undefined) kept['namespace'] = namespace;
  // Always ours: a uid that was copied along with a manifest would make two pods one.
  kept['uid'] = stableUid(kind, namespace ?? '', name);
  kept['generation'] = 1;
  for (const field of ['labels', 'annotations', 'ownerReferences']) {
    if (isObject(written[field]) || Array.isArray(written[field])) kept[field] = written[field];
  }
  if (kind === 'Namespace') {
    kept['labels'] = { ...(kept['labels'] as JsonObject | undefined), 'kubernetes.io/metadata.name': name };
  }
  return kept as unknown as StoredObject['metadata'];
}

function ignored(path: FieldPath, message: string, fix?: string): Entry {
  return {
    prefix: [],
    objects: [],
    problems: [{ severity: 'warning', path, message, ...(fix === undefined ? {} : { fix }) }],
  };
}

function broken(path: FieldPath, message: string, fix: string): Entry {
  return { prefix: [], objects: [], problems: [{ severity: 'error', path, message, fix }] };
}
