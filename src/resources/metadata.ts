import { scopeOf } from './kinds.js';
import { checkLabels, error, isDnsLabel, isDnsSubdomain, isLabelKey, quote } from './names.js';
import type { Problem } from './problem.js';

const NAME_FORM =
  'write lower-case letters, digits, "-" and ".", beginning and ending with a letter or digit, at most 253';
const LABEL_FORM =
  'write lower-case letters, digits and "-", beginning and ending with a letter or digit, at most 63';

/** What is wrong with the metadata of an object, by the rules of the API server. */
export function checkMetadata(kind: string, metadata: unknown): Problem[] {
  if (typeof metadata !== 'object' || metadata === null || Array.isArray(metadata)) {
    return [error(['metadata'], 'is missing', 'write metadata: with a name')];
  }
  const { name, namespace, labels, annotations } = metadata as Record<string, unknown>;
  return [
    ...checkName(kind, name),
    ...checkNamespace(kind, namespace),
    ...checkLabels(labels, ['metadata', 'labels']),
    ...checkAnnotations(annotations),
  ];
}

function checkName(kind: string, name: unknown): Problem[] {
  const path = ['metadata', 'name'];
  if (name === undefined || name === null || name === '')
    return [error(path, 'is missing', 'give the object a name')];
  if (typeof name !== 'string')
    return [error(path, `${quote(name)} is no string`, `write ${quote(JSON.stringify(name))}`)];
  if (kind === 'Namespace' && !isDnsLabel(name)) {
    return [error(path, `${quote(name)} is no name for a namespace`, LABEL_FORM)];
  }
  return isDnsSubdomain(name) ? [] : [error(path, `${quote(name)} is no name for an object`, NAME_FORM)];
}

function checkNamespace(kind: string, namespace: unknown): Problem[] {
  const path = ['metadata', 'namespace'];
  if (namespace === undefined || namespace === null) return [];
  if (scopeOf(kind) === 'Cluster') {
    return [error(path, `a ${kind} belongs to the whole cluster and has no namespace`, 'remove this line')];
  }
  if (typeof namespace !== 'string' || !isDnsLabel(namespace)) {
    return [error(path, `${quote(namespace)} is no name of a namespace`, LABEL_FORM)];
  }
  return [];
}

function checkAnnotations(annotations: unknown): Problem[] {
  const path = ['metadata', 'annotations'];
  if (annotations === undefined || annotations === null) return [];
  if (typeof annotations !== 'object' || Array.isArray(annotations)) {
    return [error(path, 'must be a map from annotation keys to texts')];
  }
  const problems: Problem[] = [];
  for (const [key, value] of Object.entries(annotations)) {
    // Annotation keys may have upper case in front of the slash.
    if (!isLabelKey(key.toLowerCase()))
      problems.push(error([...path, key], `${quote(key)} is no annotation key`));
    if (typeof value !== 'string') {
      problems.push(error([...path, key], `${quote(value)} is no string`, `write ${quote(String(value))}`));
    }
  }
  return problems;
}
