import type { HeldPolicyItem, PolicyItem, PolicyUpdate } from '../../rpc/node-api.js';
import type { StateSource } from '../state-stream.js';

/** What a reader asks of the feed. */
export interface ReaderFeed {
  /** False until everything is read: a snapshot would take away what agents hold. */
  readonly ready: boolean;
  /** An item as it is now; undefined when there is none of this key. */
  item(key: string): PolicyItem | undefined;
  /** The keys of the items of a topic. */
  members(topic: string): Iterable<string>;
  /** The topics that an item belongs to now. */
  topicsOf(key: string): readonly string[];
  attach(reader: Reader): void;
  detach(reader: Reader): void;
  /** The first follower of a topic has come, or the last one has gone. */
  followed(topic: string, reader: Reader, follows: boolean): void;
}

/** Keys that are remembered for a reader that is slow; beyond that it is sent everything. */
const MOST_PENDING = 20_000;

/** One agent's stream: which topics it follows, and what it is yet to be sent. It remembers nothing of what it was sent. */
export class Reader implements StateSource<PolicyUpdate> {
  readonly nodeName: string;
  readonly #feed: ReaderFeed;
  readonly #held: readonly HeldPolicyItem[];
  /** By how many causes each topic is followed. */
  readonly #topics = new Map<string, number>();
  /** True for keys to be sent, false for those that are gone. Undefined while everything is to be sent. */
  #pending: Map<string, boolean> | undefined;
  #begun = false;
  #wake: () => void = () => undefined;

  constructor(feed: ReaderFeed, nodeName: string, held: readonly HeldPolicyItem[]) {
    this.#feed = feed;
    this.nodeName = nodeName;
    this.#held = held;
  }

  subscribe(wake: () => void): () => void {
    this.#wake = wake;
    this.#feed.attach(this);
    return () => {
      this.#feed.detach(this);
      for (const topic of this.#topics.keys()) this.#feed.followed(topic, this, false);
      this.#topics.clear();
    };
  }

  /** Something has changed that this reader may be sent. */
  wake(): void {
    this.#wake();
  }

  follow(topic: string): void {
    const causes = this.#topics.get(topic) ?? 0;
    this.#topics.set(topic, causes + 1);
    if (causes > 0) return;
    this.#feed.followed(topic, this, true);
    if (this.#pending !== undefined) for (const key of this.#feed.members(topic)) this.#mark(key, true);
  }

  leave(topic: string): void {
    const causes = this.#topics.get(topic);
    if (causes === undefined) return;
    if (causes > 1) {
      this.#topics.set(topic, causes - 1);
      return;
    }
    this.#topics.delete(topic);
    this.#feed.followed(topic, this, false);
    for (const key of this.#feed.members(topic))
      if (!this.#feed.topicsOf(key).some((other) => this.#topics.has(other))) this.#mark(key, false);
  }

  /** An item has changed that belonged to some topics, and belongs to others now. */
  changed(key: string, before: readonly string[], after: readonly string[]): void {
    const has = after.some((topic) => this.#topics.has(topic));
    if (has || before.some((topic) => this.#topics.has(topic))) this.#mark(key, has);
  }

  take(): PolicyUpdate | undefined {
    if (!this.#feed.ready) return undefined;
    const pending = this.#pending;
    if (pending === undefined) return this.#whole();
    if (pending.size === 0) return undefined;
    this.#pending = new Map();
    const upserts: PolicyItem[] = [];
    const removed: string[] = [];
    for (const [key, has] of pending) {
      const item = has ? this.#feed.item(key) : undefined;
      if (item === undefined) removed.push(key);
      else upserts.push(item);
    }
    return { snapshot: false, upserts, removed };
  }

  #mark(key: string, has: boolean): void {
    if (this.#pending === undefined) return;
    this.#pending.set(key, has);
    if (this.#pending.size > MOST_PENDING) this.#pending = undefined;
    this.#wake();
  }

  #whole(): PolicyUpdate {
    this.#pending = new Map();
    const items = new Map<string, PolicyItem>();
    for (const topic of this.#topics.keys()) {
      for (const key of this.#feed.members(topic)) {
        const item = items.has(key) ? undefined : this.#feed.item(key);
        if (item !== undefined) items.set(key, item);
      }
    }
    const held = this.#begun ? [] : this.#held;
    this.#begun = true;
    if (held.length === 0) return { snapshot: true, upserts: [...items.values()], removed: [] };
    const removed: string[] = [];
    for (const { key, revision } of held) {
      const item = items.get(key);
      if (item === undefined) removed.push(key);
      else if (item.revision === revision) items.delete(key);
    }
    return { snapshot: false, upserts: [...items.values()], removed };
  }
}
