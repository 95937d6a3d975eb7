import type { Clock } from '../lib/clock.js';
import { type CallContext, type PeerCredentials, StatusError } from '../rpc/service.js';
import type { AttestationDepth, Attestor } from './attestor.js';
import type { Fairness, Party } from './fairness.js';
import type { AgentLimits } from './limits.js';
import { podSubject, processSubject, type PodSubject, type Subject, userKey } from './subject.js';
import type { SubjectView, Views } from './views.js';
import { Waiter } from './waiter.js';

/** What the handlers of all services share. */
export interface CallParts {
  readonly clock: Clock;
  readonly limits: AgentLimits;
  readonly attestor: Attestor;
  readonly fairness: Fairness;
  readonly views: Views;
  /** Why this caller is refused: never empty-handed. `requestId` is of its call, if it is one. */
  refusal(view: SubjectView, signal: AbortSignal, requestId?: string): Promise<StatusError>;
}

/** The name of the listener whose callers are told apart by the kernel's credentials. */
export const SHARED_LISTENER = 'shared';
/** Before the UID of the pod in the name of a pod's own listener. */
export const POD_LISTENER_PREFIX = 'pod/';

const POD_UID = /^[A-Za-z0-9._-]{1,128}$/;

/** For whom the call counts, told before much is spent on it. Throws StatusError. */
function partyOf(
  { peer }: CallContext,
  attestor: Attestor,
): PodSubject | (Party & { readonly kind: 'process'; readonly credentials: PeerCredentials }) {
  const { listener, credentials, unknown } = peer;
  if (listener.startsWith(POD_LISTENER_PREFIX)) {
    // The socket is the pod.
    const uid = listener.slice(POD_LISTENER_PREFIX.length);
    if (POD_UID.test(uid)) return podSubject(uid);
  } else if (listener === SHARED_LISTENER && credentials !== undefined) {
    const location = attestor.locate?.(credentials);
    if (location?.kind === 'pod') return podSubject(location.uid, location.container);
    return { kind: 'process', fairnessKey: userKey(credentials.uid), credentials };
  }
  if (unknown !== undefined) throw new StatusError('Unauthenticated', unknown, { code: 'PeerUnknown' });
  throw new StatusError('PermissionDenied', `no identities are served on listener "${listener}"`);
}

/** One call of one subject, from its start to {@link CallSession.close}. */
export class CallSession {
  readonly parts: CallParts;
  readonly waiter: Waiter;
  readonly #context: CallContext;
  #subject: Subject;
  #view: SubjectView;
  #closeStream: (() => void) | undefined;
  #unhold: (() => void) | undefined;

  constructor(
    parts: CallParts,
    context: CallContext,
    subject: Subject,
    closeStream: (() => void) | undefined,
  ) {
    this.parts = parts;
    this.#context = context;
    this.#subject = subject;
    this.#closeStream = closeStream;
    this.waiter = new Waiter(parts.clock, context.signal);
    this.#view = parts.views.acquire(subject, this.waiter);
  }

  get view(): SubjectView {
    return this.#view;
  }

  get subject(): Subject {
    return this.#subject;
  }

  get signal(): AbortSignal {
    return this.#context.signal;
  }

  /** For the log. */
  get requestId(): string {
    return this.#context.requestId;
  }

  /** Looks at the caller again where a registration now asks for what was not looked at before. */
  async refresh(): Promise<void> {
    // Each look is deeper than the last, so this ends.
    for (let { deeper } = this.#view; deeper !== undefined; { deeper } = this.#view) await this.#look(deeper);
  }

  async #look(depth: AttestationDepth): Promise<void> {
    if (this.#subject.kind !== 'process') return;
    const { attestor, views } = this.parts;
    const facts = await this.waiter.guard(attestor.attest(this.#subject.credentials, depth));
    const subject = processSubject(facts, this.#subject.credentials, depth);
    const view = views.acquire(subject, this.waiter);
    views.release(this.#view, this.waiter);
    this.#subject = subject;
    this.#view = view;
  }

  /** Counts this caller as held. Throws StatusError Unavailable when too many are. */
  hold(): void {
    this.#unhold ??= this.parts.fairness.hold(this.#subject);
    this.#view.urge();
  }

  unhold(): void {
    this.#unhold?.();
    this.#unhold = undefined;
  }

  /** Waits, held, until `ready`; refuses after the bound. */
  async until(ready: (view: SubjectView) => boolean): Promise<void> {
    const { clock, limits } = this.parts;
    const start = clock.monotonic();
    for (;;) {
      await this.refresh();
      if (ready(this.#view)) break;
      const left = start + limits.holdMs - clock.monotonic();
      if (left <= 0) throw await this.refusal();
      this.hold();
      await this.waiter.wait(left);
    }
    this.unhold();
  }

  async refusal(): Promise<StatusError> {
    // Whoever is told what was seen of it shall be told the executable, too.
    if (this.#subject.kind === 'process' && this.#subject.depth === 'ids') await this.#look('path');
    return this.parts.refusal(this.#view, this.signal, this.requestId);
  }

  close(): void {
    this.unhold();
    this.parts.views.release(this.#view, this.waiter);
    this.waiter.close();
    this.#closeStream?.();
    this.#closeStream = undefined;
  }
}

/** Begins a call: who is it, and may it have another. Throws StatusError. */
export async function openSession(
  parts: CallParts,
  context: CallContext,
  kind: 'unary' | 'stream',
): Promise<CallSession> {
  const party = partyOf(context, parts.attestor);
  parts.fairness.call(party);
  const closeStream = kind === 'stream' ? parts.fairness.openStream(party) : undefined;
  try {
    const subject =
      party.kind === 'pod'
        ? party
        : processSubject(await parts.attestor.attest(party.credentials, 'ids'), party.credentials, 'ids');
    context.signal.throwIfAborted();
    return new CallSession(parts, context, subject, closeStream);
  } catch (error) {
    closeStream?.();
    throw error;
  }
}
