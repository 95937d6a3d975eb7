import { randomUUID } from 'node:crypto';
import { sleep } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { TrustDomain } from '../resources/identity.js';
import type { KubernetesApi } from '../store/kubernetes/api.js';
import { collectionPath, objectPath } from '../store/kubernetes/resource-type.js';
import { signetType } from '../store/kubernetes/types.js';
import { withCluster, type ClusterFlags } from './cluster.js';
import type { CliIo } from './io.js';

/** What is asked of the authorities of a cluster; see docs/operations/rotation.md. */
export interface ClusterCaRequest {
  readonly action: 'rotate' | 'taint' | 'revoke';
  readonly kind?: 'x509' | 'jwt';
  readonly id?: string;
}

const TYPE = signetType('TrustDomain');
const ANNOTATION = 'signet.dev/ca-request';
const POLL_MS = 500;
const PATIENCE_MS = 60_000;

/**
 * The TrustDomain of the cluster that is served.
 *
 * @throws ApiError; SignetError `TrustDomainMissing`
 */
export function readClusterTrustDomain(io: CliIo, flags: ClusterFlags): Promise<TrustDomain> {
  return withCluster(io, flags, servedTrustDomain);
}

/**
 * Asks the leader for a change of the authorities, and waits until it has answered. Authorities are named by ID alone; of
 * which kind they are, the status says.
 *
 * @throws ApiError; SignetError `TrustDomainMissing`, `AuthorityUnknown`, `CaRequestFailed`, `CaRequestUnanswered`
 */
export function changeClusterCa(
  io: CliIo,
  flags: ClusterFlags,
  request: ClusterCaRequest,
): Promise<TrustDomain> {
  return withCluster(io, flags, async (api) => {
    const before = await servedTrustDomain(api);
    const { name } = before.metadata;
    const nonce = randomUUID();
    const kind = request.id === undefined ? request.kind : kindOf(before, request.id);
    const text = JSON.stringify({ ...request, ...(kind === undefined ? {} : { kind }), nonce });
    await api.send({
      method: 'PATCH',
      path: objectPath(TYPE, { namespace: '', name }),
      contentType: 'application/merge-patch+json',
      body: { metadata: { annotations: { [ANNOTATION]: text } } },
    });
    const end = io.clock.monotonic() + PATIENCE_MS;
    while (io.clock.monotonic() < end) {
      const now = await servedTrustDomain(api);
      const answer = now.status?.request;
      if (answer?.nonce === nonce && answer.outcome === 'Succeeded') return now;
      if (answer?.nonce === nonce && answer.outcome === 'Failed')
        throw new SignetError('CaRequestFailed', answer.message);
      await sleep(io.clock, POLL_MS, io.signal);
    }
    throw new SignetError(
      'CaRequestUnanswered',
      `no server has answered within ${PATIENCE_MS / 1000} s; it is done as soon as one leads (see status.request of TrustDomain ${name})`,
    );
  });
}

function kindOf({ status }: TrustDomain, id: string): 'x509' | 'jwt' {
  const found = status?.authorities?.find((authority) => authority.id === id);
  if (found !== undefined) return found.kind === 'X509' ? 'x509' : 'jwt';
  throw new SignetError('AuthorityUnknown', `no authority has the ID "${id}"; see \`signet ca show\``);
}

/** Of several, the one that tells of authorities. */
async function servedTrustDomain(api: KubernetesApi): Promise<TrustDomain> {
  const { items = [] } = (await api.send({ method: 'GET', path: collectionPath(TYPE) })) as {
    readonly items?: readonly TrustDomain[];
  };
  const found = items.find(({ status }) => (status?.authorities ?? []).length > 0) ?? items[0];
  if (found !== undefined) return found;
  throw new SignetError('TrustDomainMissing', 'the cluster has no TrustDomain; apply one');
}
