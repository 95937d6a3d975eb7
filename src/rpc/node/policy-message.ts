import { PolicyUpdate as Message } from '../gen/signet/node/v1/node.js';
import type { PolicyItem, PolicyUpdate, RevocationMark } from '../node-api.js';

/** What is put into one message, if it is more than one item; an agent takes 16 MiB. Bytes. */
const PART_BYTES = 512 * 1024;
/** Keys of items that are gone, in one message. */
const MOST_REMOVED = 5_000;

/** The same for all agents that are sent the same item, so written once. */
const written = new WeakMap<PolicyItem, Uint8Array>();

/**
 * An update as messages, encoded. A message that has items alone is what its items' own messages are one after another
 * (protobuf: a repeated field of a message that is merged is appended), so that each item is encoded once for all agents.
 */
export function* policyParts({
  snapshot,
  upserts,
  removed,
  revocations,
}: PolicyUpdate): Iterable<Uint8Array> {
  for (let at = 0; at + MOST_REMOVED < removed.length; at += MOST_REMOVED)
    yield rest({ removed: removed.slice(at, at + MOST_REMOVED), snapshot: false, more: true });
  const last = removed.slice(Math.floor(Math.max(0, removed.length - 1) / MOST_REMOVED) * MOST_REMOVED);
  let chunks: Uint8Array[] = [];
  let bytes = 0;
  for (const item of upserts) {
    const chunk = encoded(item);
    if (chunks.length > 0 && bytes + chunk.length > PART_BYTES) {
      yield Buffer.concat([...chunks, rest({ removed: [], snapshot: false, more: true })]);
      chunks = [];
      bytes = 0;
    }
    chunks.push(chunk);
    bytes += chunk.length;
  }
  yield Buffer.concat([...chunks, rest({ removed: last, snapshot, more: false, revocations })]);
}

function encoded(item: PolicyItem): Uint8Array {
  const known = written.get(item);
  if (known !== undefined) return known;
  const { key, revision, json } = item;
  const bytes = Message.encode({
    ...{ upserts: [{ key, revision, json }], removed: [], snapshot: false, more: false },
    revocations: undefined,
  }).finish();
  written.set(item, bytes);
  return bytes;
}

function rest(message: {
  readonly removed: readonly string[];
  readonly snapshot: boolean;
  readonly more: boolean;
  readonly revocations?: RevocationMark | undefined;
}): Uint8Array {
  const { removed, snapshot, more, revocations } = message;
  return Message.encode({ upserts: [], removed: [...removed], snapshot, more, revocations }).finish();
}
