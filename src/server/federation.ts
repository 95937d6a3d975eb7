import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { parseTrustDomain } from '../identity/spiffe/id.js';
import type { Clock, Timer } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import { type Watched, WatchedValue } from '../lib/watched.js';
import type { FederatedTrustDomain, FederatedTrustDomainStatus } from '../resources/identity.js';
import type { Store } from '../store/store.js';
import { rfc3339 } from './identity-status.js';

const KIND = 'FederatedTrustDomain';
/** Before a status that could not be written is tried again. Milliseconds. */
const RETRY_DELAY = 5_000;

/** What the controller is made of. */
export interface FederationOptions {
  readonly store: Store;
  /** The own trust domain, which nobody else may speak for. */
  readonly trustDomain: string;
  /** Reads a bundle document; throws a SignetError when it is none. */
  readonly parseBundle: (trustDomain: string, document: string) => TrustBundle;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Bundles of foreign trust domains, in step with the FederatedTrustDomain resources. */
export interface Federation {
  /** Sorted by trust domain; each once. */
  readonly bundles: Watched<readonly TrustBundle[]>;
  /** Ends it; resolves when no status is being written any more. */
  close(): Promise<void>;
}

type Verdict =
  | { readonly ok: true; readonly bundle: TrustBundle }
  | { readonly ok: false; readonly reason: string; readonly message: string };

type Verdicts = readonly (readonly [FederatedTrustDomain, Verdict])[];

/**
 * Follows the FederatedTrustDomain resources from now on. A bundle that cannot be read is not served at all, rather than
 * an older one: what is served is what the resources say.
 */
export function createFederation(options: FederationOptions): Federation {
  const { store, logger } = options;
  const bundles = new WatchedValue<readonly TrustBundle[]>([]);
  /** By resource: parsing is not repeated while the text stays the same. */
  const parsed = new Map<string, { readonly resource: FederatedTrustDomain; readonly verdict: Verdict }>();
  let unwritten: Verdicts | undefined;
  let writing: Promise<void> | undefined;
  let retry: Timer | undefined;
  let closed = false;

  const refresh = (): void => {
    const resources = (store.list(KIND) as readonly FederatedTrustDomain[]).toSorted((a, b) =>
      a.metadata.name < b.metadata.name ? -1 : 1,
    );
    const names = new Set(resources.map(({ metadata }) => metadata.name));
    for (const name of parsed.keys()) if (!names.has(name)) parsed.delete(name);
    const served = new Map<string, { bundle: TrustBundle; by: string }>();
    const verdicts = resources.map((resource): readonly [FederatedTrustDomain, Verdict] => {
      const { name } = resource.metadata;
      const known = parsed.get(name);
      let verdict = known?.resource === resource ? known.verdict : judge(resource, options);
      parsed.set(name, { resource, verdict });
      if (!verdict.ok) return [resource, verdict];
      const other = served.get(verdict.bundle.trustDomain);
      if (other === undefined) served.set(verdict.bundle.trustDomain, { bundle: verdict.bundle, by: name });
      else
        verdict = {
          ok: false,
          reason: 'TrustDomainDuplicate',
          // Bundles are never merged (SPIFFE Federation §5).
          message: `spec.trustDomain "${verdict.bundle.trustDomain}" is given by ${KIND} ${other.by} already; keep one of the two`,
        };
      return [resource, verdict];
    });
    bundles.set(
      [...served.values()]
        .map(({ bundle }) => bundle)
        .sort((a, b) => (a.trustDomain < b.trustDomain ? -1 : 1)),
    );
    unwritten = verdicts;
    write();
  };

  /** One round after another, the newest verdicts only: two writes at once could leave the older status. */
  const write = (): void => {
    writing ??= (async () => {
      while (unwritten !== undefined && !closed) {
        const verdicts = unwritten;
        unwritten = undefined;
        await writeStatuses(verdicts);
      }
    })().finally(() => {
      writing = undefined;
      if (unwritten !== undefined && !closed) write();
    });
  };

  const writeStatuses = async (
    verdicts: readonly (readonly [FederatedTrustDomain, Verdict])[],
  ): Promise<void> => {
    for (const [resource, verdict] of verdicts) {
      const key = resource.metadata.name;
      if (closed || store.get(KIND, key) !== resource) continue;
      const previous = store.status(KIND, key) as FederatedTrustDomainStatus | undefined;
      const status = statusOf(resource, verdict, previous, options.clock.now());
      if (JSON.stringify(status) === JSON.stringify(previous)) continue;
      try {
        await store.writeStatus(KIND, key, status);
      } catch (thrown) {
        logger.warn('status could not be written; it is tried again', {
          kind: KIND,
          key,
          error: SignetError.from(thrown).message,
        });
        retry ??= options.clock.after(RETRY_DELAY, () => {
          retry = undefined;
          refresh();
        });
      }
    }
  };

  const unsubscribe = store.subscribe((changes) => {
    if (store.synced.value && changes.some(({ kind }) => kind === KIND)) refresh();
  });
  const unwatch = store.synced.watch((synced) => {
    if (synced) refresh();
  });
  if (store.synced.value) refresh();
  return {
    bundles,
    async close() {
      closed = true;
      retry?.cancel();
      unsubscribe();
      unwatch();
      await writing;
    },
  };
}

function judge({ spec }: FederatedTrustDomain, options: FederationOptions): Verdict {
  try {
    const trustDomain = parseTrustDomain(spec.trustDomain);
    if (trustDomain === options.trustDomain) {
      return {
        ok: false,
        reason: 'OwnTrustDomain',
        message: `spec.trustDomain "${trustDomain}" is the own trust domain; its bundle comes from its authorities alone`,
      };
    }
    if (spec.bundle === undefined) {
      return {
        ok: false,
        reason: 'BundleMissing',
        message:
          'spec.bundle is not set, and no bundle has been fetched; paste the bundle document of the trust domain',
      };
    }
    return { ok: true, bundle: options.parseBundle(trustDomain, spec.bundle) };
  } catch (thrown) {
    const { code, message } = SignetError.from(thrown);
    return { ok: false, reason: code, message };
  }
}

function statusOf(
  { metadata }: FederatedTrustDomain,
  verdict: Verdict,
  previous: FederatedTrustDomainStatus | undefined,
  now: number,
): FederatedTrustDomainStatus {
  const old = previous?.conditions?.find(({ type }) => type === 'Ready');
  const status = verdict.ok ? 'True' : 'False';
  return {
    conditions: [
      {
        type: 'Ready',
        status,
        reason: verdict.ok ? 'BundleServed' : verdict.reason,
        message: verdict.ok
          ? `${verdict.bundle.x509Authorities.length} X.509 and ${verdict.bundle.jwtAuthorities.length} JWT authorities are given to workloads that federate`
          : verdict.message.slice(0, 1024),
        lastTransitionTime: old?.status === status ? old.lastTransitionTime : rfc3339(now),
        observedGeneration: metadata.generation,
      },
    ],
    ...(verdict.ok ? { sequence: verdict.bundle.sequence } : {}),
  };
}
