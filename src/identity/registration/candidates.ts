import type { IdentityRules } from './identity-rules.js';
import type { PodFacts } from './registration.js';

interface HasRules {
  readonly rules: IdentityRules;
}

/**
 * Identities filed under what a pod must have to be selected (a service account, else one label, else nothing), so that
 * a pod meets only those that could select it, however many there are.
 */
export class Candidates<Identity extends HasRules> {
  readonly #all = new Set<Identity>();
  readonly #any = new Set<Identity>();
  readonly #byServiceAccount = new Map<string, Set<Identity>>();
  readonly #byLabel = new Map<string, Map<string, Set<Identity>>>();

  /** All of them, in no order. */
  get all(): ReadonlySet<Identity> {
    return this.#all;
  }

  add(identity: Identity): void {
    this.#all.add(identity);
    const { serviceAccounts } = identity.rules;
    if (serviceAccounts !== undefined) {
      for (const name of serviceAccounts) at(this.#byServiceAccount, name, newSet<Identity>).add(identity);
      return;
    }
    const label = anchorLabel(identity.rules);
    if (label === undefined) this.#any.add(identity);
    else at(at(this.#byLabel, label[0], newMap<Identity>), label[1], newSet<Identity>).add(identity);
  }

  remove(identity: Identity): void {
    this.#all.delete(identity);
    const { serviceAccounts } = identity.rules;
    if (serviceAccounts !== undefined) {
      for (const name of serviceAccounts) drop(this.#byServiceAccount, name, identity);
      return;
    }
    const label = anchorLabel(identity.rules);
    if (label === undefined) {
      this.#any.delete(identity);
      return;
    }
    const values = this.#byLabel.get(label[0]);
    if (values === undefined) return;
    drop(values, label[1], identity);
    if (values.size === 0) this.#byLabel.delete(label[0]);
  }

  /** Adds to `found` every identity that could select the pod. */
  collect(pod: PodFacts, found: Identity[]): void {
    for (const identity of this.#any) found.push(identity);
    for (const identity of this.#byServiceAccount.get(pod.serviceAccount) ?? []) found.push(identity);
    if (this.#byLabel.size === 0) return;
    for (const key of Object.keys(pod.labels)) {
      const identities = this.#byLabel.get(key)?.get(pod.labels[key] ?? '');
      if (identities !== undefined) for (const identity of identities) found.push(identity);
    }
  }
}

function anchorLabel(rules: IdentityRules): readonly [string, string] | undefined {
  return Object.entries(rules.podSelector?.matchLabels ?? {})[0];
}

function newSet<T>(): Set<T> {
  return new Set();
}

function newMap<T>(): Map<string, Set<T>> {
  return new Map();
}

function at<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}

function drop<T>(map: Map<string, Set<T>>, key: string, value: T): void {
  const set = map.get(key);
  if (set === undefined) return;
  set.delete(value);
  if (set.size === 0) map.delete(key);
}
