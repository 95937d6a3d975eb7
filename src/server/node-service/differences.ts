import type { Registration } from '../../identity/registration/registration.js';
import type { HeldRegistration, SyncUpdate as Message } from '../../rpc/gen/signet/node/v1/node.js';
import { registrationMessage } from '../../rpc/node/registration-message.js';
import type { RevocationMark, SyncUpdate } from '../../rpc/node-api.js';

/** Registrations in one message: about 300 bytes each, and an agent takes 16 MiB. */
const MOST_IN_PART = 1_000;

/**
 * What an agent that holds these registrations is to be sent, so that it has the state of each update. The first update
 * is sent even when it changes nothing: it tells the agent that what it holds is what there is.
 */
export async function* differences(
  held: readonly HeldRegistration[],
  updates: AsyncIterable<SyncUpdate>,
): AsyncIterable<Message> {
  /** What the agent has, by what was sent. */
  const sent = new Map(held.map(({ id, revision }) => [id, revision]));
  for await (const { snapshot, upserts, removed, revocations } of updates) {
    const gone = snapshot ? missing(sent, upserts) : removed;
    for (const id of gone) sent.delete(id);
    const changed = snapshot ? upserts.filter(({ id, revision }) => sent.get(id) !== revision) : upserts;
    for (const { id, revision } of changed) sent.set(id, revision);
    yield* partsOf(changed, gone, revocations);
  }
}

function missing(sent: ReadonlyMap<string, string>, present: readonly Registration[]): readonly string[] {
  const there = new Set(present.map(({ id }) => id));
  return [...sent.keys()].filter((id) => !there.has(id));
}

function* partsOf(
  upserts: readonly Registration[],
  removed: readonly string[],
  revocations: RevocationMark | undefined,
): Iterable<Message> {
  for (let at = 0; ; at += MOST_IN_PART) {
    const more = at + MOST_IN_PART < upserts.length;
    yield {
      upserts: upserts.slice(at, at + MOST_IN_PART).map(registrationMessage),
      removed: at === 0 ? [...removed] : [],
      more,
      revocations: more ? undefined : revocations,
    };
    if (!more) return;
  }
}
