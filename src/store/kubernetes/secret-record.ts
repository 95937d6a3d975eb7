import type { Clock } from '../../lib/clock.js';
import { ApiError } from './api-error.js';
import type { ObjectWriter } from './object-writer.js';
import type { ObjectRef } from './resource-type.js';
import { SECRET } from './types.js';
import type { ApiObject } from './watch.js';

type SecretObject = ApiObject & { readonly data?: Readonly<Record<string, string>>; readonly type?: string };

/** What a Secret holds, by name. */
type SecretContent = ReadonlyMap<string, Uint8Array>;

/** A Secret as a record of named bytes (the `StateRecord` that keys and journals are kept in). */
export interface SecretRecord {
  /** What it holds now, read anew; undefined when there is none. */
  read(): Promise<SecretContent | undefined>;
  /** Changes it as a whole; `change` is called again when another process was faster. */
  update(change: (content: SecretContent | undefined) => SecretContent): Promise<void>;
  /** For how long nobody has looked at the Secret's present content; milliseconds, Infinity when nobody ever has. */
  sinceRead(): number;
}

/** How often a change is tried when others write at the same time. */
const ATTEMPTS = 5;
const LABELS = { 'app.kubernetes.io/managed-by': 'signet', 'app.kubernetes.io/part-of': 'signet' };

/** Keeps state in one Secret; what else is in it stays. Reads are of the newest state, never from a cache. */
export function secretRecord(
  writer: Pick<ObjectWriter, 'get' | 'create' | 'replace'>,
  ref: ObjectRef,
  clock: Clock,
): SecretRecord {
  let readAt = Number.NEGATIVE_INFINITY;
  const get = async (): Promise<SecretObject | undefined> => {
    const asked = clock.monotonic();
    let secret: SecretObject | undefined;
    try {
      secret = await writer.get(SECRET, ref);
    } catch (thrown) {
      if (ApiError.from(thrown).code !== 'ApiNotFound') throw thrown;
    }
    readAt = Math.max(readAt, asked);
    return secret;
  };
  const put = async (secret: SecretObject | undefined, content: SecretContent): Promise<void> => {
    const data = Object.fromEntries(
      [...content].map(([name, bytes]) => [name, Buffer.from(bytes).toString('base64')]),
    );
    if (secret === undefined) {
      const created = { metadata: { ...ref, labels: LABELS }, type: 'Opaque', data };
      await writer.create(SECRET, created);
    } else {
      const changed: SecretObject = { ...secret, data };
      await writer.replace(SECRET, changed);
    }
  };
  return {
    sinceRead: () => clock.monotonic() - readAt,
    read: async () => contentOf(await get()),
    async update(change) {
      for (let left = ATTEMPTS; ; left--) {
        const secret = await get();
        try {
          await put(secret, change(contentOf(secret)));
          return;
        } catch (thrown) {
          const conflict = thrown instanceof ApiError && thrown.code === 'ApiConflict';
          if (!conflict || left === 1) throw thrown;
        }
      }
    },
  };
}

function contentOf(secret: SecretObject | undefined): SecretContent | undefined {
  if (secret === undefined) return undefined;
  return new Map(
    Object.entries(secret.data ?? {}).map(([name, text]) => [name, Buffer.from(text, 'base64')]),
  );
}
