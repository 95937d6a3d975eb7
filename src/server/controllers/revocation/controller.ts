import type { AuthorityInfo, CertificateAuthority } from '../../../identity/ca/certificate-authority.js';
import type { Clock, Timer } from '../../../lib/clock.js';
import { SignetError } from '../../../lib/errors.js';
import type { Logger } from '../../../lib/logger.js';
import type { Random } from '../../../lib/random.js';
import type { TrustDomain } from '../../../resources/identity.js';
import type { Revocation, RevocationStatus } from '../../../resources/revocation.js';
import type { Store } from '../../../store/store.js';
import { rfc3339 } from '../../identity-status.js';
import { createController, type Controller, type ReconcileOutcome } from '../controller.js';
import { oneLine } from '../one-line.js';
import type { Reach, RevocationReach } from './reach.js';
import { isInForce } from './revocations.js';

/** What the controller is made of. */
export interface RevocationControllerOptions {
  readonly store: Store;
  readonly ca: Pick<CertificateAuthority, 'authorities' | 'rotate' | 'taint' | 'revoke'>;
  /** How far agents are; the statuses do not say without it. */
  readonly reach?: Pick<RevocationReach, 'of' | 'watch'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly observe?: (outcome: ReconcileOutcome, seconds: number) => void;
}

const KIND = 'Revocation';
const TRUST_DOMAIN = 'TrustDomain';

/** Agents acknowledge one by one: a status tells of it so often at most. Milliseconds. */
const REACH_MS = 3_000;
/** Nodes and pods that come and go are looked at so often. */
const LONGEST_REACH_MS = 60_000;
/** In so long, after a replica has begun to lead, the others have told it what agents acknowledged to them. */
const SETTLE_MS = 20_000;

interface Verdict {
  readonly ok: boolean;
  readonly reason: string;
  readonly message: string;
}

/**
 * Takes revoked authorities out of the bundle, and tells in the status of each Revocation what has become of it. All else
 * every replica enforces by itself. For one term of leading: run it, then close it.
 */
export function createRevocationController(options: RevocationControllerOptions): {
  readonly controller: Controller;
  close(): void;
} {
  const { store, clock, logger } = options;
  const began = clock.monotonic();
  const { reachOf, followReach } = reachReader(options);

  const reconcile = async (key: string): Promise<{ readonly requeueAfterMs: number } | undefined> => {
    const revocation = store.get(KIND, key) as Revocation | undefined;
    if (revocation === undefined) return undefined;
    const now = clock.now();
    const verdict = isInForce(revocation, now)
      ? await enforce(revocation, options)
      : { ok: false, reason: 'Over', message: `it ended at ${revocation.spec.until ?? ''}` };
    const previous = store.status(KIND, key) as RevocationStatus | undefined;
    if (previous?.effectiveFrom === undefined && verdict.ok)
      logger.warn('revoked', { revocation: key, detail: verdict.message, reason: revocation.spec.reason });
    const settling = clock.monotonic() - began < SETTLE_MS;
    const reach = verdict.ok ? reachTold(reachOf(revocation), previous, settling) : undefined;
    await store.writeStatus(KIND, key, { ...statusOf(revocation, verdict, previous, now), ...reach });
    const { until } = revocation.spec;
    const left = until === undefined ? 0 : Date.parse(until) - now;
    return left > 0 ? { requeueAfterMs: Math.min(left, 30_000) } : undefined;
  };

  const controller = createController({ ...options, name: 'revocations', reconcile, concurrency: 1 });
  const enqueueAll = (): void => {
    for (const { metadata } of store.list(KIND)) controller.enqueue(metadata.name);
  };
  const unsubscribe = store.subscribe((changes) => {
    // It says which token issuers there are.
    if (changes.some(({ kind }) => kind === TRUST_DOMAIN)) enqueueAll();
    for (const { kind, key, after } of changes)
      if (kind === KIND && after !== undefined) controller.enqueue(key);
  });
  enqueueAll();
  const unfollow = followReach((key) => controller.enqueue(key, 'background'));
  return {
    controller,
    close() {
      unsubscribe();
      unfollow();
    },
  };
}

type ReachStatus = Pick<RevocationStatus, 'agentsReached' | 'agentsTotal'>;

/** Until all replicas have told what they know, what was known before is not taken back. */
function reachTold(
  reach: Reach | undefined,
  previous: RevocationStatus | undefined,
  settling: boolean,
): ReachStatus | undefined {
  if (reach === undefined) return undefined;
  const { agentsReached, agentsTotal } = previous ?? {};
  if (settling && agentsReached !== undefined && reach.reached < agentsReached)
    return { agentsReached, ...(agentsTotal === undefined ? {} : { agentsTotal }) };
  return { agentsReached: reach.reached, agentsTotal: reach.total };
}

/** Works the numbers out for all Revocations together, and names those whose status says others. */
function reachReader({ reach, store, clock }: RevocationControllerOptions): {
  reachOf(revocation: Revocation): Reach | undefined;
  followReach(enqueue: (key: string) => void): () => void;
} {
  let known: ReadonlyMap<string, Reach> = new Map();
  return {
    reachOf: (revocation) =>
      known.get(revocation.metadata.uid) ?? reach?.of([revocation]).get(revocation.metadata.uid),
    followReach(enqueue) {
      if (reach === undefined) return () => undefined;
      let timer: Timer | undefined;
      let soon = false;
      const look = (): void => {
        soon = false;
        const now = clock.now();
        const inForce = (store.list(KIND) as readonly Revocation[]).filter((one) => isInForce(one, now));
        known = reach.of(inForce);
        for (const { metadata } of inForce) {
          const told = store.status(KIND, metadata.name) as RevocationStatus | undefined;
          const is = known.get(metadata.uid);
          if (told?.agentsReached !== is?.reached || told?.agentsTotal !== is?.total) enqueue(metadata.name);
        }
        timer = clock.after(LONGEST_REACH_MS, look);
      };
      timer = clock.after(REACH_MS, look);
      const end = reach.watch(() => {
        if (soon) return;
        soon = true;
        timer?.cancel();
        timer = clock.after(REACH_MS, look);
      });
      return () => {
        end();
        timer?.cancel();
      };
    },
  };
}

async function enforce(
  { spec }: Revocation,
  { ca, store }: Pick<RevocationControllerOptions, 'ca' | 'store'>,
): Promise<Verdict> {
  const { spiffeID, pod, serialNumber, authorityID, token, user, session } = spec.subject;
  const inForce = (message: string): Verdict => ({ ok: true, reason: 'InForce', message });
  if (spiffeID !== undefined)
    return inForce(`nothing is signed for ${spiffeID}, and agents drop what they hold`);
  if (pod !== undefined)
    return inForce(
      `nothing is signed for pod ${pod.namespace}/${pod.name}, and its agent drops what it holds`,
    );
  if (serialNumber !== undefined)
    return inForce('the agent that holds the SVID drops it, and has another one signed');
  if (authorityID !== undefined) return revokeAuthority(authorityID, ca);
  return tokenVerdict((token ?? user ?? session)?.issuer ?? '', store);
}

/** Agents refuse tokens by this wherever they validate them, which is of the issuers that the TrustDomain names. */
function tokenVerdict(issuer: string, store: Store): Verdict {
  const known = (store.list(TRUST_DOMAIN) as readonly TrustDomain[])
    .flatMap(({ spec }) => spec.tokenIssuers ?? [])
    .map(({ issuer: iss, trustDomain }) => iss ?? `spiffe://${trustDomain ?? ''}`);
  if (!known.includes(issuer))
    return {
      ok: false,
      reason: 'UnknownIssuer',
      message: `the TrustDomain has no token issuer "${issuer}", so no token is taken for one of it; write it as spec.tokenIssuers does`,
    };
  return {
    ok: true,
    reason: 'InForce',
    message:
      'agents refuse the token in their decisions; meshes, and Envoys with filters, that verify tokens by themselves are not told: revoke it at its issuer, too',
  };
}

/** An authority that signs has a successor first. */
async function revokeAuthority(id: string, ca: RevocationControllerOptions['ca']): Promise<Verdict> {
  const found = ca.authorities().find((one) => one.id === id);
  if (found === undefined)
    return {
      ok: false,
      reason: 'AuthorityNotFound',
      message: 'no authority has this id; status.authorities of the TrustDomain says which there are',
    };
  const { kind } = found;
  const present = (): AuthorityInfo | undefined => ca.authorities().find((one) => one.id === id);
  try {
    // One that is prepared comes to sign by the first rotation, and must not go on with it until the next attempt.
    for (let rotations = 0; rotations < 2 && (present()?.slot ?? 'old') !== 'old'; rotations += 1)
      await ca.rotate(kind);
    if (present()?.tainted === false) await ca.taint(kind, id);
    if (present()?.revoked === false) await ca.revoke(kind, id);
  } catch (thrown) {
    const { code, message } = SignetError.from(thrown);
    // What only a change mends is told; all else is tried again.
    if (code !== 'AuthorityRootShared') throw thrown;
    return { ok: false, reason: code, message };
  }
  return {
    ok: true,
    reason: 'InForce',
    message: `the ${kind} authority is out of the bundle, for good, and what it signed is replaced`,
  };
}

function statusOf(
  { metadata }: Revocation,
  { ok, reason, message }: Verdict,
  previous: RevocationStatus | undefined,
  now: number,
): RevocationStatus {
  const status = ok ? 'True' : 'False';
  const old = previous?.conditions?.find(({ type }) => type === 'Ready');
  const effectiveFrom = previous?.effectiveFrom ?? (ok ? rfc3339(now) : undefined);
  return {
    conditions: [
      {
        ...{ type: 'Ready', status, reason, message: oneLine(message) },
        lastTransitionTime: old?.status === status ? old.lastTransitionTime : rfc3339(now),
        observedGeneration: metadata.generation,
      },
    ],
    ...(effectiveFrom === undefined ? {} : { effectiveFrom }),
  };
}
