import { createRegistrationIndex } from '../identity/registration/registration-index.js';
import { parseBundleDocument } from '../identity/spiffe/bundle-document.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import type { CertificateAuthority } from '../identity/ca/certificate-authority.js';
import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import { podFacts } from '../cluster/pod-facts.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Metrics } from '../operate/metrics/metrics.js';
import { createRpcServer, type RpcServer } from '../rpc/server.js';
import { nodeService } from '../rpc/services.js';
import { createFederation } from '../server/federation.js';
import { createNodeApi } from '../server/node-api.js';
import { createAttestation } from '../server/node-service/attestation.js';
import { nodeServiceHandlers } from '../server/node-service/handlers.js';
import { createRegistrationController } from '../server/registrations.js';
import { createSigningService } from '../server/signing.js';
import type { KubernetesApi } from '../store/kubernetes/api.js';
import { createTokenReviewer } from '../store/kubernetes/token-review.js';
import type { Store } from '../store/store.js';
import { createNodeMetrics } from './node-metrics.js';

/** What the service for agents is made of. */
export interface NodeServiceParts {
  readonly api: KubernetesApi;
  readonly store: Store;
  /** Writes statuses while this replica leads. */
  readonly statuses: Store;
  readonly settings: TrustDomainSettings;
  readonly ca: CertificateAuthority;
  /** Of the agents' tokens. */
  readonly audience: string;
  readonly agentServiceAccount: { readonly namespace: string; readonly name: string };
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Who gets what, and the service that agents ask for it. */
export interface NodeService {
  readonly server: RpcServer;
  /** Nodes whose agent follows this replica now. */
  readonly nodes: () => readonly string[];
  readonly bundleOf: (trustDomain: string) => TrustBundle | undefined;
  readonly onTrustChange: (listener: () => void) => () => void;
  /** Takes no more calls, and lets those under way end. */
  drain(graceMs: number): Promise<void>;
  close(): Promise<void>;
}

/** Connections of agents: more than nodes, since each that moves has two for a while. */
export const MAX_AGENT_CONNECTIONS = 20_000;

export function composeNodeService(parts: NodeServiceParts): NodeService {
  const { api, store, statuses, settings, ca, clock, logger, audience, agentServiceAccount, metrics } = parts;
  const index = createRegistrationIndex({
    trustDomain: settings.name,
    defaults: { x509TtlSeconds: settings.ttlSeconds.x509Svid, jwtTtlSeconds: settings.ttlSeconds.jwtSvid },
    maxX509TtlSeconds: settings.ttlSeconds.authority,
  });
  const controller = createRegistrationController({ store: statuses, index, clock, logger });
  const federation = createFederation({
    ...{ store: statuses, trustDomain: settings.name, parseBundle: parseBundleDocument, clock, logger },
  });
  const { registrations } = controller;
  const signing = createSigningService({ ca, registrations, logger });
  const counted = createNodeMetrics(metrics, clock);
  const agentPods = (nodeName: string): boolean =>
    store.list('Pod').some((object) => {
      const facts = podFacts(object);
      return (
        facts?.nodeName === nodeName &&
        facts.namespace === agentServiceAccount.namespace &&
        facts.serviceAccount === agentServiceAccount.name
      );
    });
  const server = createRpcServer({ logger, clock, limits: { maxConnections: MAX_AGENT_CONNECTIONS } });
  const attest = createAttestation({
    ...{ trustDomain: settings.name, audience, clock, serviceAccount: agentServiceAccount },
    reviewer: createTokenReviewer(api),
    podOf(namespace, name) {
      const object = store.get('Pod', `${namespace}/${name}`);
      return object === undefined ? undefined : podFacts(object);
    },
  });
  server.service(
    nodeService,
    nodeServiceHandlers({
      ...{ ca, clock, logger, agentTtlSeconds: settings.ttlSeconds.x509Svid, hasAgent: agentPods },
      attest: counted.attest(attest),
      nodeApi: (nodeName) =>
        counted.api(
          nodeName,
          createNodeApi({
            ...{ registrations, signing, ca, federation: federation.bundles, nodeName },
            issued: (registrationId, notAfter) => controller.issued(registrationId, notAfter),
          }),
        ),
    }),
  );
  metrics.readOne('connections', () => server.connections);
  metrics.readOne('registrations', () => [...index.all()].length);
  return {
    server,
    nodes: () => counted.nodes,
    bundleOf: (name) =>
      name === settings.name
        ? ca.bundle.value
        : federation.bundles.value.find(({ trustDomain }) => trustDomain === name),
    onTrustChange(listener) {
      const ends = [ca.bundle.watch(listener), federation.bundles.watch(listener)];
      return () => ends.forEach((end) => end());
    },
    drain: (graceMs) => server.drain(graceMs),
    async close() {
      await server.close();
      await federation.close();
      await controller.close();
    },
  };
}
