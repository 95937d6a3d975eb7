import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { startServer, type RunningServer, type ServerOptions } from '../../src/main/server.js';
import type { TrustDomainStatus } from '../../src/resources/identity.js';
import type { ControlPlane } from '../rig/control-plane.js';
import { recordingLogger, type RecordingLogger } from './recording-logger.js';
import { until } from './until.js';

/** Signet's own namespace in tests. */
export const SYSTEM = 'signet-system';
export const TRUST_DOMAINS = '/apis/signet.dev/v1alpha1/trustdomains';
export const SECRETS = `/api/v1/namespaces/${SYSTEM}/secrets`;

/** A server in this process. */
export interface ClusterServer {
  readonly logger: RecordingLogger;
  /** Resolves when agents may connect. */
  readonly ready: Promise<RunningServer>;
  /** Ends it; resolves when it is over. */
  stop(): Promise<void>;
}

/** Creates an object; what is there already is fine. */
export async function create(plane: ControlPlane, path: string, object: object): Promise<void> {
  const { status, body } = await plane.request('POST', path, object);
  if (status >= 300 && status !== 409) throw new Error(`POST ${path}: ${status} ${JSON.stringify(body)}`);
}

/** The CRDs, Signet's namespace, and a TrustDomain with this name. */
export async function prepareCluster(plane: ControlPlane, trustDomain: string): Promise<void> {
  const crds = new URL('../../crds', import.meta.url).pathname;
  const applied = await plane.kubectl(['apply', '--server-side', '-f', crds]);
  if (applied.code !== 0) throw new Error(applied.stderr);
  await until('the kinds are served', async () => (await plane.request('GET', TRUST_DOMAINS)).status === 200);
  await create(plane, '/api/v1/namespaces', { metadata: { name: SYSTEM } });
  await until('the TrustDomain is made', () =>
    create(plane, TRUST_DOMAINS, {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'TrustDomain' },
      ...{ metadata: { name: 'main' }, spec: { name: trustDomain } },
    }).then(() => true),
  );
}

/** Starts a server as the admin; `options` win. */
export function startClusterServer(
  plane: ControlPlane,
  identity: string,
  options: Partial<ServerOptions> = {},
): ClusterServer {
  const stop = new AbortController();
  const logger = recordingLogger();
  const ready = startServer({
    connection: { kubeconfig: plane.kubeconfig },
    namespace: SYSTEM,
    identity,
    listen: { address: '127.0.0.1', port: 0 },
    audience: 'signet-server',
    agentServiceAccount: { namespace: SYSTEM, name: 'signet-agent' },
    ...{ clock: systemClock, random: systemRandom, logger, signal: stop.signal },
    ...options,
  });
  ready.catch(() => undefined);
  return {
    logger,
    ready,
    async stop() {
      stop.abort();
      await ready.then(({ stopped }) => stopped).catch(() => undefined);
    },
  };
}

/** The status of the TrustDomain, as the API server has it. */
export async function trustDomainStatusOf(plane: ControlPlane, name = 'main'): Promise<TrustDomainStatus> {
  const { body } = await plane.request('GET', `${TRUST_DOMAINS}/${name}`);
  return (body as { readonly status?: TrustDomainStatus }).status ?? {};
}

/** One of its conditions as `status reason`. */
export async function conditionOf(plane: ControlPlane, type: string, name = 'main'): Promise<string> {
  const { conditions = [] } = await trustDomainStatusOf(plane, name);
  const found = conditions.find((one) => one.type === type);
  return found === undefined ? '' : `${found.status} ${found.reason}`;
}
