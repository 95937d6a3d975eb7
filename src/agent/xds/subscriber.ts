import type { EnvoyIssuer } from '../../access/mesh/envoy/issuers.js';
import type { Clock } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import type { Watched } from '../../lib/watched.js';
import type { Status } from '../../rpc/gen/google/rpc/status.js';
import { callLogger } from '../../rpc/request-id.js';
import { type CallContext, StatusError } from '../../rpc/service.js';
import type { TargetFinder } from '../authorization/target.js';
import type { WatchedAuthorizationViews } from '../authorization/view.js';
import { type CallParts, type CallSession, openSession } from '../session.js';
import { describeSubject } from '../subject.js';
import type { FilterName } from './filter-name.js';
import { FILTER_TYPE_URL, serveFilters, type FilterSources, type ServedFilter } from './filters.js';

/** What the service is made from. */
export interface ExtensionConfigParts {
  readonly views: WatchedAuthorizationViews;
  /** The issuers of end users' tokens, with their keys as they are now. */
  readonly issuers: Watched<readonly EnvoyIssuer[]>;
  readonly targets: TargetFinder;
  /** Of the agent: who calls, and how often it may. */
  readonly calls: CallParts;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What one kind of stream makes of requests and of filters. */
export interface FilterSubscriber<Req> {
  /** Takes a request in. True when there may be something to send. Throws StatusError when it makes no sense. */
  take(request: Req): boolean;
  /** What is asked for now. */
  readonly names: readonly FilterName[];
  /** Sends of these, which are those asked for, what the client does not have yet. */
  send(filters: readonly ServedFilter[]): Promise<void>;
}

const MAX_LOGGED_ERROR = 512;
/** The longest that is waited for an instant at which policies change by themselves; timers know no longer time. */
const MAX_WAIT_MS = 24 * 3_600_000;

/**
 * Runs a stream: requests, edits and instants alike only wake one loop that sends what is due by then, so nothing queues
 * up for a client that does not read.
 */
export async function serveFilterStream<Req>(
  parts: ExtensionConfigParts,
  context: CallContext,
  requests: AsyncIterable<Req>,
  start: (session: CallSession) => FilterSubscriber<Req>,
): Promise<void> {
  const session = await openSession(parts.calls, context, 'stream');
  const poke = (): void => session.waiter.poke();
  const unsubscribes = [parts.views.subscribe(poke), parts.issuers.watch(poke)];
  try {
    const subscriber = start(session);
    const reading = readRequests(requests, session, subscriber);
    let sent: Pick<FilterSources, 'view' | 'issuers'> | undefined;
    let until: number | undefined;
    while (!reading.ended) {
      if (reading.error !== undefined) throw reading.error;
      const time = parts.clock.now();
      const [view, issuers] = [parts.views.current, parts.issuers.value];
      const over = until !== undefined && time >= until;
      const changed = sent?.view !== view || sent?.issuers !== issuers;
      if (subscriber.names.length > 0 && (reading.due || over || changed)) {
        reading.due = false;
        sent = { view, issuers };
        const target = view === undefined ? undefined : await parts.targets.find(view, context);
        const served = await serveFilters(subscriber.names, { view, target, issuers, time });
        until = served.until;
        await subscriber.send(served.filters);
      }
      await session.waiter.wait(
        until === undefined ? undefined : Math.min(Math.max(until - parts.clock.now(), 0), MAX_WAIT_MS),
      );
    }
  } finally {
    for (const unsubscribe of unsubscribes) unsubscribe();
    session.close();
  }
}

interface Reading {
  error: Error | undefined;
  ended: boolean;
  /** A request has come that may need an answer. */
  due: boolean;
}

function readRequests<Req>(
  requests: AsyncIterable<Req>,
  session: CallSession,
  subscriber: FilterSubscriber<Req>,
): Reading {
  const state: Reading = { error: undefined, ended: false, due: false };
  const read = async (): Promise<void> => {
    try {
      for await (const request of requests) {
        // Each may cost an answer, so each counts.
        session.parts.fairness.call(session.subject);
        if (subscriber.take(request)) state.due = true;
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

/** Refuses another type than filters. Throws StatusError InvalidArgument. */
export function checkFilterType(typeUrl: string): void {
  if (typeUrl !== '' && typeUrl !== FILTER_TYPE_URL)
    throw new StatusError('InvalidArgument', `this service gives resources of type ${FILTER_TYPE_URL} only`);
}

/** Says in the log that the client did not take what was sent. */
export function logFilterRejection(logger: Logger, session: CallSession, error: Status): void {
  callLogger(logger, session).warn('Envoy rejected filters; it keeps those it has', {
    subject: describeSubject(session.subject),
    error: error.message.slice(0, MAX_LOGGED_ERROR),
  });
}
