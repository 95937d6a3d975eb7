import type { DeltaDiscoveryRequest } from '../../rpc/gen/envoy/discovery/discovery.js';
import { DeltaDiscoveryResponse } from '../../rpc/gen/envoy/discovery/discovery.js';
import type { MessageSink } from '../../rpc/service.js';
import type { CallSession } from '../session.js';
import { type HandedSecret, SECRET_TYPE_URL, secretNames, secretOf, type SecretStyle } from './secrets.js';
import { readNames } from './sotw.js';
import { checkCount, checkTypeUrl, logRejection, type SdsParts, type Subscriber } from './subscriber.js';

/** What the client is known to have of a name: a version, or the knowledge that there is none. */
const NONE = Symbol('none');
type Known = string | typeof NONE;

/** The incremental variant of xDS: only what changed goes out, and what is gone is said. */
export class DeltaSubscriber implements Subscriber<DeltaDiscoveryRequest> {
  readonly #parts: SdsParts;
  readonly #session: CallSession;
  readonly #sink: MessageSink<DeltaDiscoveryResponse>;
  readonly #style: SecretStyle;
  readonly #names = new Set<string>();
  /** By name; rejected versions too, so that they are not sent again and again. */
  readonly #known = new Map<string, Known>();
  #asked = false;
  #all = false;
  #node = '';
  #nonce = 0;

  constructor(
    parts: SdsParts,
    session: CallSession,
    sink: MessageSink<DeltaDiscoveryResponse>,
    style: SecretStyle,
  ) {
    this.#parts = parts;
    this.#session = session;
    this.#sink = sink;
    this.#style = style;
  }

  get asked(): boolean {
    return this.#asked;
  }

  take(request: DeltaDiscoveryRequest): void {
    checkTypeUrl(request.typeUrl);
    this.#node = request.node?.id ?? this.#node;
    if (request.errorDetail !== undefined)
      logRejection(this.#parts, this.#session, this.#node, request.errorDetail);
    const subscribe = request.resourceNamesSubscribe.filter((name) => name !== '*');
    if (!this.#asked) {
      // A first request that names nothing asks for everything (xDS, "wildcard").
      this.#all = request.resourceNamesSubscribe.length === 0;
      const have = Object.entries(request.initialResourceVersions);
      checkCount(have.length);
      for (const [name, version] of have) this.#known.set(name, version);
    }
    if (request.resourceNamesSubscribe.includes('*')) this.#all = true;
    for (const name of readNames(subscribe, this.#style)) {
      // Asked for anew, so it is sent anew, except that a client that reconnects says what it has.
      if (this.#asked) this.#known.delete(name);
      this.#names.add(name);
    }
    for (const name of request.resourceNamesUnsubscribe) {
      if (name === '*') this.#all = false;
      this.#names.delete(name);
      this.#known.delete(name);
    }
    checkCount(this.#names.size);
    this.#asked = true;
  }

  async send({ view, waiter }: CallSession): Promise<{ missing: readonly string[]; served: boolean }> {
    const wanted = new Set([...this.#names, ...(this.#all ? secretNames(view) : [])]);
    const changed: HandedSecret[] = [];
    const missing: string[] = [];
    for (const name of wanted) {
      const secret = secretOf(view, name, this.#style);
      if (secret !== undefined) {
        if (this.#known.get(name) !== secret.version) changed.push(secret);
      } else if (!this.#known.has(name)) missing.push(name);
    }
    if (this.#all && view.identities.length === 0 && this.#known.size === 0)
      missing.push(this.#style.names.defaultSvid);
    const gone: string[] = [];
    for (const [name, known] of this.#known)
      if (known !== NONE && secretOf(view, name, this.#style) === undefined) gone.push(name);
    // What went while all of it is being replaced comes back in a moment.
    const removed = view.completeness === 'partial' || view.completeness === 'empty' ? [] : gone;
    if (changed.length + removed.length > 0) await this.#write(changed, removed, waiter);
    return { missing, served: [...this.#known.values()].some((known) => known !== NONE) };
  }

  async giveUp(missing: readonly string[]): Promise<boolean> {
    const { view, waiter } = this.#session;
    // Without any identity the caller is refused, as everywhere.
    if (view.registrations.length === 0 || view.ownBundle === undefined) return false;
    const named = missing.filter((name) => this.#names.has(name));
    if (named.length === 0) return false;
    await this.#write([], named, waiter);
    return true;
  }

  async #write(
    changed: readonly HandedSecret[],
    removed: readonly string[],
    waiter: CallSession['waiter'],
  ): Promise<void> {
    for (const { name, version } of changed) this.#known.set(name, version);
    for (const name of removed) this.#known.set(name, NONE);
    this.#nonce++;
    const response = DeltaDiscoveryResponse.encode({
      systemVersionInfo: '',
      resources: changed.map(({ name, version, resource }) => ({ name, version, resource })),
      typeUrl: SECRET_TYPE_URL,
      nonce: String(this.#nonce),
      removedResources: [...removed],
    }).finish();
    await waiter.guard(this.#sink.write(response));
  }
}
