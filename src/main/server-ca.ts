import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { Watched } from '../lib/watched.js';
import { ApiError } from '../store/kubernetes/api-error.js';
import type { KubernetesApi } from '../store/kubernetes/api.js';
import type { ObjectWriter } from '../store/kubernetes/object-writer.js';
import { SECRET } from '../store/kubernetes/types.js';
import type { Store } from '../store/store.js';
import { openClusterCa, type ClusterCa } from './cluster-ca.js';
import { keyEncryptionFromFile, keyEncryptionFromSecret } from './cluster-key.js';

const CA_SECRET = 'signet-ca';
const KEY_SECRET = 'signet-key-encryption';

/** What the authorities of a server are opened with. */
export interface ServerCaParts {
  readonly api: KubernetesApi;
  readonly writer: ObjectWriter;
  readonly store: Store;
  readonly settings: TrustDomainSettings;
  readonly namespace: string;
  readonly leading: Watched<boolean>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/**
 * Opens the authorities that all replicas share. Rejects for what waiting does not mend, as openClusterCa does, and with
 * the signal's reason.
 */
export async function openServerCa(parts: ServerCaParts, signal: AbortSignal): Promise<ClusterCa> {
  const { api, writer, store, settings, namespace, leading, clock, random, logger } = parts;
  const file = settings.keyEncryptionFile;
  const hasAuthorities = (): Promise<boolean> =>
    writer.get(SECRET, { namespace, name: CA_SECRET }).then(
      () => true,
      (thrown: unknown) => {
        // What cannot be known must not be taken for a no: a new key would be made.
        if (ApiError.from(thrown).code !== 'ApiNotFound') throw thrown;
        return false;
      },
    );
  const encryption =
    file === undefined
      ? await keyEncryptionFromSecret(writer, { namespace, name: KEY_SECRET }, random, hasAuthorities)
      : await keyEncryptionFromFile(file, random);
  return openClusterCa(
    {
      ...{ api, writer, namespace, secretName: CA_SECRET, settings, encryption, leading },
      ...{ clock, random, logger },
      evidence: () => authoritiesSeen(store),
    },
    signal,
  );
}

/** What the TrustDomain's status says of authorities that there have been. */
function authoritiesSeen(store: Store): string | undefined {
  const [resource] = store.list('TrustDomain');
  if (resource === undefined) return undefined;
  const { name } = resource.metadata;
  const status = store.status('TrustDomain', name) as { readonly bundleSequence?: unknown } | undefined;
  return typeof status?.bundleSequence === 'number'
    ? `TrustDomain ${name} says status.bundleSequence ${status.bundleSequence}`
    : undefined;
}
