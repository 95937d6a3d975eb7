import type { Logger } from '../../lib/logger.js';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
} from '../../rpc/gen/envoy/discovery/discovery.js';
import type { MessageSink } from '../../rpc/service.js';
import type { CallSession } from '../session.js';
import { checkFilterCount, readFilterName, type FilterName } from './filter-name.js';
import { FILTER_TYPE_URL, type ServedFilter } from './filters.js';
import { checkFilterType, logFilterRejection, type FilterSubscriber } from './subscriber.js';

/** The incremental variant of xDS: only what changed goes out. Filters are never removed: there is one for each name. */
export class DeltaFilters implements FilterSubscriber<DeltaDiscoveryRequest> {
  readonly #logger: Logger;
  readonly #session: CallSession;
  readonly #sink: MessageSink<DeltaDiscoveryResponse>;
  readonly #names = new Map<string, FilterName>();
  /** What the client has, by name; rejected versions too, so that they are not sent again and again. */
  readonly #known = new Map<string, string>();
  #asked = false;
  #nonce = 0;

  constructor(logger: Logger, session: CallSession, sink: MessageSink<DeltaDiscoveryResponse>) {
    this.#logger = logger;
    this.#session = session;
    this.#sink = sink;
  }

  get names(): readonly FilterName[] {
    return [...this.#names.values()];
  }

  take(request: DeltaDiscoveryRequest): boolean {
    const { typeUrl, errorDetail, resourceNamesSubscribe, resourceNamesUnsubscribe } = request;
    checkFilterType(typeUrl);
    if (errorDetail !== undefined) logFilterRejection(this.#logger, this.#session, errorDetail);
    // Names may be anything, so there is no list of all of them to give for "*".
    const subscribe = resourceNamesSubscribe.filter((name) => name !== '*');
    checkFilterCount(subscribe.length);
    for (const name of subscribe) {
      // Asked for anew, so it is sent anew, except that a client that reconnects says what it has.
      this.#known.delete(name);
      this.#names.set(name, readFilterName(name));
    }
    checkFilterCount(this.#names.size);
    if (!this.#asked)
      for (const [name, version] of Object.entries(request.initialResourceVersions))
        if (this.#names.has(name)) this.#known.set(name, version);
    this.#asked = true;
    for (const name of resourceNamesUnsubscribe) {
      this.#names.delete(name);
      this.#known.delete(name);
    }
    return subscribe.length > 0;
  }

  async send(filters: readonly ServedFilter[]): Promise<void> {
    const changed = filters.filter(
      ({ name, version }) => this.#names.has(name) && this.#known.get(name) !== version,
    );
    if (changed.length === 0) return;
    for (const { name, version } of changed) this.#known.set(name, version);
    this.#nonce++;
    const response = DeltaDiscoveryResponse.encode({
      systemVersionInfo: '',
      resources: changed.map(({ name, version, resource }) => ({ name, version, resource })),
      typeUrl: FILTER_TYPE_URL,
      nonce: String(this.#nonce),
      removedResources: [],
    }).finish();
    await this.#session.waiter.guard(this.#sink.write(response));
  }
}
