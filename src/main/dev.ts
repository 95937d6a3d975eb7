import { createAgent, type Agent } from '../agent/agent.js';
import type { CertificateAuthority } from '../identity/ca/certificate-authority.js';
import {
  createRegistrationIndex,
  type RegistrationIndex,
} from '../identity/registration/registration-index.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { parseBundleDocument } from '../identity/spiffe/bundle-document.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { derived, type Watched } from '../lib/watched.js';
import { linuxPeerCredentials } from '../rpc/peer/linux.js';
import { createRpcServer, type RpcServer } from '../rpc/server.js';
import { adminService } from '../rpc/services.js';
import { adminHandlers } from '../server/admin.js';
import { openRevocationBook } from '../server/controllers/revocation/book.js';
import { trustedRegistrations } from '../server/controllers/revocation/trusted-registrations.js';
import { createFederation } from '../server/federation.js';
import { createNodeApi } from '../server/node-api.js';
import { podFacts } from '../cluster/pod-facts.js';
import { createRegistrationController, type RegistrationView } from '../server/registrations.js';
import { createSigningService } from '../server/signing.js';
import { followSettings } from '../cluster/live-settings.js';
import { registrationBounds } from '../cluster/registrations.js';
import { findTrustDomain, trustDomainSettings, type TrustDomainSettings } from '../cluster/trust-domain.js';
import { openFolderStore, type FolderStore } from '../store/folder/folder-store.js';
import { openApplicationPort, type ApplicationPort } from './application-api.js';
import { openAuthorization, openAuthorizationPort } from './authorization.js';
import { keepBundleFile } from './bundle-file.js';
import { reportProblems } from './folder-problems.js';
import { formatListenAddress, type ListenAddress } from './listen-address.js';
import { caConfigOf } from './ca-config.js';
import { openCa } from './open-ca.js';
import { openOwnIdentity, type OwnIdentity } from './own-identity.js';
import { keepPodSockets } from './pod-sockets.js';
import { untilSigned } from './signed.js';
import { openStateDirectory, type StateLayout } from './state-directory.js';
import { createWorkloadServices, openSharedSockets } from './workload-services.js';

/** How the embedded mode is started. */
export interface DevOptions {
  /** A folder or file of resources. */
  readonly resourcePath: string;
  readonly stateDirectory: string;
  readonly trustDomain?: string;
  /** Whether callers are told why they were denied. */
  readonly tellReasons?: boolean;
  /** Where Envoys may ask over mutual TLS, too. */
  readonly authorizationAddress?: ListenAddress;
  /** Where applications may ask over mutual TLS, too. */
  readonly applicationAddress?: ListenAddress | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Stops it. */
  readonly signal: AbortSignal;
}

/** What is told when all is ready: the documented line of `signet dev --output json`. */
export interface ReadyReport {
  readonly ready: true;
  readonly trustDomain: string;
  readonly sharedSocket: string;
  readonly bundleFile: string;
  readonly stateDir: string;
  /** Where Envoys may ask over mutual TLS, and the SPIFFE ID that answers. */
  readonly authorization?: { readonly address: string; readonly spiffeID: string };
  /** The same for applications. */
  readonly applications?: { readonly address: string; readonly spiffeID: string };
  /** Where applications ask that the kernel tells apart. */
  readonly sharedApplicationSocket: string;
  readonly pods: readonly {
    readonly namespace: string;
    readonly name: string;
    readonly serviceAccount: string;
    readonly socket: string;
    readonly applicationSocket: string;
    readonly spiffeIDs: readonly string[];
  }[];
}

/** A running embedded mode. */
export interface RunningDev {
  readonly report: ReadyReport;
  /** Resolves when it has stopped, after `signal` was aborted. */
  readonly stopped: Promise<void>;
}

/** Signet itself, in its own trust domain; no registration can have it. */
const OWN_PATH = '/signet/agent';
/** All pods of a folder run on this node. */
const NODE_NAME = 'dev';

/**
 * Runs server and agent in this process. Resolves when every registration has its SVID (or was refused one), and
 * rejects when it cannot start; nothing is left open then.
 */
export async function startDev(options: DevOptions): Promise<RunningDev> {
  const { clock, logger } = options;
  // Closed in the reverse order of opening, on failure and on stop alike.
  const closers: (() => unknown)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of closers.reverse()) await close();
  };
  const stop = new AbortController();
  try {
    const state = openStateDirectory(options.stateDirectory);
    const store = await openFolderStore({ path: options.resourcePath, clock, logger, nodeName: NODE_NAME });
    closers.push(() => store.close());
    closers.push(reportProblems(store.problems, logger));
    const { trustDomain: flag } = options;
    const settings = followSettings(store, settingsOf(store, options), {
      ...(flag === undefined ? {} : { flag }),
      logger,
    });
    closers.push(() => settings.close());
    const ca = await openCa(settings.value, { ...options, directory: state.ca });
    closers.push(() => ca.close());
    closers.push(settings.watch((now) => ca.configure(caConfigOf(now))));
    closers.push(tellOfOtherKey(settings, logger));
    closers.push(keepBundleFile(state.bundleFile, ca.bundle, logger));

    const identity = composeIdentity(store, ca, settings, options);
    const { registrations, agent } = identity;
    closers.push(identity.close);
    const { authorization, extensionConfigs, close } = openAuthorization({
      ...{ store, settings, agent, logger, clock, random: options.random },
      registrations: identity.index,
      bundleOf: identity.bundleOf,
      tellReasons: options.tellReasons ?? false,
    });
    closers.push(close);
    const running = Promise.all([agent.run(stop.signal), ca.run(stop.signal)]);
    closers.push(async () => {
      stop.abort(new SignetError('Stopped', 'Signet is stopping'));
      await running.catch(() => undefined);
    });
    const admin = await serveAdmin(ca, state, logger);
    closers.push(() => admin.close());
    const services = createWorkloadServices({
      ...{ agent, access: { authorization, extensionConfigs }, logger, clock, random: options.random },
    });
    closers.push(() => services.close());
    await openSharedSockets(services, {
      workloadApi: state.sharedSocket,
      applicationApi: state.sharedApplicationSocket,
    });
    const { applicationAddress } = options;
    let applications: ApplicationPort | undefined;
    if (applicationAddress !== undefined)
      applications = await openApplicationPort({
        ...{ server: services.applications, address: applicationAddress },
        ...{ own: await identity.own(), trustDomain: ca.trustDomain },
      });
    const sockets = keepPodSockets({
      ...{ store, logger },
      sockets: [
        { server: services.workloads, socketOf: state.podSocket },
        { server: services.applications, socketOf: state.podApplicationSocket },
      ],
    });
    closers.push(() => sockets.close());
    await sockets.settled();
    const { authorizationAddress: address } = options;
    let asked: ReadyReport['authorization'];
    if (address !== undefined) {
      const own = await identity.own();
      const { trustDomain } = ca;
      const { random } = options;
      const port = await openAuthorizationPort({
        ...{ authorization, address, identity: own, trustDomain, clock, random, logger },
      });
      closers.push(() => port.close());
      asked = { address: formatListenAddress(port), spiffeID: own.spiffeId.uri };
    }
    await untilSigned(agent, clock, options.signal);

    const stopped = new Promise<void>((resolve) => {
      if (options.signal.aborted) resolve();
      else options.signal.addEventListener('abort', () => resolve(), { once: true });
    }).then(closeAll);
    const ready = report(store, registrations, state, ca.trustDomain);
    const ports = {
      ...(asked === undefined ? {} : { authorization: asked }),
      ...(applications === undefined ? {} : { applications }),
    };
    return { report: { ...ready, ...ports }, stopped };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** What seals authority keys is read when they are opened. */
function tellOfOtherKey(settings: Watched<TrustDomainSettings>, logger: Logger): () => void {
  const named = derived(settings, (now) => [now.keyEncryption, now.previousKeyEncryption]);
  return named.watch(() => logger.warn('spec.keyEncryption has changed; it is used from the next start on'));
}

function settingsOf(store: FolderStore, options: DevOptions): TrustDomainSettings {
  const resource = findTrustDomain(store);
  return trustDomainSettings({
    ...(resource === undefined ? {} : { resource }),
    ...(options.trustDomain === undefined ? {} : { flag: options.trustDomain }),
  });
}

interface Identity {
  readonly registrations: RegistrationView;
  readonly index: RegistrationIndex;
  readonly agent: Agent;
  readonly bundleOf: (trustDomain: string) => TrustBundle | undefined;
  /** The SVID of this process itself, made when first asked for. */
  readonly own: () => Promise<OwnIdentity>;
  readonly close: () => Promise<void>;
}

/** The server's half and the agent's half, with the node API between them. */
function composeIdentity(
  store: FolderStore,
  ca: CertificateAuthority,
  settings: Watched<TrustDomainSettings>,
  options: DevOptions,
): Identity {
  const { clock, random, logger } = options;
  const { trustDomain } = ca;
  const bounds = derived(settings, registrationBounds);
  const index = createRegistrationIndex({ trustDomain, ...bounds.value });
  const controller = createRegistrationController({ store, index, bounds, clock, logger });
  const federation = createFederation({
    store,
    trustDomain,
    parseBundle: parseBundleDocument,
    clock,
    logger,
  });
  const revocations = openRevocationBook(store, clock);
  const registrations = trustedRegistrations(controller.registrations, revocations.inForce, (uid) =>
    index.forPod(uid),
  );
  const api = createNodeApi({
    registrations,
    signing: createSigningService({ ca, registrations, logger }),
    revokedSerials: revocations.serials,
    ca,
    federation: federation.bundles,
    nodeName: NODE_NAME,
    issued: (svid) => controller.svids.note(svid),
  });
  const agent = createAgent({
    api,
    nodeName: NODE_NAME,
    clock,
    random,
    logger,
  });
  const bundleOf = (name: string): TrustBundle | undefined =>
    name === trustDomain
      ? ca.bundle.value
      : federation.bundles.value.find(({ trustDomain }) => trustDomain === name);
  let own: Promise<OwnIdentity> | undefined;
  return {
    registrations,
    index,
    agent,
    bundleOf,
    own: () =>
      (own ??= openOwnIdentity({
        ...{ ca, path: OWN_PATH, bundleOf, clock, random, logger },
        keyType: settings.value.keyTypes.workload,
        ttlSeconds: () => settings.value.ttlSeconds.x509Svid,
        onTrustChange(listener) {
          const stops = [ca.bundle.watch(listener), federation.bundles.watch(listener)];
          return () => {
            for (const stop of stops) stop();
          };
        },
      })),
    async close() {
      await own?.then((identity) => identity.close()).catch(() => undefined);
      await federation.close();
      await controller.close();
      revocations.close();
    },
  };
}

/** The admin service has a server of its own: nothing that workloads reach can lead to it. */
async function serveAdmin(ca: CertificateAuthority, state: StateLayout, logger: Logger): Promise<RpcServer> {
  const server = createRpcServer({ logger, peerCredentials: linuxPeerCredentials });
  server.service(adminService, adminHandlers({ ca, logger }));
  try {
    await server.listenUnix({ path: state.adminSocket, mode: 0o600, name: 'admin', peerCredentials: true });
    return server;
  } catch (error) {
    await server.close();
    throw error;
  }
}

function report(
  store: FolderStore,
  registrations: RegistrationView,
  state: StateLayout,
  trustDomain: string,
): ReadyReport {
  const byPod = new Map<string, string[]>();
  for (const { subject, spiffeId } of registrations.forNode(NODE_NAME)) {
    if (subject.kind !== 'pod') continue;
    byPod.set(subject.uid, [...(byPod.get(subject.uid) ?? []), spiffeId.uri]);
  }
  const pods = store.list('Pod').flatMap((object) => {
    const facts = podFacts(object);
    if (facts === undefined) return [];
    const { namespace, name, serviceAccount, uid } = facts;
    return {
      ...{ namespace, name, serviceAccount, socket: state.podSocket(uid) },
      applicationSocket: state.podApplicationSocket(uid),
      spiffeIDs: byPod.get(uid) ?? [],
    };
  });
  return {
    ready: true,
    trustDomain,
    sharedSocket: state.sharedSocket,
    sharedApplicationSocket: state.sharedApplicationSocket,
    bundleFile: state.bundleFile,
    stateDir: state.root,
    pods,
  };
}
