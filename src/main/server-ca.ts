import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { Watched } from '../lib/watched.js';
import { ApiError } from '../store/kubernetes/api-error.js';
import type { KubernetesApi } from '../store/kubernetes/api.js';
import type { ObjectWriter } from '../store/kubernetes/object-writer.js';
import { SECRET } from '../store/kubernetes/types.js';
import type { Store } from '../store/store.js';
import { createClusterCa, type ClusterAuthorities } from './cluster-ca.js';
import { keyEncryptionFromFile, keyEncryptionFromKms, keyEncryptionFromSecret } from './cluster-key.js';

const CA_SECRET = 'signet-ca';
const KEY_SECRET = 'signet-key-encryption';

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
  const { keyEncryptionFile: file, keyEncryptionKms: socket } = settings.value;
  const kms = socket === undefined ? undefined : keyEncryptionFromKms(socket, random);
  const key = { namespace, name: KEY_SECRET };
  const hasAuthorities = (): Promise<boolean> =>
    writer.get(SECRET, { namespace, name: CA_SECRET }).then(
      () => true,
      (thrown: unknown) => {
        // What cannot be known must not be taken for a no: a new key would be made.
        if (ApiError.from(thrown).code !== 'ApiNotFound') throw thrown;
        return false;
      },
    );
  return createClusterCa({
    ...{ api, writer, namespace, secretName: CA_SECRET, settings, leading },
    ...{ clock, random, logger, clockProblem: parts.clockProblem },
    ...(parts.distributedForMs === undefined ? {} : { distributedForMs: parts.distributedForMs }),
    async encryption(evidence) {
      if (kms !== undefined) return kms;
      if (file !== undefined) return keyEncryptionFromFile(file, random);
      return keyEncryptionFromSecret(writer, key, random, async () => {
        if (await hasAuthorities()) return true;
        const why = evidence();
        // A key made now would be in the way of the one that is restored with them.
        if (why !== undefined)
          throw new SignetError('JournalMissing', `Secret ${namespace}/${CA_SECRET} is gone: ${why}`);
        return false;
      });
    },
    // A file is its owner's affair.
    forgetEncryption: async () => {
      if (file === undefined && kms === undefined) await writer.remove(SECRET, key);
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
