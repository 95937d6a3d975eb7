import type { TrustBundle } from '../spiffe/bundle.js';
import type { KeySet } from './key-set.js';
import { readKeySet } from './key-set.js';

/** How well the keys of an issuer are known. */
export interface KeysStatus {
  /**
   * `starting`: the first fetch is under way; `ready`; `stale`: the last fetch failed, and the keys of an earlier one
   * serve; `unavailable`: there are none that may serve.
   */
  readonly state: 'starting' | 'ready' | 'stale' | 'unavailable';
  readonly keyIds: readonly string[];
  /** Why published keys were left out. */
  readonly skipped: readonly string[];
  /** Why the last fetch failed. */
  readonly problem?: string;
  /** How long ago the keys came, in milliseconds. */
  readonly ageMs?: number;
}

/** The keys of one issuer. */
export interface IssuerKeys {
  /** The keys that may serve now. */
  readonly usable: KeySet | undefined;
  /** Why there are none; to be shown. */
  readonly problem: string;
  /**
   * Waits for a fetch that may bring what is missing: the one that is under way or, for an unknown key, a new one.
   * Undefined when there is nothing to wait for.
   */
  wait(missing: 'keys' | 'key'): (() => Promise<void>) | undefined;
  status(): KeysStatus;
  close(): void;
}

/** Keys that are written in the configuration. */
export function fixedKeys(keys: KeySet): IssuerKeys {
  return {
    usable: keys,
    problem: '',
    wait: () => undefined,
    status: () => ({ state: 'ready', keyIds: idsOf(keys), skipped: keys.skipped }),
    close: () => undefined,
  };
}

/** Keys of a trust domain: those of the bundle that is current at each use. */
export function bundleKeys(
  trustDomain: string,
  bundles: (trustDomain: string) => TrustBundle | undefined,
): IssuerKeys {
  let bundle: TrustBundle | undefined;
  let keys: KeySet | undefined;
  const usable = (): KeySet | undefined => {
    const current = bundles(trustDomain);
    // A bundle is a value, so keys are read only when there is another one.
    if (current !== bundle) {
      bundle = current;
      keys = current === undefined ? undefined : readBundle(current, keys);
    }
    return keys;
  };
  return {
    get usable() {
      return usable();
    },
    problem: `there is no bundle of trust domain "${trustDomain}"`,
    wait: () => undefined,
    status: () => {
      const known = usable();
      return {
        state: known === undefined ? 'unavailable' : 'ready',
        keyIds: idsOf(known),
        skipped: known?.skipped ?? [],
      };
    },
    close: () => undefined,
  };
}

function readBundle({ jwtAuthorities }: TrustBundle, earlier: KeySet | undefined): KeySet {
  return readKeySet({ keys: jwtAuthorities.map(({ keyId, jwk }) => ({ ...jwk, kid: keyId })) }, earlier);
}

export function idsOf(keys: KeySet | undefined): readonly string[] {
  return [...(keys?.keys ?? [])].map(({ keyId }) => keyId);
}
