import { DEFINITIONS } from './definitions.js';
import { didYouMean } from '../lib/did-you-mean.js';
import type { FileKind, KubernetesKind, SignetKind } from './kinds.js';
import { isFileKind, isSignetKind } from './kinds.js';
import { checkKubernetesObject } from './kubernetes-check.js';
import { checkMetadata } from './metadata.js';
import { error, quote } from './names.js';
import type { Problem } from './problem.js';
import { checkSchema } from './schema-check.js';
import { checkSemantics } from './semantics.js';

/** What was made of an object, and what is wrong with it. */
export interface Admission {
  /** With defaults filled in; absent when there is an error. */
  readonly object?: Readonly<Record<string, unknown>>;
  readonly problems: readonly Problem[];
}

const TOP_FIELDS = ['apiVersion', 'kind', 'metadata', 'spec', 'status'];

/**
 * Judges an object of a kind that Signet reads, as the API server would: schema, rules, and what Signet knows beyond
 * them. Total: whatever is given, problems are returned, never thrown. `raw` is not changed.
 */
export function admitObject(
  kind: SignetKind | FileKind | KubernetesKind,
  raw: Readonly<Record<string, unknown>>,
): Admission {
  const problems = [...checkMetadata(kind, raw['metadata'])];
  if (isFileKind(kind)) {
    // What it says is judged by who runs it: it holds requests, which have no schema.
    problems.push(...unknownTopFields(raw));
    if (raw['spec'] === undefined) problems.push(error(['spec'], 'is missing', 'write spec:'));
    return hasError(problems) ? { problems } : { object: raw, problems };
  }
  if (!isSignetKind(kind)) {
    problems.push(...checkKubernetesObject(kind, raw));
    return hasError(problems) ? { problems } : { object: raw, problems };
  }
  problems.push(...unknownTopFields(raw));
  if (raw['spec'] === undefined) problems.push(error(['spec'], 'is missing', 'write spec:'));
  else {
    const { value, problems: found } = checkSchema(DEFINITIONS[kind].spec.node, raw['spec'], ['spec']);
    problems.push(...found);
    if (!hasError(problems)) {
      const object = { ...raw, spec: value };
      problems.push(...checkSemantics(kind, object));
      if (!hasError(problems)) return { object, problems };
    }
  }
  return { problems };
}

/** What is wrong with an object of one of Signet's kinds by itself; empty when nothing is. */
export function validateObject(kind: SignetKind, raw: Readonly<Record<string, unknown>>): readonly Problem[] {
  return admitObject(kind, raw).problems;
}

function unknownTopFields(raw: Readonly<Record<string, unknown>>): Problem[] {
  return Object.keys(raw)
    .filter((key) => !TOP_FIELDS.includes(key))
    .map((key) => {
      const near = didYouMean(key, TOP_FIELDS);
      // A field of spec that stands one level too high is the more likely slip.
      const fix = near === undefined ? 'indent it under spec:' : `did you mean ${near}?`;
      return error([key], `there is no field ${quote(key)} here`, fix);
    });
}

function hasError(problems: readonly Problem[]): boolean {
  return problems.some(({ severity }) => severity === 'error');
}
