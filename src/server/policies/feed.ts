import { podFacts } from '../../cluster/pod-facts.js';
import type { RegistrationDelta } from '../../identity/registration/outcome.js';
import type { RegistrationIndex } from '../../identity/registration/registration-index.js';
import type { Watched } from '../../lib/watched.js';
import type { HeldPolicyItem, PolicyItem, PolicyUpdate } from '../../rpc/node-api.js';
import type { StoreChange, StoredObject, StoreReader } from '../../store/store.js';
import type { StateSource } from '../state-stream.js';
import { Catalogue, EVERYWHERE, IDENTITIES, isSent } from './catalogue.js';
import type { HolderChanges } from './holders.js';
import { keyOf, objectItem, podItem } from './items.js';
import { needsOf } from './needs.js';
import { NeedsBook } from './needs-book.js';
import { nodeOf } from './node-pods.js';
import { Reader, type ReaderFeed } from './reader.js';
import { TOPIC, topicsOfSource } from './topics.js';

/** What the feed is made from. */
export interface PolicyFeedOptions {
  readonly store: StoreReader;
  readonly trustDomain: string;
  /** Whether the store is read and the registrations are worked out. */
  readonly ready: Watched<boolean>;
  /** In step with the store before this is told of a change. */
  readonly registrations: Pick<RegistrationIndex, 'all' | 'forPod'>;
  /** Calls `onDelta` with each change of registrations, before the store tells this of the change behind it. */
  readonly onDelta: (onDelta: (delta: RegistrationDelta) => void) => () => void;
}

/** What agents are sent to decide by. */
export interface PolicyFeed {
  /** What the agent of a node is to be sent, that holds these items. */
  of(nodeName: string, held: readonly HeldPolicyItem[]): StateSource<PolicyUpdate>;
  /** Agents that follow now. */
  readonly readers: number;
  close(): void;
}

const POLICIES: readonly string[] = ['AccessPolicy', 'ClusterAccessPolicy'];

/**
 * Follows the store and the registrations, and gives each node what decisions there ask for: the policies of namespaces with a
 * pod on it, those of the whole cluster, and of other namespaces and pods what one of these policies asks about, no more. A
 * change costs the nodes that it is for; no node is looked at for a change that is not.
 */
export function openPolicyFeed(options: PolicyFeedOptions): PolicyFeed {
  return new Feed(options);
}

class Feed implements PolicyFeed, ReaderFeed {
  readonly #store: StoreReader;
  readonly #trustDomain: string;
  readonly #catalogue: Catalogue;
  readonly #needs = new NeedsBook();
  readonly #readers = new Set<Reader>();
  readonly #followers = new Map<string, Set<Reader>>();
  #ready = false;
  readonly #ends: (() => void)[] = [];

  constructor({ store, trustDomain, ready, registrations, onDelta }: PolicyFeedOptions) {
    this.#store = store;
    this.#trustDomain = trustDomain;
    this.#catalogue = new Catalogue(store, registrations);
    this.#ends.push(
      store.subscribe((changes) => {
        if (this.#ready) for (const change of changes) this.#apply(change);
      }),
      onDelta((delta) => {
        if (this.#ready) this.#registered(delta);
      }),
      ready.watch((is) => {
        if (is) this.#load();
      }),
    );
    if (ready.value) this.#load();
  }

  get ready(): boolean {
    return this.#ready;
  }

  get readers(): number {
    return this.#readers.size;
  }

  of(nodeName: string, held: readonly HeldPolicyItem[]): StateSource<PolicyUpdate> {
    return new Reader(this, nodeName, held);
  }

  close(): void {
    for (const end of this.#ends.splice(0)) end();
  }

  item(key: string): PolicyItem | undefined {
    return this.#catalogue.item(key);
  }

  members(topic: string): Iterable<string> {
    return this.#catalogue.members(topic);
  }

  topicsOf(key: string): readonly string[] {
    return this.#catalogue.topicsOf(key);
  }

  attach(reader: Reader): void {
    this.#readers.add(reader);
    if (this.#ready) this.#settle(reader);
  }

  detach(reader: Reader): void {
    this.#readers.delete(reader);
  }

  followed(topic: string, reader: Reader, follows: boolean): void {
    const readers = this.#followers.get(topic) ?? new Set<Reader>();
    if (follows) {
      this.#followers.set(topic, readers.add(reader));
      if (readers.size === 1) this.#catalogue.followed(topic, true);
      return;
    }
    readers.delete(reader);
    if (readers.size > 0) return;
    this.#followers.delete(topic);
    this.#catalogue.followed(topic, false);
  }

  #load(): void {
    if (this.#ready) return;
    this.#ready = true;
    for (const pod of this.#store.list('Pod')) this.#pod(undefined, pod);
    for (const kind of POLICIES) for (const policy of this.#store.list(kind)) this.#object(undefined, policy);
    for (const reader of this.#readers) {
      this.#settle(reader);
      reader.wake();
    }
  }

  /** Has a new reader follow what its node needs. */
  #settle(reader: Reader): void {
    const { nodeName } = reader;
    const namespaces = [...this.#catalogue.pods.namespaces(nodeName)];
    for (const place of [TOPIC.everywhere, TOPIC.node(nodeName), ...namespaces.map(TOPIC.namespace)])
      this.#follow(reader, place);
  }

  #follow(reader: Reader, place: string): void {
    reader.follow(place);
    for (const topic of this.#needs.of(place)) reader.follow(topic);
  }

  #leave(reader: Reader, place: string): void {
    reader.leave(place);
    for (const topic of this.#needs.of(place)) reader.leave(topic);
  }

  #apply({ kind, key, before, after }: StoreChange): void {
    if (kind === 'Pod') this.#pod(before, after);
    else if (kind === 'Namespace') {
      const [was, is] = [before, after].map((one) => this.#catalogue.topicsOfNamespace(one));
      this.#tell(`Namespace/${key}`, was ?? [], is ?? []);
    } else if (IDENTITIES.includes(kind)) {
      // What it gives out is told by the registrations.
      if (before === undefined || after === undefined)
        this.#touch(`${kind}/${key}`, [TOPIC.identity(`${kind}/${key}`)]);
    } else if (kind === 'AccessPolicy' || EVERYWHERE.includes(kind)) this.#object(sent(before), sent(after));
  }

  /** An object that nodes are sent as it is. */
  #object(before: StoredObject | undefined, after: StoredObject | undefined): void {
    const object = after ?? before;
    if (object === undefined) return;
    // A status is written oftener than a policy, and no agent asks for it.
    if (before !== undefined && after !== undefined && objectItem(before).json === objectItem(after).json)
      return;
    const { kind, metadata } = object;
    const key = keyOf(object);
    const namespace = metadata.namespace ?? '';
    const place = kind === 'AccessPolicy' ? TOPIC.namespace(namespace) : TOPIC.everywhere;
    if (kind === 'AccessPolicy') this.#catalogue.list(namespace, key, after !== undefined);
    this.#tell(key, [place], after === undefined ? [] : [place]);
    if (POLICIES.includes(kind)) this.#asks(place, key, after);
  }

  /** What a policy asks for may be something else than before. */
  #asks(place: string, key: string, policy: StoredObject | undefined): void {
    const needs = policy === undefined ? [] : needsOf(policy, this.#trustDomain);
    const { come, gone } = this.#needs.set(place, key, needs);
    if (come.length === 0 && gone.length === 0) return;
    for (const reader of this.#followers.get(place) ?? []) {
      for (const topic of come) reader.follow(topic);
      for (const topic of gone) reader.leave(topic);
    }
  }

  #pod(before: StoredObject | undefined, after: StoredObject | undefined): void {
    if (after !== undefined) this.#holder(after);
    const [from, to] = [nodeOf(before), nodeOf(after)];
    const { namespace, key } = nameOf(before, after);
    const { pods } = this.#catalogue;
    const gone = from !== undefined && from !== to && pods.remove(from, namespace, key);
    const come = to !== undefined && pods.add(to, namespace, key);
    if (from !== to || !isSamePod(before, after)) this.#tell(`Pod/${key}`, topicsOf(from), topicsOf(to));
    const place = TOPIC.namespace(namespace);
    if (come) for (const reader of this.#on(to)) this.#follow(reader, place);
    if (gone) for (const reader of this.#on(from)) this.#leave(reader, place);
  }

  /** What a pod is may be asked of a caller. */
  #holder(pod: StoredObject): void {
    const { knownHolders } = this.#catalogue;
    const facts = knownHolders === undefined ? undefined : podFacts(pod);
    if (facts !== undefined && knownHolders !== undefined) this.#held(knownHolders.pod(facts));
  }

  /** Who follows a node. */
  #on(nodeName: string): Iterable<Reader> {
    return this.#followers.get(TOPIC.node(nodeName)) ?? [];
  }

  #registered(delta: RegistrationDelta): void {
    for (const { subject, nodeName } of [...delta.changed, ...delta.removed])
      if (subject.kind === 'pod')
        this.#touch(`Pod/${subject.namespace}/${subject.name}`, [TOPIC.node(nodeName)]);
    const { knownHolders } = this.#catalogue;
    if (knownHolders !== undefined) this.#held(knownHolders.registrations(delta));
  }

  #held({ sources, identities }: HolderChanges): void {
    for (const uri of sources) this.#touch(`Source/${uri}`, topicsOfSource(uri));
    for (const key of identities) this.#touch(key, [TOPIC.identity(key)]);
  }

  /** Has an item of these topics sent anew, or its end told: whichever it is when it is due. */
  #touch(key: string, topics: readonly string[]): void {
    this.#tell(key, topics, topics);
  }

  #tell(key: string, before: readonly string[], after: readonly string[]): void {
    const told = new Set<Reader>();
    for (const topic of new Set([...before, ...after])) {
      for (const reader of this.#followers.get(topic) ?? []) {
        if (told.has(reader)) continue;
        told.add(reader);
        reader.changed(key, before, after);
      }
    }
  }
}

function nameOf(
  before: StoredObject | undefined,
  after: StoredObject | undefined,
): { readonly namespace: string; readonly key: string } {
  const { namespace = '', name = '' } = (after ?? before)?.metadata ?? {};
  return { namespace, key: `${namespace}/${name}` };
}

const topicsOf = (node: string | undefined): readonly string[] =>
  node === undefined ? [] : [TOPIC.node(node)];

const sent = (object: StoredObject | undefined): StoredObject | undefined =>
  object !== undefined && isSent(object) ? object : undefined;

/** Whether two states of a pod are one as a target: most changes of pods are of their status. */
function isSamePod(before: StoredObject | undefined, after: StoredObject | undefined): boolean {
  if (before === undefined || after === undefined) return false;
  const [was, is] = [podFacts(before), podFacts(after)];
  if (was === undefined || is === undefined) return false;
  return podItem(before, was, []).revision === podItem(after, is, []).revision;
}
