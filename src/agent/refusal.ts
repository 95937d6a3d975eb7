import type { Clock } from '../lib/clock.js';
import type { ExplainSubject, NodeApi } from '../rpc/node-api.js';
import { StatusError } from '../rpc/service.js';
import { withTimeout } from './deadline.js';
import { describeSubject, type Subject } from './subject.js';
import type { SubjectView } from './views.js';

/** What is known when a caller is refused. */
export interface RefusalParts {
  readonly api: Pick<NodeApi, 'explain'>;
  readonly clock: Clock;
  /** Whether a first snapshot and a bundle have come. */
  readonly synced: () => boolean;
  /** Whether both streams from the server are open now. */
  readonly connected: () => boolean;
}

/** How long the server may take to explain, in milliseconds. The caller has waited long enough. */
const EXPLAIN_MS = 1_000;
const MAX_EXPLANATION = 1_024;

/**
 * Why a caller gets nothing: Unavailable when it may be that it has an identity and we do not know it (now), so that
 * the client comes again; PermissionDenied when it has none.
 */
export async function refusalFor(
  parts: RefusalParts,
  view: SubjectView,
  signal: AbortSignal,
): Promise<StatusError> {
  if (!parts.synced())
    return new StatusError('Unavailable', 'the agent has not heard from its server yet; try again', {
      code: 'NotSynced',
    });
  const who = describeSubject(view.subject);
  if (view.registrations.length > 0) return notSigned(view, who);
  if (view.awaitsContainer)
    return new StatusError(
      'Unavailable',
      `an identity is for containers of ${who} by themselves, and the API server has not told of this one yet; try again`,
      { code: 'ContainerUnknown' },
    );
  if (!parts.connected())
    return new StatusError(
      'Unavailable',
      `no identity is known for ${who}, and the agent has lost its server, so there may be one; try again`,
      { code: 'ServerLost' },
    );
  const why = await explain(parts, view.subject, signal);
  return new StatusError(
    'PermissionDenied',
    `no identity is issued to ${who}${why === '' ? '' : `: ${why}`}`,
    {
      code: 'NoIdentity',
    },
  );
}

function notSigned(view: SubjectView, who: string): StatusError {
  const { failures } = view;
  const [first] = failures;
  if (first === undefined)
    return new StatusError('Unavailable', `the identities of ${who} are not signed yet; try again`, {
      code: 'NotSigned',
    });
  const { registration, failure } = first;
  // Unless every refusal is final, it is worth coming again.
  const final =
    failures.length === view.registrations.length && failures.every(({ failure: one }) => !one.retryable);
  return new StatusError(
    final ? 'PermissionDenied' : 'Unavailable',
    `no SVID is signed for ${registration.spiffeId.uri} of ${who}: ${failure.message}`,
    { code: failure.code },
  );
}

async function explain({ api, clock }: RefusalParts, subject: Subject, signal: AbortSignal): Promise<string> {
  if (api.explain === undefined) return '';
  const asked: ExplainSubject =
    subject.kind === 'pod'
      ? {
          ...{ kind: 'pod', uid: subject.uid },
          ...(subject.container === undefined ? {} : { container: subject.container }),
        }
      : { kind: 'process', facts: subject.facts };
  try {
    const text = await withTimeout(clock, EXPLAIN_MS, signal, 'explaining', async (stop) =>
      api.explain?.(asked, stop),
    );
    // It goes into a status message: one line, bounded.
    return (text ?? '').replace(/\s+/g, ' ').trim().slice(0, MAX_EXPLANATION);
  } catch {
    // The refusal stands without it.
    return '';
  }
}
