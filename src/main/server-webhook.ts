import { parseVolumeSettings, VolumeSettingsError } from '../agent/csi/settings.js';
import type { CertificateAuthority } from '../identity/ca/certificate-authority.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { Metrics } from '../operate/metrics/metrics.js';
import { createHttpServer } from '../rpc/http/server.js';
import { linuxPeerCredentials } from '../rpc/peer/linux.js';
import type { VolumeReading } from '../server/injection/plan.js';
import { webhookRoutes } from '../server/webhook/routes.js';
import type { ListenAddress } from './listen-address.js';
import { openOwnIdentity } from './own-identity.js';

/** How the webhook is served. */
export interface WebhookOptions {
  readonly listen: ListenAddress;
  /** What the API server calls it: `signet-server.signet-system.svc`. */
  readonly dnsNames: readonly string[];
  /** Of Envoy, for pods that ask for a proxy; they are refused unless it is said. */
  readonly proxyImage?: string;
  /** Of this program, for pods that ask for captured ports; they are refused unless it is said. */
  readonly captureImage?: string;
  /** Where no pod is changed. */
  readonly skippedNamespaces: readonly string[];
}

/** What it is served with. */
export interface WebhookServerParts {
  readonly ca: Pick<CertificateAuthority, 'signX509' | 'taints' | 'trustDomain'>;
  /** Of its own SVIDs that are signed from now on. */
  readonly ttlSeconds: () => number;
  readonly bundleOf: (trustDomain: string) => TrustBundle | undefined;
  readonly onTrustChange: (listener: () => void) => () => void;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** A webhook that is served. */
export interface RunningWebhook {
  /** `ip:port`. */
  readonly address: string;
  close(): Promise<void>;
}

/** Under `/signet/`, which no registration can have. */
const WEBHOOK_PATH = '/signet/webhook';
/** An etcd object has 1.5 MiB at most (`--max-request-bytes`), and its JSON is longer than what is stored. */
const MAX_BODY_BYTES = 3 * 1024 * 1024;
/** An API server asks as often at a time as it is asked (`--max-mutating-requests-inflight` is 200 unless said). */
const MAX_CONNECTIONS = 512;
/** Longer than the API server waits. Milliseconds. */
const REQUEST_MS = 10_000;
/** Longer than the API server keeps connections that it does not use: so it is never we who close one under a request. */
const IDLE_MS = 120_000;

/**
 * Serves the webhook with a certificate of our own authority, which is renewed while it is served. The API server knows the
 * authority by the `caBundle` that the leader keeps in the configuration.
 *
 * @throws SignetError `ListenFailed`; CaError when there is no certificate
 */
export async function openWebhook(
  options: WebhookOptions,
  parts: WebhookServerParts,
): Promise<RunningWebhook> {
  const { ca, ttlSeconds, bundleOf, onTrustChange, metrics, clock, random } = parts;
  const logger = parts.logger.child({ component: 'webhook' });
  const identity = await openOwnIdentity({
    ...{ ca, path: WEBHOOK_PATH, keyType: 'ec-p256', ttlSeconds, dnsNames: options.dnsNames },
    ...{ bundleOf, onTrustChange, clock, random, logger },
  });
  const routes = webhookRoutes({
    skippedNamespaces: new Set(options.skippedNamespaces),
    proxyImage: options.proxyImage,
    captureImage: options.captureImage,
    readVolume,
    logger,
    observe: (outcome) => metrics.count('injections', { outcome }),
  });
  const server = createHttpServer({
    ...{ routes, clock, random, logger, peerCredentials: linuxPeerCredentials },
    limits: {
      maxBodyBytes: MAX_BODY_BYTES,
      ...{ maxJsonDepth: 64, maxJsonValues: 200_000 },
      ...{ maxConnections: MAX_CONNECTIONS, maxConnectionsPerListener: MAX_CONNECTIONS },
      ...{ maxConnectionsPerPeer: MAX_CONNECTIONS / 2, maxRequestsPerConnection: 4 },
      ...{ requestMs: REQUEST_MS, idleMs: IDLE_MS },
    },
  });
  try {
    const listener = await server.listenTls({ ...options.listen, name: 'webhook', svid: identity.svid });
    logger.info('the webhook is served', { address: listener.path, names: options.dnsNames.join(', ') });
    return {
      address: listener.path,
      async close() {
        await server.close();
        identity.close();
      },
    };
  } catch (error) {
    identity.close();
    throw error;
  }
}

/** As the agent will read it: here, so that server and agent need not know each other. */
function readVolume(attributes: Readonly<Record<string, string>>): VolumeReading {
  try {
    return { socket: parseVolumeSettings(attributes).socket };
  } catch (thrown) {
    if (!(thrown instanceof VolumeSettingsError)) throw thrown;
    return { problem: thrown.message };
  }
}
