import type { Registration } from '../identity/registration/registration.js';
import type { Clock } from '../lib/clock.js';
import type { Bundles, HandedBundle } from './bundles.js';
import { type ContainerShare, shareOf } from './container-share.js';
import { type NodeRegistrations, uidOnNode } from './registrations.js';
import type { AttestationDepth } from './attestor.js';
import { deeperLook, matching, type Subject } from './subject.js';
import type { CachedSvid } from './svid.js';
import { PokeQueue, type Waiter } from './waiter.js';
import type { SigningFailure, X509Keeper } from './x509-keeper.js';

/** What views are made from. */
export interface ViewSources {
  readonly registrations: NodeRegistrations;
  readonly x509: Pick<X509Keeper, 'svid' | 'failure' | 'urge'>;
  readonly bundles: Bundles;
  readonly clock: Clock;
}

/** A registration with its SVID. */
export interface Identity {
  readonly registration: Registration;
  readonly svid: CachedSvid;
}

/**
 * How much of the subject's X.509 identities is here: none registered; registered but no SVID yet; some of them still
 * on their way; or all that can be had now.
 */
export type Completeness = 'unregistered' | 'empty' | 'partial' | 'complete';

interface Look {
  readonly registrations: readonly Registration[];
  readonly awaitsContainer: boolean;
  readonly identities: readonly Identity[];
  readonly completeness: Completeness;
  readonly deeper: AttestationDepth | undefined;
  /** When the first of the SVIDs expires: the look is stale then. */
  readonly until: number;
  readonly messages: Map<string, unknown>;
}

/**
 * What one subject gets, shared by all its calls: looked up and encoded once per change, not once per stream. Lives
 * only while a call uses it.
 */
export class SubjectView {
  readonly subject: Subject;
  readonly waiters = new Set<Waiter>();
  readonly #sources: ViewSources;
  readonly #lastBytes = new Map<string, Uint8Array>();
  #look: Look | undefined;

  constructor(subject: Subject, sources: ViewSources) {
    this.subject = subject;
    this.#sources = sources;
  }

  /** The subject's registrations, the default first. */
  get registrations(): readonly Registration[] {
    return this.#current().registrations;
  }

  /** Whether nothing is known yet of the subject's container, of which there may be more then. */
  get awaitsContainer(): boolean {
    return this.#current().awaitsContainer;
  }

  /** Those of them whose SVID is here, in the same order. */
  get identities(): readonly Identity[] {
    return this.#current().identities;
  }

  get completeness(): Completeness {
    return this.#current().completeness;
  }

  /** How much closer the process must be looked at, as a registration may match then. */
  get deeper(): AttestationDepth | undefined {
    return this.#current().deeper;
  }

  get ownBundle(): HandedBundle | undefined {
    return this.#sources.bundles.own;
  }

  /** The bundles that any of the subject's registrations federates with. */
  get foreignBundles(): readonly HandedBundle[] {
    return this.#sources.bundles.foreign(this.registrations.flatMap(({ federatesWith }) => federatesWith));
  }

  /** The latest refusals, of registrations that have no SVID. */
  get failures(): readonly { readonly registration: Registration; readonly failure: SigningFailure }[] {
    const found = [];
    for (const registration of this.registrations) {
      const failure = this.#sources.x509.failure(registration.id);
      if (failure !== undefined) found.push({ registration, failure });
    }
    return found;
  }

  /** A caller waits: its signatures come first. */
  urge(): void {
    this.#sources.x509.urge(this.registrations.map(({ id }) => id));
  }

  /** What `make` gives, made once until something changes. */
  memo<T>(name: string, make: () => T): T {
    const { messages } = this.#current();
    if (!messages.has(name)) messages.set(name, make());
    return messages.get(name) as T;
  }

  /** The same for bytes, and the same array as before when a change did not change them: nothing to send then. */
  bytes(name: string, make: () => Uint8Array): Uint8Array {
    return this.memo(name, () => {
      const made = make();
      const before = this.#lastBytes.get(name);
      if (before !== undefined && Buffer.compare(before, made) === 0) return before;
      this.#lastBytes.set(name, made);
      return made;
    });
  }

  invalidate(): void {
    this.#look = undefined;
  }

  #current(): Look {
    if (this.#look === undefined || this.#sources.clock.now() >= this.#look.until)
      this.#look = this.#lookUp();
    return this.#look;
  }

  #share(): ContainerShare {
    const { registrations: all } = this.#sources;
    const { subject } = this;
    if (subject.kind === 'pod') return shareOf(all.forPod(subject.uid), subject.container);
    return { given: matching(all.processes, subject.facts), awaited: false };
  }

  #lookUp(): Look {
    const { x509, registrations: all } = this.#sources;
    const { subject } = this;
    const { given: registrations, awaited } = this.#share();
    const identities: Identity[] = [];
    let coming = awaited ? 1 : 0;
    let until = Infinity;
    for (const registration of registrations) {
      const svid = x509.svid(registration.id);
      if (svid !== undefined) {
        identities.push({ registration, svid });
        until = Math.min(until, svid.notAfter);
      } else if (x509.failure(registration.id) === undefined) coming++;
    }
    return {
      registrations,
      awaitsContainer: awaited,
      identities,
      completeness: completeness(registrations.length, identities.length, coming),
      deeper: subject.kind === 'process' ? deeperLook(all.processes, subject) : undefined,
      until,
      messages: new Map(),
    };
  }
}

function completeness(registered: number, here: number, coming: number): Completeness {
  if (registered === 0) return 'unregistered';
  if (here === 0) return 'empty';
  return coming > 0 ? 'partial' : 'complete';
}

/** The views in use, and who is to be woken when something changes. */
export class Views {
  readonly #sources: ViewSources;
  readonly #views = new Map<string, { readonly view: SubjectView; users: number }>();
  /** By UID: each of a pod's containers has a view of its own, and so has its socket. */
  readonly #ofPods = new Map<string, Set<SubjectView>>();
  readonly #pokes = new PokeQueue();

  constructor(sources: ViewSources) {
    this.#sources = sources;
  }

  /** Uses the subject's view; `waiter` is poked on each change. End with {@link release}. */
  acquire(subject: Subject, waiter: Waiter): SubjectView {
    let used = this.#views.get(subject.key);
    if (used === undefined) {
      used = { view: new SubjectView(subject, this.#sources), users: 0 };
      this.#views.set(subject.key, used);
      if (subject.kind === 'pod') {
        const ofPod = this.#ofPods.get(subject.uid) ?? new Set();
        this.#ofPods.set(subject.uid, ofPod.add(used.view));
      }
    }
    used.users++;
    used.view.waiters.add(waiter);
    return used.view;
  }

  release(view: SubjectView, waiter: Waiter): void {
    view.waiters.delete(waiter);
    this.#pokes.remove(waiter);
    const used = this.#views.get(view.subject.key);
    if (used?.view !== view) return;
    used.users--;
    if (used.users > 0) return;
    this.#views.delete(view.subject.key);
    if (view.subject.kind !== 'pod') return;
    const ofPod = this.#ofPods.get(view.subject.uid);
    ofPod?.delete(view);
    if (ofPod?.size === 0) this.#ofPods.delete(view.subject.uid);
  }

  /** Whether somebody is connected that this registration is for. */
  inUse(registration: Registration): boolean {
    return this.#of(registration).some(({ waiters }) => waiters.size > 0);
  }

  /** This registration, or its SVID, came, changed or went. */
  changed(registration: Registration): void {
    for (const view of this.#of(registration)) this.#wake(view);
  }

  /** Something that concerns everybody changed: bundles, the connection. */
  allChanged(): void {
    for (const { view } of this.#views.values()) this.#wake(view);
  }

  get size(): number {
    return this.#views.size;
  }

  #of({ subject }: Registration): readonly SubjectView[] {
    if (subject.kind === 'pod') return [...(this.#ofPods.get(uidOnNode(subject)) ?? [])];
    return [...this.#views.values()]
      .map(({ view }) => view)
      .filter((view) => view.subject.kind === 'process');
  }

  #wake(view: SubjectView): void {
    view.invalidate();
    this.#pokes.add(view.waiters);
  }
}
