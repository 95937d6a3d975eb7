import type { CallContext, MessageSink } from '../rpc/service.js';
import { type CallParts, type CallSession, openSession } from './session.js';
import type { SubjectView } from './views.js';

/** What a stream sends of a view. */
export interface StreamContent {
  /**
   * `send` when the message is whole, `soon` when the rest of it is on its way, `hold` when there is nothing to send
   * yet.
   */
  readiness(view: SubjectView): 'send' | 'soon' | 'hold';
  /** The message, encoded: the same array when there is nothing new. */
  message(view: SubjectView): Uint8Array;
}

/**
 * Streams a view: the state at once, or as soon as there is one, then again after each change, always the newest. A
 * slow client holds up nobody and is sent only what is true when it reads again. Ends when the call does, or with
 * {@link CallParts.refusal} when there is nothing (any more) that the caller may have.
 */
export async function streamView(
  parts: CallParts,
  context: CallContext,
  sink: MessageSink<unknown>,
  content: StreamContent,
): Promise<void> {
  const session = await openSession(parts, context, 'stream');
  try {
    await new ViewStream(session, sink, content).run();
  } finally {
    session.close();
  }
}

class ViewStream {
  readonly #session: CallSession;
  readonly #sink: MessageSink<unknown>;
  readonly #content: StreamContent;
  #sent: Uint8Array | undefined;
  /** Since when something is missing, in monotonic milliseconds. */
  #missingSince: number | undefined;

  constructor(session: CallSession, sink: MessageSink<unknown>, content: StreamContent) {
    this.#session = session;
    this.#sink = sink;
    this.#content = content;
  }

  async run(): Promise<void> {
    const { waiter } = this.#session;
    for (;;) {
      await this.#session.refresh();
      const wait = this.#mayWait();
      if (wait === undefined) {
        if (await this.#send()) continue;
        await waiter.wait();
        continue;
      }
      if (wait <= 0) throw await this.#session.refusal();
      if (this.#sent === undefined) this.#session.hold();
      else this.#session.view.urge();
      await waiter.wait(wait);
    }
  }

  /** How long to wait before the next step; undefined when it is to send what is there. */
  #mayWait(): number | undefined {
    const { view, parts } = this.#session;
    const readiness = this.#content.readiness(view);
    if (readiness === 'send') {
      this.#missingSince = undefined;
      return undefined;
    }
    const now = parts.clock.monotonic();
    this.#missingSince ??= now;
    const left = this.#missingSince + this.#bound(readiness, view) - now;
    return readiness === 'soon' && left <= 0 ? undefined : left;
  }

  /** How long the state may stay as it is, in milliseconds. */
  #bound(readiness: 'soon' | 'hold', view: SubjectView): number {
    const { holdMs, settleMs } = this.#session.parts.limits;
    if (readiness === 'soon') return settleMs;
    // It had identities and has none any more: only long enough for one that replaces them to come.
    return this.#sent !== undefined && view.registrations.length === 0 ? settleMs : holdMs;
  }

  /** Sends what is there, unless it was sent already. */
  async #send(): Promise<boolean> {
    this.#session.unhold();
    const message = this.#content.message(this.#session.view);
    if (message === this.#sent) return false;
    this.#sent = message;
    await this.#session.waiter.guard(this.#sink.write(message));
    return true;
  }
}
