import { createRegistrationIndex } from '../identity/registration/registration-index.js';
import { parseBundleDocument } from '../identity/spiffe/bundle-document.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import type { CertificateAuthority } from '../identity/ca/certificate-authority.js';
import type { Registration } from '../identity/registration/registration.js';
import type { RegistrationSource } from '../cluster/access-view.js';
import { registrationBounds } from '../cluster/registrations.js';
import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import { podFacts } from '../cluster/pod-facts.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { derived, type Watched } from '../lib/watched.js';
import type { Metrics } from '../operate/metrics/metrics.js';
import type { NodeApi } from '../rpc/node-api.js';
import { createRpcServer, type RpcServer } from '../rpc/server.js';
import { nodeService, peerService } from '../rpc/services.js';
import { createFederation } from '../server/federation.js';
import { openRevocationBook } from '../server/controllers/revocation/book.js';
import {
  openRevocationProgress,
  type RevocationProgress,
} from '../server/controllers/revocation/progress.js';
import { createRevocationReach, type RevocationReach } from '../server/controllers/revocation/reach.js';
import { revokedText } from '../server/controllers/revocation/revocations.js';
import { trustedRegistrations } from '../server/controllers/revocation/trusted-registrations.js';
import type { PodCertificateControllerOptions } from '../server/controllers/pod-certificates/controller.js';
import { createNodeApi } from '../server/node-api.js';
import { openPolicyFeed } from '../server/policies/feed.js';
import { followAgentPods } from '../server/node-service/agent-pods.js';
import { createAttestation } from '../server/node-service/attestation.js';
import { nodeServiceHandlers } from '../server/node-service/handlers.js';
import { peerHandlers } from '../server/peers/handlers.js';
import { createRegistrationController } from '../server/registrations.js';
import type { ReadinessControllerOptions } from '../server/controllers/readiness/controller.js';
import { createSigningService } from '../server/signing.js';
import { SigningRefusals } from '../server/signing-refusals.js';
import type { SvidLedger } from '../server/svid-ledger.js';
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
  readonly leading: Watched<boolean>;
  readonly settings: Watched<TrustDomainSettings>;
  readonly ca: CertificateAuthority;
  /** Of the agents' tokens. */
  readonly audience: string;
  readonly agentServiceAccount: { readonly namespace: string; readonly name: string };
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Who gets what, and the service that agents ask for it. */
export interface NodeService {
  readonly server: RpcServer;
  /** What the agent of a node may see and have signed, as {@link server} serves it. */
  readonly nodeApi: (nodeName: string) => NodeApi;
  /** The X.509-SVIDs that are known here. */
  readonly svids: SvidLedger;
  /** How far agents are with revocations: those that follow this replica, and all of them. */
  readonly revocations: { readonly progress: RevocationProgress; readonly reach: RevocationReach };
  /** Nodes whose agent follows this replica now. */
  readonly nodes: () => readonly string[];
  /** Who gets what, for whoever renders policies. */
  readonly registrations: RegistrationSource;
  /** What pods are, for who signs for them. */
  readonly pods: Pick<PodCertificateControllerOptions, 'knowledgeOf' | 'issued'>;
  /** What pods wait for. */
  readonly readiness: Pick<
    ReadinessControllerOptions,
    'registrations' | 'svids' | 'inForce' | 'refusals' | 'hasAgent' | 'settleMs'
  >;
  readonly bundleOf: (trustDomain: string) => TrustBundle | undefined;
  readonly onTrustChange: (listener: () => void) => () => void;
  /** Takes no more calls, and lets those under way end. */
  drain(graceMs: number): Promise<void>;
  close(): Promise<void>;
}

/** In so long, after a replica has begun to lead, agents and the other replicas have told it of the SVIDs that there are. */
const SETTLE_MS = 20_000;
/** Connections of agents: more than nodes, since each that moves has two for a while. */
export const MAX_AGENT_CONNECTIONS = 20_000;

export function composeNodeService(parts: NodeServiceParts): NodeService {
  const { api, store, statuses, settings, ca, clock, logger, audience, agentServiceAccount, metrics } = parts;
  const { name: trustDomain } = settings.value;
  const bounds = derived(settings, registrationBounds);
  const index = createRegistrationIndex({ trustDomain, ...bounds.value });
  const controller = createRegistrationController({
    ...{ store, index, bounds, clock, logger, leading: parts.leading, settleMs: SETTLE_MS },
  });
  const federation = createFederation({
    ...{ store: statuses, trustDomain, parseBundle: parseBundleDocument, clock, logger },
  });
  const revocations = openRevocationBook(store, clock);
  const { inForce } = revocations;
  const agentPods = followAgentPods(store, agentServiceAccount);
  const progress = openRevocationProgress({
    ...{ epoch: Buffer.from(parts.random.bytes(8)).toString('hex'), inForce, ca },
    hasAgent: (nodeName) => agentPods.on(nodeName),
  });
  const reach = createRevocationReach({
    progress,
    agentNodes: () => agentPods.nodes(),
    registrations: () => index.all(),
  });
  const registrations = trustedRegistrations(controller.registrations, inForce, (uid) => index.forPod(uid));
  const refusals = new SigningRefusals();
  const signing = createSigningService({
    ...{ ca, registrations, logger },
    signed: (id, refusal) => {
      if (refusal === undefined) refusals.signed(id);
      else refusals.refused(id, `${refusal.code}: ${refusal.message}`);
    },
  });
  const policies = openPolicyFeed({
    ...{ store, trustDomain, registrations: index },
    ready: controller.registrations.ready,
    onDelta: (onDelta) => controller.onDelta(onDelta),
  });
  const counted = createNodeMetrics(metrics, clock);
  const stopping = new AbortController();
  const server = createRpcServer({ logger, clock, limits: { maxConnections: MAX_AGENT_CONNECTIONS } });
  const attest = createAttestation({
    ...{ trustDomain, audience, clock, serviceAccount: agentServiceAccount },
    reviewer: createTokenReviewer(api),
    podOf(namespace, name) {
      const object = store.get('Pod', `${namespace}/${name}`);
      return object === undefined ? undefined : podFacts(object);
    },
  });
  const nodeApi = (nodeName: string): NodeApi =>
    counted.api(
      nodeName,
      createNodeApi({
        ...{ registrations, signing, policies, ca, federation: federation.bundles, nodeName },
        revokedSerials: revocations.serials,
        revocationMark: progress.mark,
        issued: (svid) => controller.svids.note(svid),
      }),
    );
  server.service(
    nodeService,
    nodeServiceHandlers({
      ...{ ca, clock, logger, stopping: stopping.signal },
      agentTtlSeconds: () => settings.value.ttlSeconds.x509Svid,
      revokedBecause(spiffeId) {
        const revocation = inForce.value.ofId(spiffeId);
        return revocation === undefined ? undefined : revokedText(revocation);
      },
      hasAgent: (nodeName) => agentPods.on(nodeName),
      held: (nodeName, svids) => controller.svids.held(nodeName, svids),
      acknowledged: (nodeName, mark) => progress.acknowledge(nodeName, mark),
      attest: counted.attest(attest),
      attestAgain: (token) => attest(token, true),
      nodeApi,
    }),
  );
  server.service(peerService, peerHandlers({ svids: controller.svids, revocations: reach }, trustDomain));
  metrics.readOne('connections', () => server.connections);
  metrics.readOne('policyReaders', () => policies.readers);
  metrics.readOne('registrations', () => [...index.all()].length);
  const inForceOf = (podUid: string): readonly Registration[] =>
    index.forPod(podUid).filter((one) => inForce.value.of(one) === undefined);
  return {
    ...{ server, nodeApi },
    svids: controller.svids,
    revocations: { progress, reach },
    nodes: () => counted.nodes,
    registrations: index,
    pods: {
      knowledgeOf({ namespace, podName, podUid }) {
        if (!registrations.ready.value) return undefined;
        const object = store.get('Pod', `${namespace}/${podName}`);
        const pod = object?.metadata.uid === podUid ? podFacts(object) : undefined;
        return {
          pod,
          registrations: inForceOf(podUid),
          explanation: registrations.explainPod(podUid),
        };
      },
      issued: (svid) => controller.svids.note(svid),
    },
    readiness: {
      registrations: {
        ready: registrations.ready,
        forPod: inForceOf,
        explainPod: (uid) => registrations.explainPod(uid),
      },
      ...{ svids: controller.svids, inForce, refusals, settleMs: SETTLE_MS },
      hasAgent: (nodeName) => agentPods.on(nodeName),
    },
    bundleOf: (name) =>
      name === trustDomain
        ? ca.bundle.value
        : federation.bundles.value.find(({ trustDomain }) => trustDomain === name),
    onTrustChange(listener) {
      const ends = [ca.bundle.watch(listener), federation.bundles.watch(listener)];
      return () => ends.forEach((end) => end());
    },
    async drain(graceMs) {
      const drained = server.drain(graceMs);
      // Agents are told to go first, so that what they open now opens elsewhere.
      stopping.abort();
      await drained;
    },
    async close() {
      agentPods.close();
      await server.close();
      await federation.close();
      policies.close();
      await controller.close();
      progress.close();
      revocations.close();
    },
  };
}
