import type { Logger } from '../../lib/logger.js';
import type { Status } from '../../rpc/gen/google/rpc/status.js';
import { callLogger } from '../../rpc/request-id.js';
import { type CallContext, StatusError } from '../../rpc/service.js';
import { type CallParts, type CallSession, openSession } from '../session.js';
import { describeSubject } from '../subject.js';
import { type SecretStyle, SECRET_TYPE_URL, secretNames } from './secrets.js';

/** What the handlers are made from. */
export interface SdsParts extends CallParts {
  readonly logger: Logger;
}

/** The most secrets that one stream may ask for. */
export const MAX_SECRETS = 256;
const MAX_LOGGED_ERROR = 512;

/** What both kinds of stream make of a view: sends what is due. */
export interface Subscriber<Req> {
  /** Takes a request of the client in. Throws StatusError when it makes no sense. */
  take(request: Req): void;
  /** False until the first request. */
  readonly asked: boolean;
  /** Sends what the client does not have yet; tells what is missing, and whether anything was ever sent. */
  send(session: CallSession): Promise<{ readonly missing: readonly string[]; readonly served: boolean }>;
  /** These stay missing. True when the client has been told in the stream; else the stream ends. */
  giveUp(missing: readonly string[]): Promise<boolean>;
}

/**
 * Runs a secret stream: requests and changes alike only wake one loop that sends what is due by then, so nothing
 * queues up between a client that asks and one that does not read.
 */
export async function serveSubscriber<Req>(
  parts: SdsParts,
  context: CallContext,
  requests: AsyncIterable<Req>,
  start: (session: CallSession) => Subscriber<Req>,
  style: SecretStyle,
): Promise<void> {
  const session = await openSession(parts, context, 'stream');
  try {
    const subscriber = start(session);
    const reader = readRequests(requests, session, subscriber);
    let missingSince: number | undefined;
    let missed = '';
    for (;;) {
      await session.refresh();
      if (reader.error !== undefined) throw reader.error;
      if (reader.ended) return;
      if (!subscriber.asked) {
        await session.waiter.wait();
        continue;
      }
      const { missing, served } = await subscriber.send(session);
      if (missing.length === 0 || missing.join(' ') !== missed) missingSince = undefined;
      missed = missing.join(' ');
      if (missing.length === 0) {
        session.unhold();
        await session.waiter.wait();
        continue;
      }
      const now = parts.clock.monotonic();
      missingSince ??= now;
      const left = missingSince + parts.limits.holdMs - now;
      if (left > 0) {
        if (!served) session.hold();
        else session.view.urge();
        await session.waiter.wait(left);
        continue;
      }
      session.unhold();
      if (!(await subscriber.giveUp(missing))) throw await notGiven(session, missing, style);
      await session.waiter.wait();
    }
  } finally {
    session.close();
  }
}

function readRequests<Req>(
  requests: AsyncIterable<Req>,
  session: CallSession,
  subscriber: Subscriber<Req>,
): { readonly error: Error | undefined; readonly ended: boolean } {
  const state: { error: Error | undefined; ended: boolean } = { error: undefined, ended: false };
  const read = async (): Promise<void> => {
    try {
      for await (const request of requests) {
        if (state.ended) return;
        // Each may cost an answer, so each counts.
        session.parts.fairness.call(session.subject);
        subscriber.take(request);
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

/** Why the caller does not get these. */
export async function notGiven(
  session: CallSession,
  missing: readonly string[],
  style: SecretStyle,
): Promise<StatusError> {
  const { view } = session;
  const { defaultSvid, defaultBundle } = style.names;
  if (view.registrations.length === 0 || view.failures.length > 0 || view.ownBundle === undefined)
    return session.refusal();
  const has = [defaultSvid, defaultBundle, ...secretNames(view)].slice(0, 16);
  return new StatusError(
    'PermissionDenied',
    `${describeSubject(session.subject)} is not given ${missing.slice(0, 8).join(', ')}; it may have ${has.join(', ')}`,
    { code: 'SecretNotGiven' },
  );
}

/** Refuses another type than secrets. Throws StatusError InvalidArgument. */
export function checkTypeUrl(typeUrl: string): void {
  if (typeUrl === '' || typeUrl === SECRET_TYPE_URL) return;
  throw new StatusError('InvalidArgument', `this service gives resources of type ${SECRET_TYPE_URL} only`);
}

/** Refuses too many names. Throws StatusError InvalidArgument. */
export function checkCount(count: number): void {
  if (count > MAX_SECRETS)
    throw new StatusError(
      'InvalidArgument',
      `${count} secrets are asked for; one stream may have ${MAX_SECRETS}`,
    );
}

/** Says in the log that the client did not take what was sent. */
export function logRejection(parts: SdsParts, session: CallSession, node: string, error: Status): void {
  callLogger(parts.logger, session).warn('Envoy rejected secrets; it keeps those it has', {
    subject: describeSubject(session.subject),
    node: node.slice(0, 256),
    error: error.message.slice(0, MAX_LOGGED_ERROR),
  });
}
