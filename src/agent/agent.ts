import type { KeyType } from '../identity/pki/keys.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { ClockWatch } from '../lib/clock-watch.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { type Watched, WatchedValue } from '../lib/watched.js';
import type { BundleUpdate, NodeApi, PolicyUpdate, SyncUpdate } from '../rpc/node-api.js';
import type { PolicyStore } from './access/policy-store.js';
import { Acknowledger } from './acknowledger.js';
import { type Attestor, createProcAttestor } from './attestor.js';
import { Bundles } from './bundles.js';
import { ClockCheck } from './clock-check.js';
import { Fairness } from './fairness.js';
import { JwtKeeper } from './jwt-keeper.js';
import { makeKey } from './key-maker.js';
import { type AgentLimits, defaultAgentLimits } from './limits.js';
import { IssuerTrust } from './issuer-trust.js';
import { LostJwtKeys } from './lost-jwt-keys.js';
import { refusalFor } from './refusal.js';
import { RefusalLog } from './refusal-log.js';
import { NodeRegistrations } from './registrations.js';
import { createSds, type SdsHandlers, type SdsOptions } from './sds/handlers.js';
import { describeSubject } from './subject.js';
import { follow, type FollowOptions } from './sync.js';
import { Views } from './views.js';
import { createWorkloadApi, type WorkloadApiHandlers, type WorkloadApiParts } from './workload-api.js';
import { X509Keeper } from './x509-keeper.js';

export interface AgentOptions {
  /** The server. */
  readonly api: NodeApi;
  /** This node; registrations of another are refused. */
  readonly nodeName: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** What differs from {@link defaultAgentLimits}. */
  readonly limits?: Partial<AgentLimits>;
  /** The workloads' keys; ec-p256 unless said. */
  readonly keyType?: KeyType;
  /** Takes what decisions are made from; none are made without it. */
  readonly policies?: PolicyStore;
  /** Looks at processes on the shared socket; procfs unless said. */
  readonly attestor?: Attestor;
}

/** Numbers for health and metrics. */
export interface AgentStats {
  readonly registrations: number;
  /** X.509-SVIDs in the cache. */
  readonly svids: number;
  /** Registrations whose SVID is to be signed. */
  readonly queued: number;
  /** Registrations whose last signing was refused. */
  readonly failing: number;
  /** When the first X.509-SVID expires, in milliseconds since the epoch. */
  readonly nextExpiry: number | undefined;
  readonly jwtSvids: number;
  readonly streams: number;
  readonly holders: number;
  /** Whether the streams from the server are open now. */
  readonly connected: boolean;
  /** By how much the node's clock was ahead of the server's when the last SVID came; milliseconds. */
  readonly clockAheadMs: number | undefined;
}

/** The node agent: what it holds, and what its services are made from. */
export interface Agent {
  /** Follows the server, signs and renews until `signal` is aborted. Once only. */
  run(signal: AbortSignal): Promise<void>;
  /** True from the first registrations and bundle on. */
  readonly ready: Watched<boolean>;
  /** The pods that have a registration, their UIDs as keys; told of each that comes or goes. Live: read, do not keep. */
  readonly podsWithRegistrations: Watched<ReadonlyMap<string, unknown>>;
  stats(): AgentStats;
  /** When the X.509-SVID of a registration begins and ends, if it has one. Milliseconds since the epoch. */
  svidOf(registrationId: string): { readonly notBefore: number; readonly notAfter: number } | undefined;
  /** The pod with this UID, as the server knows it; undefined while it has no registration. */
  podOf(uid: string): { readonly namespace: string; readonly name: string } | undefined;
  /** The bundle of the own trust domain, or of a foreign one that the server knows. */
  bundleOf(trustDomain: string): TrustBundle | undefined;
  /** For the services below. */
  readonly parts: WorkloadApiParts;
}

export function createAgent(options: AgentOptions): Agent {
  const { api, clock, random, nodeName } = options;
  const logger = options.logger.child({ component: 'agent' });
  const limits = { ...defaultAgentLimits, ...options.limits };
  const stopped = new AbortController();
  const registrations = new NodeRegistrations(nodeName, limits.maxRegistrations);
  const bundles = new Bundles();
  const lostJwtKeys = new LostJwtKeys();
  const clockCheck = new ClockCheck(clock, logger);
  const x509 = new X509Keeper({
    api,
    clock,
    random,
    logger,
    limits,
    keyType: options.keyType ?? 'ec-p256',
    makeKey,
    onChange: (registration) => views.changed(registration),
    onSigned: (svid) => clockCheck.signed(svid),
  });
  const jwt = new JwtKeeper({ api, clock, random, limits });
  const views = new Views({ registrations, x509, bundles, clock });
  const fairness = new Fairness(limits, clock);
  const refused = new RefusalLog(clock, logger);
  const acknowledger = new Acknowledger<'sync' | 'bundles' | 'policies'>({
    ...{ api, clock, random, logger, backoff: limits.connectBackoff },
    streams: ['sync', 'bundles', ...(options.policies === undefined ? [] : (['policies'] as const))],
  });
  const ready = new WatchedValue(false);
  const connected = { sync: false, bundles: false };
  const synced = { sync: false, bundles: false };

  const onConnected = (stream: 'sync' | 'bundles', now: boolean): void => {
    connected[stream] = now;
    if (!now) return;
    synced[stream] = true;
    if (synced.sync && synced.bundles && !ready.value) {
      logger.info('the agent is ready', { registrations: registrations.size });
      ready.set(true);
    }
  };

  const takeSync = (update: SyncUpdate, first: boolean): void => {
    if (first && !update.snapshot)
      throw new SignetError('SyncInvalid', 'the server did not begin with the whole state of this node');
    const { changed, removed } = registrations.apply(update);
    for (const registration of removed) {
      x509.remove(registration.id);
      jwt.remove(registration.id);
      views.changed(registration);
    }
    for (const registration of changed) {
      jwt.remove(registration.id);
      x509.upsert(registration, views.inUse(registration));
      views.changed(registration);
    }
    if (first) x509.reconnected();
    acknowledger.took('sync', update.revocations);
    logger.debug('registrations', {
      changed: changed.length,
      removed: removed.length,
      all: registrations.size,
    });
  };

  const takeBundles = (update: BundleUpdate): void => {
    bundles.apply(update);
    x509.judge(update.taintedX509, new IssuerTrust(update.own));
    x509.revoke(update.revokedSerials ?? []);
    const present = update.own.jwtAuthorities.map(({ keyId }) => keyId);
    jwt.taint([...update.taintedJwt, ...lostJwtKeys.asOf(present)]);
    views.allChanged();
    acknowledger.took('bundles', update.revocations);
  };

  const attestor = options.attestor ?? createProcAttestor({ maxDigestBytes: limits.maxDigestBytes });
  const isConnected = (): boolean => connected.sync && connected.bundles;
  const parts: WorkloadApiParts = {
    clock,
    limits,
    attestor,
    fairness,
    views,
    jwt,
    logger,
    stopped: stopped.signal,
    async refusal(view, signal, requestId) {
      const known = { api, clock, synced: () => ready.value, connected: isConnected };
      const refusal = await refusalFor(known, view, signal);
      if (refusal.status === 'PermissionDenied')
        refused.refused(describeSubject(view.subject), refusal.message, requestId);
      return refusal;
    },
  };

  return {
    parts,
    ready,
    podsWithRegistrations: registrations.pods,
    svidOf: (registrationId) => x509.svid(registrationId),
    podOf(uid) {
      const subject = registrations.forPod(uid)[0]?.subject;
      return subject?.kind === 'pod' ? subject : undefined;
    },
    bundleOf: (trustDomain) => bundles.of(trustDomain),
    stats: () => ({
      ...x509.stats(),
      jwtSvids: jwt.size,
      streams: fairness.streams,
      holders: fairness.holders,
      connected: isConnected(),
      clockAheadMs: clockCheck.aheadMs,
    }),
    async run(signal) {
      const stop = (): void => stopped.abort(signal.reason);
      signal.addEventListener('abort', stop, { once: true });
      if (signal.aborted) stop();
      const following = { clock, random, logger, backoff: limits.connectBackoff };
      await Promise.all([
        x509.run(signal),
        follow<SyncUpdate>(
          following,
          {
            name: 'registrations',
            open: (abort) => api.sync(abort),
            take: takeSync,
            onConnected: (now) => onConnected('sync', now),
          },
          signal,
        ),
        follow<BundleUpdate>(
          following,
          {
            name: 'bundles',
            open: (abort) => api.bundles(abort),
            take: takeBundles,
            onConnected: (now) => onConnected('bundles', now),
          },
          signal,
        ),
        acknowledger.run(signal),
        new ClockWatch(clock).follow(() => {
          x509.clockSet();
          views.allChanged();
        }, signal),
        options.policies === undefined
          ? undefined
          : followPolicies(options.policies, api, acknowledger, following, signal),
      ]);
    },
  };
}

/** What is held already is not sent again, so a new connection costs what has changed meanwhile. */
function followPolicies(
  policies: PolicyStore,
  api: NodeApi,
  acknowledger: Pick<Acknowledger<'policies'>, 'took'>,
  following: FollowOptions,
  signal: AbortSignal,
): Promise<void> {
  return follow<PolicyUpdate>(
    following,
    {
      name: 'policies',
      open(abort) {
        if (api.policies === undefined) throw new SignetError('NoPolicies', 'this server sends no policies');
        return api.policies(policies.held(), abort);
      },
      take(update) {
        policies.take(update);
        acknowledger.took('policies', update.revocations);
      },
      onConnected: (now) => policies.follows(now ? undefined : following.clock.now()),
    },
    signal,
  );
}

/** The Workload API of an agent. */
export function workloadApiHandlers(agent: Agent): WorkloadApiHandlers {
  return createWorkloadApi(agent.parts);
}

/** Envoy's secret discovery service of an agent. */
export function sdsHandlers(agent: Agent, options: SdsOptions = {}): SdsHandlers {
  return createSds(agent.parts, options);
}
