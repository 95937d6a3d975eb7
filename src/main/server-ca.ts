import type { KeyEncryptionSource, TrustDomainSettings } from '../cluster/trust-domain.js';
import { withPrevious, type KeyEncryption } from '../identity/keys/encryption.js';
import { requireOpens } from '../identity/keys/reseal.js';
import type { StateContent } from '../identity/keys/state-record.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { Watched } from '../lib/watched.js';
import type { KubernetesApi } from '../store/kubernetes/api.js';
import type { ObjectWriter } from '../store/kubernetes/object-writer.js';
import { secretRecord } from '../store/kubernetes/secret-record.js';
import { SECRET } from '../store/kubernetes/types.js';
import type { Store } from '../store/store.js';
import { createClusterCa, type ClusterAuthorities } from './cluster-ca.js';
import {
  keyEncryptionFromFile,
  keyEncryptionFromKms,
  keyEncryptionFromSecret,
  keyEncryptionInSecret,
} from './cluster-key.js';

const CA_SECRET = 'signet-ca';
const KEY_SECRET = 'signet-key-encryption';
const BUILT_IN: KeyEncryptionSource = { builtIn: true };

/** What the authorities of a server are opened with. */
export interface ServerCaParts {
  readonly api: KubernetesApi;
  readonly writer: ObjectWriter;
  readonly store: Store;
  readonly settings: Watched<TrustDomainSettings>;
  readonly namespace: string;
  readonly leading: Watched<boolean>;
  /** For how long the bundle with a sequence stands wherever it is published; not waited for unless said. */
  readonly distributedForMs?: (sequence: number) => number;
  /** Why nothing may be signed by the clock as it is. */
  readonly clockProblem: () => SignetError | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** The authorities that all replicas share; nothing is read before they are opened. */
export function createServerCa(parts: ServerCaParts): ClusterAuthorities {
  const { api, writer, store, settings, namespace, leading, clock, random, logger } = parts;
  const key = { namespace, name: KEY_SECRET };
  const state = secretRecord(writer, { namespace, name: CA_SECRET }, clock);
  const at = (source: KeyEncryptionSource, field: string): Promise<KeyEncryption> => {
    if ('socket' in source) return Promise.resolve(keyEncryptionFromKms(source.socket, random));
    if ('keyFile' in source) return keyEncryptionFromFile(source.keyFile, field, random);
    return keyEncryptionInSecret(writer, key, random);
  };
  return createClusterCa({
    ...{ api, writer, namespace, secretName: CA_SECRET, settings, leading },
    ...{ clock, random, logger, clockProblem: parts.clockProblem },
    ...(parts.distributedForMs === undefined ? {} : { distributedForMs: parts.distributedForMs }),
    async encryption({ keyEncryption = BUILT_IN, previousKeyEncryption: former }, evidence) {
      const previous = former && ((): Promise<KeyEncryption> => at(former, 'spec.keyEncryption.previous'));
      const isUsed = async (): Promise<boolean> => {
        // What cannot be known must not be taken for a no: a new key would be made.
        const content = await state.read();
        if (content !== undefined)
          return previous === undefined || !(await opensAll(content, previous, leading));
        const why = evidence();
        // A key made now would be in the way of the one that is restored with them.
        if (why !== undefined)
          throw new SignetError('JournalMissing', `Secret ${namespace}/${CA_SECRET} is gone: ${why}`);
        return false;
      };
      const present =
        'builtIn' in keyEncryption
          ? await keyEncryptionFromSecret(writer, key, random, isUsed)
          : await at(keyEncryption, 'spec.keyEncryption');
      return previous === undefined ? present : withPrevious(present, previous);
    },
    // A file is its owner's affair.
    forgetEncryption: async () => {
      if ('builtIn' in (settings.value.keyEncryption ?? BUILT_IN)) await writer.remove(SECRET, key);
    },
    evidence() {
      const seen = lastBundle(store);
      return seen === undefined
        ? undefined
        : `TrustDomain ${seen.name} says status.bundleSequence ${seen.sequence}`;
    },
    lastSequence: () => lastBundle(store)?.sequence ?? 0,
  });
}

/**
 * Whether nothing of what is sealed needs the key in the Secret: then one that is gone, since another took its place some time
 * ago, may be made anew. That is for the leader.
 */
async function opensAll(
  content: StateContent,
  previous: () => Promise<KeyEncryption>,
  leading: Watched<boolean>,
): Promise<boolean> {
  try {
    await requireOpens(content, await previous());
  } catch (thrown) {
    const { code } = SignetError.from(thrown);
    if (code === 'KeyEncryptionWrong') return false;
    throw thrown;
  }
  if (leading.value) return true;
  throw new SignetError('KeyEncryptionUnavailable', `Secret ${KEY_SECRET} is yet to be made, by the leader`);
}

/** The last bundle that the status of a TrustDomain tells of: there have been authorities then. */
function lastBundle(store: Store): { readonly name: string; readonly sequence: number } | undefined {
  let last: { readonly name: string; readonly sequence: number } | undefined;
  for (const { metadata } of store.list('TrustDomain')) {
    const { name } = metadata;
    const status = store.status('TrustDomain', name) as { readonly bundleSequence?: unknown } | undefined;
    const sequence = status?.bundleSequence;
    if (typeof sequence === 'number' && (last === undefined || sequence > last.sequence))
      last = { name, sequence };
  }
  return last;
}
