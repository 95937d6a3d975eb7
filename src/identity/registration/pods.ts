import type { Grant, ReadyIdentity } from './grants.js';
import type { PodFacts, RegistrationSubject } from './registration.js';

/** A pod and what it got. */
export interface PodEntry<Identity extends ReadyIdentity> {
  facts: PodFacts;
  /** Shared by all registrations of the pod. */
  subject: RegistrationSubject;
  grants: readonly Grant<Identity>[];
}

/** Pods by UID, by namespace and service account, and by node. */
export class PodTable<Identity extends ReadyIdentity> {
  readonly #byUid = new Map<string, PodEntry<Identity>>();
  readonly #byNamespace = new Map<string, Map<string, Set<PodEntry<Identity>>>>();
  readonly #byNode = new Map<string, Set<PodEntry<Identity>>>();

  get(uid: string): PodEntry<Identity> | undefined {
    return this.#byUid.get(uid);
  }

  all(): Iterable<PodEntry<Identity>> {
    return this.#byUid.values();
  }

  hasNamespace(namespace: string): boolean {
    return this.#byNamespace.has(namespace);
  }

  namespaces(): Iterable<string> {
    return this.#byNamespace.keys();
  }

  onNode(nodeName: string): Iterable<PodEntry<Identity>> {
    return this.#byNode.get(nodeName) ?? [];
  }

  /** Pods of a namespace, only of these service accounts when they are named. */
  *inNamespace(namespace: string, accounts: ReadonlySet<string> | undefined): Iterable<PodEntry<Identity>> {
    const byAccount = this.#byNamespace.get(namespace);
    if (byAccount === undefined) return;
    for (const account of accounts ?? byAccount.keys()) yield* byAccount.get(account) ?? [];
  }

  /** Sets the facts of the pod with this UID and returns its entry. */
  put(facts: PodFacts): PodEntry<Identity> {
    const known = this.#byUid.get(facts.uid);
    if (known !== undefined) {
      this.#unfile(known);
      const { namespace, name } = known.facts;
      if (namespace !== facts.namespace || name !== facts.name) known.subject = subjectOf(facts);
      known.facts = facts;
      this.#file(known);
      return known;
    }
    const entry = { facts, subject: subjectOf(facts), grants: [] };
    this.#byUid.set(facts.uid, entry);
    this.#file(entry);
    return entry;
  }

  remove(uid: string): PodEntry<Identity> | undefined {
    const entry = this.#byUid.get(uid);
    if (entry === undefined) return undefined;
    this.#byUid.delete(uid);
    this.#unfile(entry);
    return entry;
  }

  #file(entry: PodEntry<Identity>): void {
    const { namespace, serviceAccount, nodeName } = entry.facts;
    let accounts = this.#byNamespace.get(namespace);
    if (accounts === undefined)
      this.#byNamespace.set(namespace, (accounts = new Map<string, Set<PodEntry<Identity>>>()));
    add(accounts, serviceAccount, entry);
    if (nodeName !== '') add(this.#byNode, nodeName, entry);
  }

  #unfile(entry: PodEntry<Identity>): void {
    const { namespace, serviceAccount, nodeName } = entry.facts;
    const accounts = this.#byNamespace.get(namespace);
    if (accounts !== undefined) {
      drop(accounts, serviceAccount, entry);
      if (accounts.size === 0) this.#byNamespace.delete(namespace);
    }
    drop(this.#byNode, nodeName, entry);
  }
}

function subjectOf({ namespace, name, uid, staticUid }: PodFacts): RegistrationSubject {
  return { kind: 'pod', namespace, name, uid, ...(staticUid === undefined ? {} : { staticUid }) };
}

function add<T>(map: Map<string, Set<T>>, key: string, value: T): void {
  const set = map.get(key);
  if (set === undefined) map.set(key, new Set([value]));
  else set.add(value);
}

function drop<T>(map: Map<string, Set<T>>, key: string, value: T): void {
  const set = map.get(key);
  if (set === undefined) return;
  set.delete(value);
  if (set.size === 0) map.delete(key);
}
