import { createHash } from 'node:crypto';
import type { Logger } from '../../lib/logger.js';
import { type DiscoveryRequest, DiscoveryResponse } from '../../rpc/gen/envoy/discovery/discovery.js';
import type { MessageSink } from '../../rpc/service.js';
import type { CallSession } from '../session.js';
import { checkFilterCount, readFilterName, type FilterName } from './filter-name.js';
import { FILTER_TYPE_URL, type ServedFilter } from './filters.js';
import { checkFilterType, logFilterRejection, type FilterSubscriber } from './subscriber.js';

/** State of the world: each response holds all filters that are asked for, and goes out when one of them is another. */
export class SotwFilters implements FilterSubscriber<DiscoveryRequest> {
  readonly #logger: Logger;
  readonly #session: CallSession;
  readonly #sink: MessageSink<DiscoveryResponse>;
  #names: readonly FilterName[] = [];
  #nonce = 0;
  /** The version that was sent last, taken or rejected: a rejected one is not sent again and again. */
  #sent: string | undefined;

  constructor(logger: Logger, session: CallSession, sink: MessageSink<DiscoveryResponse>) {
    this.#logger = logger;
    this.#session = session;
    this.#sink = sink;
  }

  get names(): readonly FilterName[] {
    return this.#names;
  }

  take(request: DiscoveryRequest): boolean {
    const { typeUrl, responseNonce, errorDetail, resourceNames } = request;
    checkFilterType(typeUrl);
    // An answer to an older response: the client has a newer one by now, and will answer that.
    if (responseNonce !== '' && responseNonce !== String(this.#nonce)) return false;
    if (errorDetail !== undefined) logFilterRejection(this.#logger, this.#session, errorDetail);
    checkFilterCount(resourceNames.length);
    const names = [...new Set(resourceNames)];
    if (names.join(' ') === this.#names.map(({ text }) => text).join(' ')) return false;
    this.#names = names.map(readFilterName);
    this.#sent = undefined;
    return true;
  }

  async send(filters: readonly ServedFilter[]): Promise<void> {
    const version = createHash('sha256')
      .update(filters.map(({ name, version: own }) => `${name} ${own}`).join(' '))
      .digest('hex')
      .slice(0, 32);
    if (version === this.#sent) return;
    this.#sent = version;
    this.#nonce++;
    const response = DiscoveryResponse.encode({
      versionInfo: version,
      resources: filters.map(({ resource }) => resource),
      canary: false,
      typeUrl: FILTER_TYPE_URL,
      nonce: String(this.#nonce),
    }).finish();
    await this.#session.waiter.guard(this.#sink.write(response));
  }
}
