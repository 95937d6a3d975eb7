import type { SourceWorkload } from '../../access/policy/model.js';
import { holderFacts, sourceOf, type HolderFacts } from '../../cluster/source-facts.js';
import { identityKey, type RegistrationDelta } from '../../identity/registration/outcome.js';
import type {
  PodFacts,
  Registration,
  RegistrationSubject,
} from '../../identity/registration/registration.js';

type PodSubject = Extract<RegistrationSubject, { readonly kind: 'pod' }>;

/** How many there are of each. */
class Counts {
  readonly #counts = new Map<string, number>();

  /** True when there was none of it before, or is none after. */
  add(key: string, by: 1 | -1): boolean {
    const count = (this.#counts.get(key) ?? 0) + by;
    if (count > 0) this.#counts.set(key, count);
    else this.#counts.delete(key);
    return count === 0 || (by === 1 && count === 1);
  }

  get size(): number {
    return this.#counts.size;
  }

  keys(): Iterable<string> {
    return this.#counts.keys();
  }
}

/** A registration, as far as it is about who holds an ID. */
interface Holding {
  readonly uri: string;
  readonly identity: string;
  /** Undefined for a process. */
  readonly podUid: string | undefined;
  /** The key of what the pod is; '' while it is not known. */
  readonly facts: string;
}

/** The facts of holders that are not pods: nothing is known of them. */
const PROCESS = 'process';

/** What has become another. */
export interface HolderChanges {
  /** SPIFFE IDs of whose holders something else is known than before. */
  readonly sources: ReadonlySet<string>;
  /** Keys of identities that give out other IDs than before. */
  readonly identities: ReadonlySet<string>;
}

/**
 * Who holds which ID, kept in step by deltas. Pods that are alike are counted, not kept one by one, so that a change costs
 * the pod that it is about, however many others hold the same ID.
 */
export class Holders {
  readonly #podOf: (subject: PodSubject) => PodFacts | undefined;
  readonly #holdings = new Map<string, Holding>();
  readonly #registrationsOf = new Map<string, Set<string>>();
  /** Keys of facts, by SPIFFE ID. */
  readonly #factsOf = new Map<string, Counts>();
  readonly #urisOf = new Map<string, Counts>();
  /** Facts by their keys, and by how many holdings they are used. */
  readonly #facts = new Map<string, { readonly value: HolderFacts; uses: number }>();

  constructor(registrations: Iterable<Registration>, podOf: (subject: PodSubject) => PodFacts | undefined) {
    this.#podOf = podOf;
    for (const registration of registrations) this.#put(registration, noChanges());
  }

  /** The IDs that an identity gives out, in order. */
  urisOf(identity: string): readonly string[] {
    return [...(this.#urisOf.get(identity)?.keys() ?? [])].sort();
  }

  /** What is known of whoever holds an ID. */
  source(uri: string): SourceWorkload | undefined {
    const keys = [...(this.#factsOf.get(uri)?.keys() ?? [])];
    if (keys.includes(PROCESS)) return undefined;
    return sourceOf(keys.flatMap((key) => this.#facts.get(key)?.value ?? []));
  }

  /** Every ID that somebody holds. */
  uris(): Iterable<string> {
    return this.#factsOf.keys();
  }

  registrations({ changed, removed }: Pick<RegistrationDelta, 'changed' | 'removed'>): HolderChanges {
    const changes = noChanges();
    for (const { id } of removed) this.#remove(id, changes);
    for (const registration of changed) {
      this.#remove(registration.id, changes);
      this.#put(registration, changes);
    }
    return changes;
  }

  /** A pod has changed that may hold IDs. */
  pod(facts: PodFacts): HolderChanges {
    const changes = noChanges();
    const ids = this.#registrationsOf.get(facts.uid);
    if (ids === undefined) return changes;
    const now = holderFacts(facts);
    const key = JSON.stringify(now);
    for (const id of [...ids]) {
      const holding = this.#holdings.get(id);
      if (holding === undefined || holding.facts === key) continue;
      this.#drop(id, holding, changes);
      this.#keep(id, { ...holding, facts: key }, now, changes);
    }
    return changes;
  }

  #put({ id, subject, spiffeId, identity }: Registration, changes: Changes): void {
    const pod = subject.kind === 'pod' ? this.#podOf(subject) : undefined;
    const facts = pod === undefined ? undefined : holderFacts(pod);
    const unknown = subject.kind === 'process' ? PROCESS : '';
    const holding = {
      ...{ uri: spiffeId.uri, identity: identityKey(identity) },
      podUid: subject.kind === 'pod' ? subject.uid : undefined,
    };
    const key = facts === undefined ? unknown : JSON.stringify(facts);
    this.#keep(id, { ...holding, facts: key }, facts, changes);
  }

  #remove(id: string, changes: Changes): void {
    const holding = this.#holdings.get(id);
    if (holding !== undefined) this.#drop(id, holding, changes);
  }

  #keep(id: string, holding: Holding, facts: HolderFacts | undefined, changes: Changes): void {
    const { uri, identity, podUid, facts: key } = holding;
    this.#holdings.set(id, holding);
    if (podUid !== undefined) setOf(this.#registrationsOf, podUid).add(id);
    if (facts !== undefined) {
      const known = this.#facts.get(key);
      if (known === undefined) this.#facts.set(key, { value: facts, uses: 1 });
      else known.uses += 1;
    }
    if (countsOf(this.#factsOf, uri).add(key, 1)) changes.sources.add(uri);
    if (countsOf(this.#urisOf, identity).add(uri, 1)) changes.identities.add(identity);
  }

  #drop(id: string, { uri, identity, podUid, facts: key }: Holding, changes: Changes): void {
    this.#holdings.delete(id);
    if (podUid !== undefined) {
      const ids = this.#registrationsOf.get(podUid);
      ids?.delete(id);
      if (ids?.size === 0) this.#registrationsOf.delete(podUid);
    }
    const known = this.#facts.get(key);
    if (known !== undefined) {
      known.uses -= 1;
      if (known.uses === 0) this.#facts.delete(key);
    }
    const facts = countsOf(this.#factsOf, uri);
    if (facts.add(key, -1)) changes.sources.add(uri);
    if (facts.size === 0) this.#factsOf.delete(uri);
    const uris = countsOf(this.#urisOf, identity);
    if (uris.add(uri, -1)) changes.identities.add(identity);
    if (uris.size === 0) this.#urisOf.delete(identity);
  }
}

interface Changes {
  readonly sources: Set<string>;
  readonly identities: Set<string>;
}

const noChanges = (): Changes => ({ sources: new Set(), identities: new Set() });

function setOf(map: Map<string, Set<string>>, key: string): Set<string> {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = new Set<string>();
  map.set(key, made);
  return made;
}

function countsOf(map: Map<string, Counts>, key: string): Counts {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = new Counts();
  map.set(key, made);
  return made;
}
