import { followSettings } from '../cluster/live-settings.js';
import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import type { Clock } from '../lib/clock.js';
import type { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { bothOf, type Watched } from '../lib/watched.js';
import { SIGNET_KINDS, type SignetKind } from '../resources/kinds.js';
import type { TlsRpcListener } from '../rpc/tls/listener.js';
import { SERVER_PATH } from '../server/node-service/agent-id.js';
import { reportToLeader } from '../server/peers/reporter.js';
import { Distribution } from '../server/controllers/bundles/distribution.js';
import { createDiscovery } from '../store/kubernetes/discovery.js';
import { createEventRecorder } from '../store/kubernetes/events.js';
import { ClockSkew } from '../store/kubernetes/clock-skew.js';
import { createKubernetesApi } from '../store/kubernetes/api.js';
import { openConnection, type ConnectionOptions } from '../store/kubernetes/connection.js';
import { createKubernetesStore, type FollowedKind } from '../store/kubernetes/kubernetes-store.js';
import { createClusterOwner } from '../store/kubernetes/cluster-owner.js';
import { createLeaderElection, type LeaderElection } from '../store/kubernetes/leader-election.js';
import { createObjectWriter } from '../store/kubernetes/object-writer.js';
import { podTrimmer } from '../store/kubernetes/trim.js';
import { NAMESPACE, POD, SERVICE, signetType } from '../store/kubernetes/types.js';
import type { ClusterAuthorities, ClusterCa } from './cluster-ca.js';
import { leaderStore } from './leader-store.js';
import type { ListenAddress } from './listen-address.js';
import { openOperations, type Operations } from './operations.js';
import { openOwnIdentity } from './own-identity.js';
import { watchClock } from './server-clock.js';
import { createServerCa } from './server-ca.js';
import { leadAccess } from './server-access.js';
import { createControllerRunner } from './server-controllers.js';
import { composeNodeService, MAX_AGENT_CONNECTIONS, type NodeService } from './server-node-service.js';
import { servePods } from './server-pods.js';
import type { WebhookOptions } from './server-webhook.js';
import { leadPublishing, leadTrustDomain, type ServerTrustParts } from './server-trust.js';
import { reflectorMetrics, showAuthorities, showStore } from './server-operations.js';
import { untilOwned, untilSettled, untilSynced } from './server-waits.js';
import { revocationLink, svidLink } from './server-peers.js';
import { runTask, runWhileLeading } from './tasks.js';

/** How a server in a cluster is started. */
export interface ServerOptions {
  readonly connection: ConnectionOptions;
  /** Where Signet's own Secrets and Lease are. */
  readonly namespace: string;
  /** Of this process and no other that ever was. */
  readonly identity: string;
  /** For agents. */
  readonly listen: ListenAddress;
  /** For probes and metrics; nowhere unless said. */
  readonly operations?: ListenAddress;
  /** Of Signet, for metrics. */
  readonly version?: string;
  /** Of the agents' tokens. */
  readonly audience: string;
  readonly agentServiceAccount: { readonly namespace: string; readonly name: string };
  /** Name of the ConfigMaps with the bundle; `signet-bundle` unless said. */
  readonly bundleConfigMap?: string;
  /** Whose PodCertificateRequests are signed; `signet.dev/workload` unless said. */
  readonly podCertificateSigner?: string;
  /** Changes pods that ask for an identity; no pod is changed unless said. Signet's own namespaces are skipped in any case. */
  readonly webhook?: Omit<WebhookOptions, 'skippedNamespaces'>;
  /** See the cluster owner's. */
  readonly takeOverMs?: number;
  readonly askEveryMs?: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Stops it. */
  readonly signal: AbortSignal;
}

/** A running server. */
export interface RunningServer {
  readonly trustDomain: string;
  /** Where agents reach it. */
  readonly address: ListenAddress;
  /** Where health and metrics are, `ip:port`. */
  readonly operationsAddress: string | undefined;
  /** Where the API server asks about pods, `ip:port`. */
  readonly webhookAddress: string | undefined;
  readonly leading: Watched<boolean>;
  /** Resolves when it has stopped, after `signal` was aborted; rejects with the reason when it could not go on. */
  readonly stopped: Promise<void>;
}

const FIELD_MANAGER = 'signet';
const LEASE_NAME = 'signet-server';
/** What agents that are still connected get to finish their calls. */
const DRAIN_MS = 10_000;

/**
 * Runs a server against the API server. Resolves when agents may connect; until then it waits for what is not there yet
 * (the CRDs, the TrustDomain, the authorities) and says what it waits for, in the log and at /readyz. Rejects for what
 * waiting does not mend.
 *
 * It stops in this order: it calls itself not ready, takes no more agents and lets those it has end their calls, ends the
 * controllers, gives the lease back, and only then leaves the API server.
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { clock, random, logger } = options;
  const operations = await openOperations({
    ...{ program: 'server', address: options.operations, version: options.version ?? '' },
    ...{ clock, random, logger },
  });
  const life = new Life(options.signal, operations, logger);
  try {
    return await run(options, operations, life);
  } catch (error) {
    await life.end();
    throw life.failure ?? error;
  }
}

/** When a server ends, and what is closed then. */
class Life {
  failure: SignetError | undefined;
  readonly #stop = new AbortController();
  readonly #closers: (() => unknown)[] = [];
  readonly #outer: AbortSignal;
  readonly #logger: Logger;
  readonly #operations: Operations;
  readonly #onAbort = (): void => this.#abort(this.#outer.reason);

  constructor(outer: AbortSignal, operations: Operations, logger: Logger) {
    this.#outer = outer;
    this.#operations = operations;
    this.#logger = logger;
    this.closing(() => operations.close());
    if (outer.aborted) this.#onAbort();
    else outer.addEventListener('abort', this.#onAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** What is opened last is closed first. */
  closing(close: () => unknown): void {
    this.#closers.push(close);
  }

  /** A task has ended that must not: a new process may do better. */
  readonly failed = (error: SignetError): void => {
    this.failure ??= error;
    this.#operations.failed(error);
    this.#logger.error('the server cannot go on', { code: error.code, reason: error.message });
    this.#abort(error);
  };

  /** Resolves when it is to end. */
  over(): Promise<void> {
    return new Promise((resolve) => {
      if (this.signal.aborted) resolve();
      else this.signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }

  async end(): Promise<void> {
    this.#outer.removeEventListener('abort', this.#onAbort);
    this.#operations.stopping();
    for (const close of this.#closers.splice(0).reverse()) await close();
  }

  #abort(reason: unknown): void {
    this.#operations.stopping();
    this.#stop.abort(reason);
  }
}

async function run(options: ServerOptions, operations: Operations, life: Life): Promise<RunningServer> {
  const { clock, random, logger, namespace } = options;
  const { metrics, health, show } = operations;
  /** What health and metrics are read from, as it comes to be. */
  const come: {
    settings?: Watched<TrustDomainSettings>;
    authorities?: ClusterAuthorities;
    clusterCa?: ClusterCa;
    listener?: TlsRpcListener;
  } = {};

  const connection = await openConnection(options.connection);
  const skew = new ClockSkew(clock);
  const observe = (verb: string, code: string, seconds: number): void => {
    metrics.count('apiRequests', { verb, code });
    metrics.observe('apiSeconds', { verb }, seconds);
  };
  const api = createKubernetesApi(connection, clock, observe, skew);
  life.closing(() => api.close());
  const writer = createObjectWriter({ api, fieldManager: FIELD_MANAGER });
  const kinds = followedKinds();
  const store = createKubernetesStore({
    ...{ api, writer, kinds, clock, random, logger, observe: reflectorMetrics(metrics) },
  });
  const election = createLeaderElection({
    ...{ api, namespace, name: LEASE_NAME, identity: options.identity, clock, random, logger },
  });
  showStore(
    operations,
    store,
    kinds.map(({ type }) => type.kind),
    election,
  );
  health.ready.add('trust-domain', () =>
    come.settings === undefined ? 'there is none to serve yet' : undefined,
  );
  const whyClosed = (): string | undefined => come.authorities?.problem.value?.message;
  showAuthorities(operations, () => come.clusterCa, whyClosed, clock);
  health.ready.add('agents', () => (come.listener === undefined ? 'agents cannot connect yet' : undefined));

  const serverClock = watchClock(skew, operations, clock, logger);
  life.closing(runTask('the clock', (signal) => serverClock.run(signal), life.failed));
  life.closing(runTask('the mirror of the API server', (signal) => store.run(signal), life.failed));
  life.closing(runTask('leader election', (signal) => election.run(signal), life.failed));
  const installation = `${namespace}/${LEASE_NAME}`;
  const { takeOverMs, askEveryMs } = options;
  const owner = createClusterOwner({
    ...{ api, store, installation, leading: election.leading, clock, logger },
    ...(takeOverMs === undefined ? {} : { takeOverMs }),
    ...(askEveryMs === undefined ? {} : { askEveryMs }),
  });
  health.ready.add('installation', () => owner.problem.value);
  life.closing(runTask('owning the cluster', (signal) => owner.run(signal), life.failed));
  const { leading } = owner;
  const statuses = leaderStore(store, leading, logger);
  life.closing(() => statuses.close());

  const waiting = { clock, logger, signal: life.signal };
  await untilSynced(store, waiting);
  const settings = followSettings(store, await untilSettled(store, waiting), { logger });
  life.closing(() => settings.close());
  await untilOwned(owner, waiting);
  come.settings = settings;
  const distribution = new Distribution(clock);
  const authorities = createServerCa({
    ...{ api, writer, store, settings, namespace, clock, random, logger },
    leading,
    distributedForMs: (sequence) => distribution.distributedForMs(sequence),
    clockProblem: () => serverClock.problem(),
  });
  come.authorities = authorities;
  const controllers = createControllerRunner(leading, metrics, life.failed);
  show('queues', () => controllers.queues());
  const discovery = createDiscovery({ api, clock, random, logger });
  life.closing(runTask('discovery', (signal) => discovery.run(signal), life.failed));
  const events = createEventRecorder({
    ...{ api, controller: 'signet.dev/server', instance: options.identity, clock, random, logger },
  });
  life.closing(() => events.close());
  const trust: ServerTrustParts = {
    ...{
      api,
      writer,
      store,
      settings,
      namespace,
      installation,
      authorities,
      distribution,
      discovery,
      events,
      controllers,
    },
    ...{ clock, random, logger },
    fieldManager: FIELD_MANAGER,
    bundleConfigMap: options.bundleConfigMap ?? 'signet-bundle',
    clockProblem: () => serverClock.problem(),
    signerName: options.podCertificateSigner ?? 'signet.dev/workload',
    closing: (close) => life.closing(close),
  };
  leadTrustDomain(trust);
  const clusterCa = await authorities.open(life.signal);
  come.clusterCa = clusterCa;
  const { ca } = clusterCa;
  life.closing(() => ca.close());
  life.closing(runTask('following the authorities', (signal) => clusterCa.follow(signal), life.failed));
  life.closing(
    runWhileLeading('rotation', bothOf(leading, serverClock.good), (signal) => ca.run(signal), life.failed),
  );

  const node = composeNodeService({
    ...{ api, store, statuses, leading, settings, ca, metrics, clock, random, logger },
    ...{ audience: options.audience, agentServiceAccount: options.agentServiceAccount },
  });
  show('agents', () => node.nodes());
  life.closing(() => node.close());
  leadPublishing(trust, ca, node);
  leadAccess(trust, node.registrations);
  const webhook = await servePods({
    ...{ store, writer, node, ca, settings, leading, operations, controllers, clock, random, logger },
    webhook: options.webhook && {
      ...options.webhook,
      skippedNamespaces: ['kube-system', namespace, options.agentServiceAccount.namespace],
    },
    failed: life.failed,
    closing: (close) => life.closing(close),
  });
  const listener = await listenForAgents(options, node, { clusterCa, settings, election }, life);
  come.listener = listener;
  return {
    trustDomain: settings.value.name,
    address: { address: listener.address, port: listener.port },
    operationsAddress: operations.address,
    webhookAddress: webhook?.address,
    leading,
    stopped: life.over().then(async () => {
      await life.end();
      if (life.failure !== undefined) throw life.failure;
    }),
  };
}

async function listenForAgents(
  { clock, random, logger, listen, identity }: ServerOptions,
  node: NodeService,
  {
    clusterCa,
    settings,
    election,
  }: {
    readonly clusterCa: ClusterCa;
    readonly settings: Watched<TrustDomainSettings>;
    readonly election: LeaderElection;
  },
  life: Life,
): Promise<TlsRpcListener> {
  const { ca } = clusterCa;
  const own = await openOwnIdentity({
    ...{ ca, path: SERVER_PATH, keyType: 'ec-p256', ttlSeconds: () => settings.value.ttlSeconds.x509Svid },
    ...{ bundleOf: node.bundleOf, onTrustChange: node.onTrustChange, clock, random, logger },
  });
  life.closing(() => own.close());
  const peers = { trustDomain: settings.value.name, identity: own, clock, random };
  const reporting = { leader: election.leader, self: identity, clock, random, logger };
  const svids = {
    ...{ ...reporting, what: 'SVIDs', items: node.svids },
    connect: (address: string) => svidLink(peers, address),
  };
  life.closing(runTask('reports of SVIDs', (signal) => reportToLeader(svids, signal), life.failed));
  const { entries, epoch } = node.revocations.progress;
  const revocations = {
    ...{ ...reporting, what: 'revocations', items: entries },
    connect: (address: string) => revocationLink(peers, epoch, address),
  };
  life.closing(
    runTask('reports of revocations', (signal) => reportToLeader(revocations, signal), life.failed),
  );
  const listener = await node.server.listenTls({
    ...listen,
    ...{
      name: 'agents',
      identity: own,
      clientCertificate: 'optional',
      maxConnections: MAX_AGENT_CONNECTIONS,
    },
  });
  life.closing(() => node.drain(DRAIN_MS));
  return listener;
}

function followedKinds(): readonly FollowedKind[] {
  return [
    { type: NAMESPACE, metadataOnly: true },
    { type: POD, trim: podTrimmer() },
    { type: SERVICE },
    ...(Object.keys(SIGNET_KINDS) as readonly SignetKind[]).map((kind) => ({ type: signetType(kind) })),
  ];
}
