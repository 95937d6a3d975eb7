import { afterEach } from '@jest/globals';
import { openOwnIdentity, type OwnIdentity } from '../../src/main/own-identity.js';
import type { ServerConnectionOptions } from '../../src/agent/remote/server-connection.js';
import {
  openCertificateAuthority,
  type CertificateAuthority,
} from '../../src/identity/ca/certificate-authority.js';
import { memoryJournal } from '../../src/identity/ca/journal.js';
import { memoryKeyStore } from '../../src/identity/keys/key-store.js';
import { createRegistrationIndex } from '../../src/identity/registration/registration-index.js';
import { formatBundleDocument } from '../../src/identity/spiffe/bundle-document.js';
import type { TrustBundle } from '../../src/identity/spiffe/bundle.js';
import { systemRandom } from '../../src/lib/random.js';
import { WatchedValue } from '../../src/lib/watched.js';
import { podFacts } from '../../src/cluster/pod-facts.js';
import type { RpcServer } from '../../src/rpc/server.js';
import { createRpcServer } from '../../src/rpc/server.js';
import { nodeService, peerService } from '../../src/rpc/services.js';
import { createNodeApi } from '../../src/server/node-api.js';
import { followAgentPods } from '../../src/server/node-service/agent-pods.js';
import { createAttestation } from '../../src/server/node-service/attestation.js';
import { nodeServiceHandlers, type NodeServiceOptions } from '../../src/server/node-service/handlers.js';
import type { TokenReview } from '../../src/server/node-service/token-review.js';
import { peerHandlers } from '../../src/server/peers/handlers.js';
import { createRegistrationController, type RegistrationController } from '../../src/server/registrations.js';
import { createSigningService } from '../../src/server/signing.js';
import type { StoredObject } from '../../src/store/store.js';
import { FakeClock } from './fake-clock.js';
import { aPodObject } from './identities.js';
import { MemoryStore } from './memory-store.js';
import { recordingLogger, type RecordingLogger } from './recording-logger.js';

export const AUDIENCE = 'signet-server';
export const AGENTS = { namespace: 'signet-system', name: 'signet-agent' };
const TRUST_DOMAIN = 'example.org';

/** One replica of the server, with a TLS port of its own; all replicas of a world have the same CA and store. */
export interface Replica {
  readonly server: RpcServer;
  readonly port: number;
  readonly controller: RegistrationController;
  /** Method and size of each request for registrations, in order: how many registrations the agent named. */
  readonly named: number[];
  /** As on SIGTERM. */
  drain(): Promise<void>;
  /** At once, as by SIGKILL. */
  close(): Promise<void>;
}

/** A server for agents without a cluster: real CA, TLS, registrations and handlers; the API server's reviews are told. */
export interface NodeWorld {
  readonly clock: FakeClock;
  readonly log: RecordingLogger;
  readonly ca: CertificateAuthority;
  readonly store: MemoryStore;
  /** What the API server says of each token; it accepts no other. Set `fails` to make it unreachable. */
  readonly reviews: Map<string, TokenReview> & { fails?: Error };
  /** How often the API server was asked. */
  reviewed: number;
  /** Puts the pod of an agent on a node, and gives its token. */
  agentPod(nodeName: string): string;
  replica(options?: Partial<NodeServiceOptions>): Promise<Replica>;
  /** How an agent reaches a port. */
  agentOptions(port: number, token: string): ServerConnectionOptions;
}

/** The pod of the agent of a node. */
export const anAgentPod = (nodeName: string): StoredObject =>
  aPodObject(
    `agent-${nodeName}`,
    { serviceAccountName: AGENTS.name, nodeName },
    { namespace: AGENTS.namespace },
  );

/** What the API server says of the token of the agent of a node. */
export const anAgentReview = (nodeName: string): TokenReview => ({
  authenticated: true,
  username: `system:serviceaccount:${AGENTS.namespace}:${AGENTS.name}`,
  audiences: [AUDIENCE],
  extra: {
    'authentication.kubernetes.io/pod-name': [`agent-${nodeName}`],
    'authentication.kubernetes.io/pod-uid': [`uid-agent-${nodeName}`],
    'authentication.kubernetes.io/node-name': [nodeName],
    'authentication.kubernetes.io/credential-id': [`JTI=${nodeName}`],
  },
});

/** What a process with this path shows, signed by the CA of the world. */
export function identityIn({ clock, ca, log }: NodeWorld, path: string): Promise<OwnIdentity> {
  return openOwnIdentity({
    ...{ ca, path, keyType: 'ec-p256', ttlSeconds: () => 3600, clock, random: systemRandom, logger: log },
    bundleOf: (name) => (name === TRUST_DOMAIN ? ca.bundle.value : undefined),
    onTrustChange: (listener) => ca.bundle.watch(listener),
  });
}

/** Call it once at the top of a test file: everything is closed after each test. */
export function nodeWorlds(): { world(): Promise<NodeWorld>; closing(close: () => unknown): void } {
  const closers: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });
  return {
    closing: (close) => closers.push(close),
    async world() {
      const made = await newWorld((close) => closers.push(close));
      return made;
    },
  };
}

async function newWorld(closing: (close: () => unknown) => void): Promise<NodeWorld> {
  const clock = new FakeClock();
  const log = recordingLogger();
  const shared = { clock, random: systemRandom, logger: log };
  const ca = await openCertificateAuthority({
    ...{ trustDomain: TRUST_DOMAIN, keys: memoryKeyStore(), journal: memoryJournal(), config: {} },
    ...shared,
  });
  closing(() => ca.close());
  const store = new MemoryStore();
  const reviews: NodeWorld['reviews'] = new Map<string, TokenReview>();
  const world: NodeWorld = {
    ...{ clock, log, ca, store, reviews, reviewed: 0 },
    agentPod(nodeName) {
      store.put(anAgentPod(nodeName));
      const token = `header.token-of-${nodeName}.signature`;
      reviews.set(token, anAgentReview(nodeName));
      return token;
    },
    replica: (options = {}) => newReplica(world, options, closing),
    agentOptions: (port, token) => ({
      ...{ trustDomain: TRUST_DOMAIN, host: '127.0.0.1', port, keyType: 'ec-p256', ...shared },
      readToken: () => Promise.resolve(token),
      readBundle: () => Promise.resolve(formatBundleDocument(ca.bundle.value)),
    }),
  };
  return world;
}

async function newReplica(
  world: NodeWorld,
  options: Partial<NodeServiceOptions>,
  closing: (close: () => unknown) => void,
): Promise<Replica> {
  const { clock, log, ca, store, reviews } = world;
  const controller = createRegistrationController({
    ...{ store, clock, logger: log },
    index: createRegistrationIndex({
      trustDomain: TRUST_DOMAIN,
      defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
      maxX509TtlSeconds: 86_400,
    }),
  });
  const { registrations } = controller;
  const signing = createSigningService({ ca, registrations, logger: log });
  const federation = new WatchedValue<readonly TrustBundle[]>([]);
  const agentPods = followAgentPods(store, AGENTS);
  const stopping = new AbortController();
  const attest = createAttestation({
    ...{ trustDomain: TRUST_DOMAIN, audience: AUDIENCE, serviceAccount: AGENTS, clock },
    reviewer: {
      review(token) {
        world.reviewed += 1;
        if (reviews.fails !== undefined) return Promise.reject(reviews.fails);
        const known = reviews.get(token);
        return Promise.resolve(
          known ?? {
            authenticated: false,
            error: 'invalid bearer token',
            username: '',
            audiences: [],
            extra: {},
          },
        );
      },
    },
    podOf(namespace, name) {
      const object = store.get('Pod', `${namespace}/${name}`);
      return object === undefined ? undefined : podFacts(object);
    },
  });
  const server = createRpcServer({ logger: log, clock, standardServices: false });
  const handlers = nodeServiceHandlers({
    ...{ ca, clock, logger: log, agentTtlSeconds: () => 3600, stopping: stopping.signal },
    ...{ attest, attestAgain: (token) => attest(token, true) },
    hasAgent: (nodeName) => agentPods.on(nodeName),
    held: (nodeName, svids) => controller.svids.held(nodeName, svids),
    nodeApi: (nodeName) =>
      createNodeApi({
        ...{ registrations, signing, ca, federation, nodeName },
        issued: (svid) => controller.svids.note(svid),
      }),
    ...options,
  });
  const named: number[] = [];
  server.service(nodeService, {
    ...handlers,
    async sync(request, context, sink) {
      named.push(request.held.length);
      await handlers.sync?.(request, context, sink);
    },
  });
  server.service(
    peerService,
    peerHandlers({ svids: controller.svids, revocations: { reported() {} } }, TRUST_DOMAIN),
  );
  const identity = await identityIn(world, '/signet/server');
  const listener = await server.listenTls({
    ...{ address: '127.0.0.1', port: 0, name: 'agents', identity, clientCertificate: 'optional' },
  });
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= (async () => {
      identity.close();
      await server.close();
      agentPods.close();
      await controller.close();
    })();
    return closed;
  };
  closing(close);
  return {
    ...{ server, port: listener.port, controller, named, close },
    async drain() {
      const drained = server.drain(10_000);
      stopping.abort();
      await drained;
    },
  };
}
