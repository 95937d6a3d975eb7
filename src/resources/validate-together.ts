import { error } from './names.js';
import type { Problem } from './problem.js';

/** An object as far as rules between objects need it. */
export interface AnyObject {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec?: unknown;
}

export interface ObjectProblem {
  readonly object: AnyObject;
  readonly problem: Problem;
}

/** What is wrong between objects that are each right by themselves. They stay in force. */
export function validateTogether(objects: readonly AnyObject[]): ObjectProblem[] {
  const trustDomains = objects.filter(({ kind }) => kind === 'TrustDomain');
  return secondTrustDomains(trustDomains);
}

function secondTrustDomains(trustDomains: readonly AnyObject[]): ObjectProblem[] {
  const [first, ...others] = [...trustDomains].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  if (first === undefined) return [];
  const message = `there is one TrustDomain in an installation, and "${first.metadata.name}" is it`;
  return others.map((object) => ({
    object,
    problem: error(['metadata', 'name'], message, 'remove one of the two'),
  }));
}
