import type { CertificateAuthority } from '../identity/ca/certificate-authority.js';
import type { Clock } from '../lib/clock.js';
import type { Metrics } from '../operate/metrics/metrics.js';
import type { LeaderElection } from '../store/kubernetes/leader-election.js';
import type { ReflectorStep } from '../store/kubernetes/reflector.js';
import type { Store } from '../store/store.js';
import { FRESH_WITHIN_MS, type ClusterCa } from './cluster-ca.js';
import type { Operations } from './operations.js';
import { unread } from './server-waits.js';

/** Counts what reflectors do. */
export function reflectorMetrics(metrics: Metrics): (kind: string, step: ReflectorStep) => void {
  return (kind, step) => {
    if (step.step === 'listed') metrics.count('lists', { kind });
    else if (step.step === 'watching') metrics.count('watches', { kind });
    else if (step.step === 'event') metrics.count('events', { kind, type: step.type });
    else metrics.count('reflectorFailures', { kind, code: step.error.code });
  };
}

/** Shows the mirror of the API server, and who leads. */
export function showStore(
  { health, metrics, show }: Operations,
  store: Store & { readonly waitingFor: readonly string[] },
  kinds: readonly string[],
  election: LeaderElection,
): void {
  const sizes = (): { readonly kind: string; readonly size: number }[] =>
    kinds.map((kind) => ({ kind, size: store.list(kind).length }));
  health.ready.add('store', () => {
    const missing = unread(store);
    return missing === undefined ? undefined : `waiting for ${missing}`;
  });
  health.ready.add('leader', () =>
    election.leader.value === undefined ? 'no replica is known to lead' : undefined,
  );
  metrics.read('objects', () => sizes().map(({ kind, size }) => ({ labels: { kind }, value: size })));
  metrics.readOne('leading', () => (election.leading.value ? 1 : 0));
  show('store', () => ({
    synced: store.synced.value,
    waitingFor: store.waitingFor,
    objects: Object.fromEntries(sizes().map(({ kind, size }) => [kind, size])),
  }));
  show('leader', () => ({ leading: election.leading.value, leader: election.leader.value ?? null }));
}

/** Shows the authorities, without their keys, and whether this replica may sign with them. */
export function showAuthorities(
  { health, metrics, show }: Operations,
  opened: () => ClusterCa | undefined,
  /** Why they cannot be opened. */
  problem: () => string | undefined,
  clock: Clock,
): void {
  health.ready.add('authorities', () => {
    const clusterCa = opened();
    if (clusterCa === undefined) return problem() ?? 'they are not open yet';
    return whyUnable(clusterCa, clock);
  });
  metrics.read('authorityNotAfter', () =>
    (opened()?.ca.authorities() ?? []).map(({ kind, id, slot, notAfter }) => ({
      labels: { kind, id, slot },
      value: notAfter / 1000,
    })),
  );
  metrics.readOne('rotationFailing', () =>
    valueOf(opened(), (ca) => (ca.problem.value === undefined ? 0 : 1)),
  );
  metrics.readOne('bundleSequence', () => valueOf(opened(), (ca) => ca.bundle.value.sequence));
  metrics.readOne('stateAge', () => {
    const clusterCa = opened();
    return clusterCa === undefined ? undefined : clusterCa.sinceRead() / 1000;
  });
  show('authorities', () => {
    const clusterCa = opened();
    if (clusterCa === undefined) return null;
    const { ca } = clusterCa;
    return {
      trustDomain: ca.trustDomain,
      bundleSequence: ca.bundle.value.sequence ?? null,
      stateAgeSeconds: clusterCa.sinceRead() / 1000,
      rotationProblem: ca.problem.value?.message ?? null,
      authorities: ca.authorities().map((authority) => ({
        ...authority,
        notBefore: new Date(authority.notBefore).toISOString(),
        notAfter: new Date(authority.notAfter).toISOString(),
      })),
    };
  });
}

function valueOf(
  clusterCa: ClusterCa | undefined,
  read: (ca: CertificateAuthority) => number | undefined,
): number | undefined {
  return clusterCa === undefined ? undefined : read(clusterCa.ca);
}

/** Why nothing can be signed now. */
function whyUnable(clusterCa: ClusterCa, clock: Clock): string | undefined {
  const { ca } = clusterCa;
  const age = clusterCa.sinceRead();
  if (age > FRESH_WITHIN_MS)
    return `nothing is signed: their Secret has not been read for ${Math.round(age / 1000)} s`;
  const now = clock.now();
  for (const kind of ['x509', 'jwt'] as const) {
    const signs = ca
      .authorities()
      .some((one) => one.kind === kind && one.slot === 'active' && !one.revoked && one.notAfter > now);
    if (!signs) return `there is no ${kind} authority to sign with`;
  }
  return undefined;
}
