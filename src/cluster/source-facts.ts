import type { SourceWorkload } from '../access/policy/model.js';
import type { PodFacts } from '../identity/registration/registration.js';
import { workloadLabels } from './inventory.js';

/** What one pod is, as far as conditions on callers ask. */
export type HolderFacts = Required<SourceWorkload>;

/** A pod as a caller: without the labels that tell it from its replicas, and in one form for the same facts. */
export function holderFacts({ labels, images, privileged }: PodFacts): HolderFacts {
  const sorted = Object.entries(workloadLabels(labels)).sort(([a], [b]) => (a < b ? -1 : 1));
  return { labels: Object.fromEntries(sorted), images: [...images].sort(), privileged };
}

/**
 * What is known of whoever holds an ID, by all pods that hold it: what they have in common. Undefined when nobody does, or
 * when their labels differ, so that it depends on the caller which of them a condition would look at.
 */
export function sourceOf(holders: Iterable<HolderFacts>): SourceWorkload | undefined {
  const [first, ...others] = holders;
  if (first === undefined) return undefined;
  const all = (field: keyof HolderFacts): boolean => {
    const text = JSON.stringify(first[field]);
    return others.every((other) => JSON.stringify(other[field]) === text);
  };
  if (!all('labels')) return undefined;
  return {
    labels: first.labels,
    ...(all('images') ? { images: first.images } : {}),
    ...(all('privileged') ? { privileged: first.privileged } : {}),
  };
}
