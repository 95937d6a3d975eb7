import type { Registration } from '../../identity/registration/registration.js';
import type { SyncUpdate } from '../../rpc/node-api.js';

/** What an agent may be told of: one that is older than registrations for single containers would give them to whole pods. */
export async function* forAgent(
  knowsContainers: boolean,
  updates: AsyncIterable<SyncUpdate>,
): AsyncIterable<SyncUpdate> {
  if (knowsContainers) {
    yield* updates;
    return;
  }
  for await (const update of updates) {
    const upserts: Registration[] = [];
    const removed = [...update.removed];
    for (const registration of update.upserts)
      if (registration.containers === undefined) upserts.push(registration);
      else removed.push(registration.id);
    yield { ...update, upserts, removed };
  }
}
