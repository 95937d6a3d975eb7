import type { KubernetesKind } from './kinds.js';
import { podTemplatePath } from './kinds.js';
import { checkLabels, error, isDnsSubdomain, quote } from './names.js';
import type { FieldPath, Problem } from './problem.js';

/**
 * What is wrong with a Kubernetes object in the fields that identities hang on: labels, service account, node and
 * replicas. All the rest is the API server's business.
 */
export function checkKubernetesObject(
  kind: KubernetesKind,
  raw: Readonly<Record<string, unknown>>,
): Problem[] {
  if (kind === 'Pod') return checkPodSpec(raw['spec'], ['spec']);
  const path = podTemplatePath(kind);
  if (path === undefined) return [];
  let at: unknown = raw;
  for (const key of path) at = isRecord(at) ? at[key] : undefined;
  if (!isRecord(at)) return [error(path, 'is missing', 'write the template of the pods')];
  const metadata = at['metadata'];
  return [
    ...checkReplicas(raw['spec']),
    ...(isRecord(metadata) ? checkLabels(metadata['labels'], [...path, 'metadata', 'labels']) : []),
    ...checkPodSpec(at['spec'], [...path, 'spec']),
  ];
}

function checkReplicas(spec: unknown): Problem[] {
  const replicas = isRecord(spec) ? spec['replicas'] : undefined;
  if (replicas === undefined || replicas === null) return [];
  if (typeof replicas === 'number' && Number.isInteger(replicas) && replicas >= 0) return [];
  return [
    error(['spec', 'replicas'], `${quote(replicas)} is no number of pods`, 'write a whole number from 0 on'),
  ];
}

function checkPodSpec(spec: unknown, path: FieldPath): Problem[] {
  if (spec === undefined || spec === null) return [];
  if (!isRecord(spec)) return [error(path, 'must be an object with fields')];
  return ['serviceAccountName', 'nodeName'].flatMap((field) => {
    const value = spec[field];
    if (value === undefined || value === null || value === '') return [];
    if (typeof value !== 'string')
      return [error([...path, field], `${quote(value)} is no text`, 'write it in quotes')];
    return isDnsSubdomain(value) ? [] : [error([...path, field], `${quote(value)} is no name for an object`)];
  });
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
