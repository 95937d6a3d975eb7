import type { Watched } from '../lib/watched.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Store } from '../store/store.js';

/**
 * The store, for those who write statuses without asking who leads: what they write while this replica does not lead is
 * kept, the newest of each object, and written when it begins to. Every replica works the statuses out, so each is ready.
 */
export function leaderStore(
  store: Store,
  leading: Watched<boolean>,
  logger: Logger,
): Store & { close(): void } {
  const kept = new Map<string, { readonly kind: string; readonly key: string; readonly status: unknown }>();
  const idOf = (kind: string, key: string): string => `${kind} ${key}`;
  const end = leading.watch((leads) => {
    if (!leads) return;
    const all = [...kept.values()];
    kept.clear();
    for (const { kind, key, status } of all) {
      store.writeStatus(kind, key, status).catch((thrown: unknown) => {
        const { code, message } = SignetError.from(thrown);
        logger.warn('status could not be written; the next change tries again', {
          kind,
          key,
          code,
          reason: message,
        });
      });
    }
  });
  const forget = store.subscribe((changes) => {
    for (const { kind, key, after } of changes) if (after === undefined) kept.delete(idOf(kind, key));
  });
  return {
    synced: store.synced,
    list: (kind) => store.list(kind),
    get: (kind, key) => store.get(kind, key),
    subscribe: (onChanges) => store.subscribe(onChanges),
    // Who compares with what is there must see what will be there.
    status: (kind, key) => kept.get(idOf(kind, key))?.status ?? store.status(kind, key),
    async writeStatus(kind, key, status) {
      if (leading.value) await store.writeStatus(kind, key, status);
      else kept.set(idOf(kind, key), { kind, key, status });
    },
    close() {
      end();
      forget();
    },
  };
}
