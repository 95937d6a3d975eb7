import { createRegistrationIndex } from '../identity/registration/registration-index.js';
import { parseBundleDocument } from '../identity/spiffe/bundle-document.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { findTrustDomain, trustDomainSettings, type TrustDomainSettings } from '../cluster/trust-domain.js';
import { podFacts } from '../cluster/pod-facts.js';
import { sleep, type Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { Watched } from '../lib/watched.js';
import { SIGNET_KINDS, type SignetKind } from '../resources/kinds.js';
import { createRpcServer, type RpcServer } from '../rpc/server.js';
import { nodeService } from '../rpc/services.js';
import type { TlsRpcListener } from '../rpc/tls/listener.js';
import { createFederation } from '../server/federation.js';
import { createNodeApi } from '../server/node-api.js';
import { SERVER_PATH } from '../server/node-service/agent-id.js';
import { createAttestation } from '../server/node-service/attestation.js';
import { nodeServiceHandlers } from '../server/node-service/handlers.js';
import { createRegistrationController } from '../server/registrations.js';
import { createSigningService } from '../server/signing.js';
import { createKubernetesApi, type KubernetesApi } from '../store/kubernetes/api.js';
import { openConnection, type ConnectionOptions } from '../store/kubernetes/connection.js';
import { createKubernetesStore, type FollowedKind } from '../store/kubernetes/kubernetes-store.js';
import { createLeaderElection } from '../store/kubernetes/leader-election.js';
import { createObjectWriter, type ObjectWriter } from '../store/kubernetes/object-writer.js';
import { createTokenReviewer } from '../store/kubernetes/token-review.js';
import { podTrimmer } from '../store/kubernetes/trim.js';
import { NAMESPACE, POD, SECRET, signetType } from '../store/kubernetes/types.js';
import type { Store } from '../store/store.js';
import { openClusterCa, type ClusterCa } from './cluster-ca.js';
import { keyEncryptionFromFile, keyEncryptionFromSecret } from './cluster-key.js';
import { leaderStore } from './leader-store.js';
import type { ListenAddress } from './listen-address.js';
import { openOwnIdentity } from './own-identity.js';

/** How a server in a cluster is started. */
export interface ServerOptions {
  readonly connection: ConnectionOptions;
  /** Where Signet's own Secrets and Lease are. */
  readonly namespace: string;
  /** Of this process and no other that ever was. */
  readonly identity: string;
  /** For agents. */
  readonly listen: ListenAddress;
  /** Of the agents' tokens. */
  readonly audience: string;
  readonly agentServiceAccount: { readonly namespace: string; readonly name: string };
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
  readonly leading: Watched<boolean>;
  /** Resolves when it has stopped, after `signal` was aborted. */
  readonly stopped: Promise<void>;
}

const FIELD_MANAGER = 'signet';
const LEASE_NAME = 'signet-server';
const CA_SECRET = 'signet-ca';
const KEY_SECRET = 'signet-key-encryption';
/** What agents that are still connected get to finish their calls. */
const DRAIN_MS = 10_000;

/**
 * Runs a server against the API server. Resolves when agents may connect; until then it waits for what is not there yet
 * (the CRDs, the TrustDomain, the authorities) and says what it waits for. Rejects for what waiting does not mend.
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { clock, random, logger, namespace } = options;
  const stop = new AbortController();
  const closers: (() => unknown)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of closers.splice(0).reverse()) await close();
  };
  const onAbort = (): void => stop.abort();
  if (options.signal.aborted) stop.abort();
  else options.signal.addEventListener('abort', onAbort, { once: true });
  try {
    const api = createKubernetesApi(await openConnection(options.connection), clock);
    closers.push(() => api.close());
    const writer = createObjectWriter({ api, fieldManager: FIELD_MANAGER });
    const store = createKubernetesStore({ api, writer, kinds: followedKinds(), clock, random, logger });
    closers.push(running((signal) => store.run(signal)));
    const election = createLeaderElection({
      ...{ api, namespace, name: LEASE_NAME, identity: options.identity, clock, random, logger },
    });
    closers.push(running((signal) => election.run(signal)));
    const statuses = leaderStore(store, election.leading, logger);
    closers.push(() => statuses.close());

    await synced(store, logger, clock, stop.signal);
    const settings = await settled(store, options, stop.signal);
    const clusterCa = await openCa(
      { options, api, writer, store, settings, leading: election.leading },
      stop.signal,
    );
    const { ca } = clusterCa;
    closers.push(() => ca.close());
    closers.push(running((signal) => clusterCa.follow(signal)));
    closers.push(whileLeading(election.leading, (signal) => ca.run(signal)));

    const node = composeNodeService({ options, api, store, statuses, settings, clusterCa });
    closers.push(node.close);
    const own = await openOwnIdentity({
      ...{ ca, path: SERVER_PATH, keyType: 'ec-p256', ttlSeconds: settings.ttlSeconds.x509Svid },
      ...{ bundleOf: node.bundleOf, onTrustChange: node.onTrustChange, clock, random, logger },
    });
    closers.push(() => own.close());
    const listener = await node.server.listenTls({
      ...options.listen,
      ...{ name: 'agents', identity: own, clientCertificate: 'optional', maxConnections: 20_000 },
    });
    const stopped = new Promise<void>((resolve) => {
      if (stop.signal.aborted) resolve();
      else stop.signal.addEventListener('abort', () => resolve(), { once: true });
    }).then(closeAll);
    return { trustDomain: settings.name, address: addressOf(listener), leading: election.leading, stopped };
  } catch (error) {
    await closeAll();
    throw error;
  } finally {
    if (stop.signal.aborted) options.signal.removeEventListener('abort', onAbort);
  }
}

function addressOf({ address, port }: TlsRpcListener): ListenAddress {
  return { address, port };
}

function followedKinds(): readonly FollowedKind[] {
  return [
    { type: NAMESPACE, metadataOnly: true },
    { type: POD, trim: podTrimmer() },
    ...(Object.keys(SIGNET_KINDS) as readonly SignetKind[]).map((kind) => ({ type: signetType(kind) })),
  ];
}

/** Runs something until it is closed. */
function running(run: (signal: AbortSignal) => Promise<void>): () => Promise<void> {
  const stop = new AbortController();
  const done = run(stop.signal);
  return async () => {
    stop.abort();
    await done.catch(() => undefined);
  };
}

/** Runs something in each time that this replica leads; one time is over before the next begins. */
function whileLeading(
  leading: Watched<boolean>,
  run: (signal: AbortSignal) => Promise<void>,
): () => Promise<void> {
  let term: (() => Promise<void>) | undefined;
  let last: Promise<unknown> = Promise.resolve();
  const change = (leads: boolean): void => {
    const end = term;
    term = undefined;
    if (end !== undefined) last = Promise.all([last, end()]);
    if (!leads) return;
    term = running(async (signal) => {
      await last;
      if (!signal.aborted) await run(signal);
    });
  };
  const unwatch = leading.watch(change);
  change(leading.value);
  return async () => {
    unwatch();
    change(false);
    await last;
  };
}

const WAIT_MS = 250;
/** How often what is waited for is said again. */
const TELL_MS = 30_000;

/** Waits for a condition, and tells what it waits for at first and now and then. */
async function waitFor<T>(
  what: () => T | string,
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
  signal: AbortSignal,
): Promise<T> {
  let toldAt = Number.NEGATIVE_INFINITY;
  let told = '';
  for (;;) {
    const value = what();
    if (typeof value !== 'string') return value;
    if ((value !== told && clock.monotonic() - toldAt > 1_000) || clock.monotonic() - toldAt >= TELL_MS) {
      logger.info(`waiting for ${value}`);
      told = value;
      toldAt = clock.monotonic();
    }
    await sleep(clock, WAIT_MS, signal);
  }
}

function synced(
  store: Store & { readonly waitingFor: readonly string[] },
  logger: Logger,
  clock: Clock,
  signal: AbortSignal,
): Promise<true> {
  return waitFor(
    () => (store.synced.value ? true : `the API server's ${store.waitingFor.join(', ')}`),
    { clock, logger },
    signal,
  );
}

/** The trust domain's settings, once there is a TrustDomain that can be used. */
function settled(store: Store, options: ServerOptions, signal: AbortSignal): Promise<TrustDomainSettings> {
  return waitFor(
    () => {
      try {
        const resource = findTrustDomain(store);
        return resource === undefined ? 'a TrustDomain resource' : trustDomainSettings({ resource });
      } catch (thrown) {
        return `a TrustDomain that can be used: ${SignetError.from(thrown).message}`;
      }
    },
    options,
    signal,
  );
}

interface CaParts {
  readonly options: ServerOptions;
  readonly api: KubernetesApi;
  readonly writer: ObjectWriter;
  readonly store: Store;
  readonly settings: TrustDomainSettings;
  readonly leading: Watched<boolean>;
}

async function openCa(parts: CaParts, signal: AbortSignal): Promise<ClusterCa> {
  const { options, api, writer, store, settings, leading } = parts;
  const { clock, random, logger, namespace } = options;
  const file = settings.keyEncryptionFile;
  const hasAuthorities = (): Promise<boolean> =>
    writer.get(SECRET, { namespace, name: CA_SECRET }).then(
      () => true,
      () => false,
    );
  const encryption =
    file === undefined
      ? await keyEncryptionFromSecret(writer, { namespace, name: KEY_SECRET }, random, hasAuthorities)
      : await keyEncryptionFromFile(file, random);
  return openClusterCa(
    {
      ...{
        api,
        writer,
        namespace,
        secretName: CA_SECRET,
        settings,
        encryption,
        leading,
        clock,
        random,
        logger,
      },
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

interface NodeParts {
  readonly options: ServerOptions;
  readonly api: KubernetesApi;
  readonly store: Store;
  /** Writes statuses while this replica leads. */
  readonly statuses: Store;
  readonly settings: TrustDomainSettings;
  readonly clusterCa: ClusterCa;
}

interface NodeServiceParts {
  readonly server: RpcServer;
  readonly bundleOf: (trustDomain: string) => TrustBundle | undefined;
  readonly onTrustChange: (listener: () => void) => () => void;
  readonly close: () => Promise<void>;
}

/** Who gets what, and the service that agents ask for it. */
function composeNodeService({
  options,
  api,
  store,
  statuses,
  settings,
  clusterCa,
}: NodeParts): NodeServiceParts {
  const { clock, logger, audience, agentServiceAccount } = options;
  const { ca } = clusterCa;
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
  const agentPods = (nodeName: string): boolean =>
    store.list('Pod').some((object) => {
      const facts = podFacts(object);
      return (
        facts?.nodeName === nodeName &&
        facts.namespace === agentServiceAccount.namespace &&
        facts.serviceAccount === agentServiceAccount.name
      );
    });
  const server = createRpcServer({ logger, clock, limits: { maxConnections: 20_000 } });
  server.service(
    nodeService,
    nodeServiceHandlers({
      ...{ ca, clock, logger, agentTtlSeconds: settings.ttlSeconds.x509Svid, hasAgent: agentPods },
      attest: createAttestation({
        ...{ trustDomain: settings.name, audience, clock, serviceAccount: agentServiceAccount },
        reviewer: createTokenReviewer(api),
        podOf(namespace, name) {
          const object = store.get('Pod', `${namespace}/${name}`);
          return object === undefined ? undefined : podFacts(object);
        },
      }),
      nodeApi: (nodeName) =>
        createNodeApi({
          ...{ registrations, signing, ca, federation: federation.bundles, nodeName },
          issued: (registrationId, notAfter) => controller.issued(registrationId, notAfter),
        }),
    }),
  );
  return {
    server,
    bundleOf: (name) =>
      name === settings.name
        ? ca.bundle.value
        : federation.bundles.value.find(({ trustDomain }) => trustDomain === name),
    onTrustChange(listener) {
      const ends = [ca.bundle.watch(listener), federation.bundles.watch(listener)];
      return () => ends.forEach((end) => end());
    },
    async close() {
      await server.drain(DRAIN_MS);
      await server.close();
      await federation.close();
      await controller.close();
    },
  };
}
