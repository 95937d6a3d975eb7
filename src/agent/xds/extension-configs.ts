import { createHash } from 'node:crypto';
import { denyEverything, envoyFilters } from '../../access/mesh/envoy/filters.js';
import type { InventoryWorkload } from '../../access/mesh/inventory.js';
import type { TargetWorkload } from '../../access/policy/model.js';
import { ZoneClock } from '../../access/policy/time-window.js';
import type { Clock } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import type { HandlersOf } from '../../rpc/definition.js';
import { envoyMessages } from '../../rpc/envoy-messages.js';
import { TypedExtensionConfig } from '../../rpc/gen/envoy/core/core.js';
import { type DiscoveryRequest, DiscoveryResponse } from '../../rpc/gen/envoy/discovery/discovery.js';
import type { ExtensionConfigDiscoveryServiceService } from '../../rpc/gen/envoy/extension/ecds.js';
import type { Any } from '../../rpc/gen/google/protobuf/any.js';
import { type CallContext, type MessageSink, StatusError } from '../../rpc/service.js';
import type { TargetFinder } from '../authorization/target.js';
import type { AuthorizationView, WatchedAuthorizationViews } from '../authorization/view.js';
import { type CallParts, type CallSession, openSession } from '../session.js';
import { describeSubject } from '../subject.js';
import { readFilterName, type FilterName } from './filter-name.js';

/** What the service is made from. */
export interface ExtensionConfigParts {
  readonly views: WatchedAuthorizationViews;
  readonly targets: TargetFinder;
  /** Of the agent: who calls, and how often it may. */
  readonly calls: CallParts;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Envoy's extension configuration discovery (v3), by method name. */
export type ExtensionConfigHandlers = HandlersOf<typeof ExtensionConfigDiscoveryServiceService>;

const TYPE_URL = 'type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig';
/** The most filters that one stream may ask for. */
const MAX_FILTERS = 16;
const MAX_LOGGED_ERROR = 512;
/** The longest that is waited for an instant at which policies change by themselves; timers know no longer time. */
const MAX_WAIT_MS = 24 * 3_600_000;

/**
 * Serves the RBAC filters of the workload whose Envoy asks, each again as soon as a policy or the time makes another of
 * it. While the policies cannot be read, the filters deny everything.
 */
export function extensionConfigHandlers(parts: ExtensionConfigParts): ExtensionConfigHandlers {
  return {
    async streamExtensionConfigs(requests, context, sink) {
      const session = await openSession(parts.calls, context, 'stream');
      const unsubscribe = parts.views.subscribe(() => session.waiter.poke());
      try {
        const stream = new FilterStream(parts, context, session, sink);
        const reading = readRequests(requests, session, stream);
        while (!reading.ended) {
          if (reading.error !== undefined) throw reading.error;
          const until = await stream.send();
          const wait = until === undefined ? undefined : until - parts.clock.now();
          await session.waiter.wait(
            wait === undefined ? undefined : Math.min(Math.max(wait, 0), MAX_WAIT_MS),
          );
        }
      } finally {
        unsubscribe();
        session.close();
      }
    },
  };
}

interface Reading {
  error: Error | undefined;
  ended: boolean;
}

function readRequests(
  requests: AsyncIterable<DiscoveryRequest>,
  session: CallSession,
  stream: FilterStream,
): Readonly<Reading> {
  const state: Reading = { error: undefined, ended: false };
  const read = async (): Promise<void> => {
    try {
      for await (const request of requests) {
        // Each may cost an answer, so each counts.
        session.parts.fairness.call(session.subject);
        stream.take(request);
        session.waiter.poke();
      }
      state.ended = true;
    } catch (error) {
      state.error = error instanceof Error ? error : new Error(String(error));
    }
    session.waiter.poke();
  };
  void read();
  return state;
}

/** One stream: each response holds all filters that are asked for, and goes out when one of them is another. */
class FilterStream {
  readonly #parts: ExtensionConfigParts;
  readonly #context: CallContext;
  readonly #session: CallSession;
  readonly #sink: MessageSink<DiscoveryResponse>;
  #names: readonly FilterName[] = [];
  #nonce = 0;
  /** The version that was sent last, taken or rejected: a rejected one is not sent again and again. */
  #sent: string | undefined;
  #view: AuthorizationView | undefined;
  #until: number | undefined;
  #due = true;

  constructor(
    parts: ExtensionConfigParts,
    context: CallContext,
    session: CallSession,
    sink: MessageSink<DiscoveryResponse>,
  ) {
    this.#parts = parts;
    this.#context = context;
    this.#session = session;
    this.#sink = sink;
  }

  take(request: DiscoveryRequest): void {
    const { typeUrl, responseNonce, errorDetail, resourceNames } = request;
    if (typeUrl !== '' && typeUrl !== TYPE_URL)
      throw new StatusError('InvalidArgument', `this service gives resources of type ${TYPE_URL} only`);
    // An answer to an older response: the client has a newer one by now, and will answer that.
    if (responseNonce !== '' && responseNonce !== String(this.#nonce)) return;
    if (errorDetail !== undefined) {
      this.#parts.logger.warn('Envoy rejected filters; it keeps those it has', {
        subject: describeSubject(this.#session.subject),
        error: errorDetail.message.slice(0, MAX_LOGGED_ERROR),
      });
    }
    if (resourceNames.length > MAX_FILTERS)
      throw new StatusError('InvalidArgument', `one stream may ask for ${MAX_FILTERS} filters`);
    const names = [...new Set(resourceNames)];
    if (names.join(' ') === this.#names.map(({ text }) => text).join(' ')) return;
    this.#names = names.map(readFilterName);
    this.#sent = undefined;
    this.#due = true;
  }

  /** Sends what the client does not have yet; the instant at which there may be something else by itself. */
  async send(): Promise<number | undefined> {
    const view = this.#parts.views.current;
    const over = this.#until !== undefined && this.#parts.clock.now() >= this.#until;
    if (this.#names.length === 0 || (!this.#due && !over && view === this.#view)) return this.#until;
    const { resources, until } = await this.#render(view);
    this.#view = view;
    this.#until = until;
    this.#due = false;
    const version = versionOf(resources);
    if (version === this.#sent) return until;
    this.#sent = version;
    this.#nonce++;
    const response = DiscoveryResponse.encode({
      versionInfo: version,
      resources,
      canary: false,
      typeUrl: TYPE_URL,
      nonce: String(this.#nonce),
    }).finish();
    await this.#session.waiter.guard(this.#sink.write(response));
    return until;
  }

  async #render(
    view: AuthorizationView | undefined,
  ): Promise<{ readonly resources: Any[]; readonly until: number | undefined }> {
    const { targets, clock } = this.#parts;
    const target = view === undefined ? undefined : await targets.find(view, this.#context);
    const { encode } = await envoyMessages();
    const instants: number[] = [];
    const resources = this.#names.map((name) => {
      const { config, until } = filterOf(name, view, target, clock.now());
      if (until !== undefined) instants.push(until);
      const value = TypedExtensionConfig.encode({ name: name.text, typedConfig: encode(config) }).finish();
      return { typeUrl: TYPE_URL, value: Buffer.from(value) };
    });
    return { resources, until: instants.length === 0 ? undefined : Math.min(...instants) };
  }
}

interface RenderedFilter {
  readonly config: Readonly<Record<string, unknown>>;
  readonly until: number | undefined;
}

function filterOf(
  { kind, port, plaintext }: FilterName,
  view: AuthorizationView | undefined,
  target: TargetWorkload | undefined,
  time: number,
): RenderedFilter {
  if (view === undefined || target === undefined)
    return { config: denyEverything(kind === 'http', 'policies-unreadable'), until: undefined };
  // Its ports and IDs have no say in what is rendered, only in what is told about it.
  const workload: InventoryWorkload = { ...target, spiffeIds: [], ports: [] };
  const { policies: set, inventory } = view;
  // Without issuers: Envoy's own configuration may lack the filter that verifies tokens, and what a rule says of tokens
  // must not go by unseen then.
  const context = { set, inventory, time, zones: ZONES };
  const filters = envoyFilters(workload, context, { plaintext, ...(port === undefined ? {} : { port }) });
  return { config: filters.enforcing[kind], until: filters.until };
}

const ZONES = new ZoneClock();

function versionOf(resources: readonly Any[]): string {
  const hash = createHash('sha256');
  for (const { value } of resources) hash.update(`${value.length} `).update(value);
  return hash.digest('hex').slice(0, 32);
}
