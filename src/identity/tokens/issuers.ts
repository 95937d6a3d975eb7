import type { Clock } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import type { TrustBundle } from '../spiffe/bundle.js';
import { parseSpiffeId } from '../spiffe/id.js';
import type { RegisteredClaims } from './claims.js';
import { FetchBudget } from './fetch-budget.js';
import type { FetchDocument } from './fetch-document.js';
import type { IssuerSettings } from './issuer-config.js';
import { nameOf } from './issuer-config.js';
import type { IssuerKeys } from './issuer-keys.js';
import { bundleKeys, fixedKeys } from './issuer-keys.js';
import type { TokenHeader } from './jws.js';
import type { VerificationKey } from './key-set.js';
import { refuse } from './refusal.js';
import { RemoteKeys } from './remote-keys.js';

/** An issuer and its keys. */
export interface Issuer {
  readonly name: string;
  readonly settings: IssuerSettings;
  readonly keys: IssuerKeys;
}

export interface IssuersOptions {
  /** From {@link readTokenIssuers}. */
  readonly issuers: readonly IssuerSettings[];
  readonly clock: Clock;
  readonly fetch: FetchDocument;
  readonly logger: Logger;
  readonly random: Random;
  readonly bundles: (trustDomain: string) => TrustBundle | undefined;
  readonly maxStaleMs: number;
  readonly unknownKeyCoolDownMs: number;
  readonly unknownKeyFetches: number;
  /** Called whenever keys have come, and when they serve no more. */
  readonly onKeys: () => void;
}

/** Opens the issuers, whose keys are fetched from now on. */
export function openIssuers(options: IssuersOptions): readonly Issuer[] {
  const { clock, unknownKeyCoolDownMs, unknownKeyFetches } = options;
  const budget = new FetchBudget(clock, unknownKeyCoolDownMs, unknownKeyFetches);
  return options.issuers.map((settings) => ({
    name: nameOf(settings),
    settings,
    keys: openKeys(settings, options, budget),
  }));
}

function openKeys(settings: IssuerSettings, options: IssuersOptions, budget: FetchBudget): IssuerKeys {
  const { keys } = settings;
  if (keys.kind === 'inline') return fixedKeys(keys.keys);
  if (keys.kind === 'bundle') return bundleKeys(keys.trustDomain, options.bundles);
  const { clock, fetch, logger, random, maxStaleMs, onKeys } = options;
  return new RemoteKeys({
    ...{ issuer: nameOf(settings), jwksUri: keys.url, trust: keys.trust, budget },
    ...{ clock, fetch, logger, random, maxStaleMs, onKeys },
  });
}

/**
 * Gives the issuer of a token by what it claims: the one whose `iss` it has, else the trust domain that its subject is in.
 *
 * @throws from the function it returns: TokenRefusal `TokenUnknownIssuer`
 */
export function issuerFinder(issuers: readonly Issuer[]): (claims: RegisteredClaims) => Issuer {
  const byIssuer = new Map<string, Issuer>();
  /** Those that do not look at `iss`. */
  const byTrustDomain = new Map<string, Issuer>();
  for (const issuer of issuers) {
    const { issuer: iss, keys } = issuer.settings;
    if (iss !== undefined) byIssuer.set(iss, issuer);
    else if (keys.kind === 'bundle') byTrustDomain.set(keys.trustDomain, issuer);
  }
  return ({ issuer: iss, subject }) => {
    const named = iss === undefined ? undefined : byIssuer.get(iss);
    if (named?.settings.keys.kind === 'bundle') {
      const { trustDomain } = named.settings.keys;
      // The keys of a trust domain vouch for its own members alone (JWT-SVID §3.1).
      if (trustDomainOf(subject) !== trustDomain)
        refuse('TokenUnknownIssuer', `claim "sub" is no SPIFFE ID of trust domain "${trustDomain}"`);
    }
    if (named !== undefined) return named;
    const trustDomain = byTrustDomain.size === 0 ? undefined : trustDomainOf(subject);
    const issuer = trustDomain === undefined ? undefined : byTrustDomain.get(trustDomain);
    return issuer ?? refuse('TokenUnknownIssuer', 'the issuer of the token is none of those configured');
  };
}

/** The trust domain of a SPIFFE ID. */
function trustDomainOf(subject: string): string | undefined {
  if (!subject.startsWith('spiffe://')) return undefined;
  try {
    return parseSpiffeId(subject).trustDomain;
  } catch {
    return undefined;
  }
}

/** A fetch that may bring the key that is missing. */
export type Wait = () => Promise<void>;

/**
 * The key that a token's header names or, where the caller may wait, the fetch that may bring it.
 *
 * @throws TokenRefusal `TokenKeysUnavailable`, `TokenUnknownKey`, `TokenAlgorithmRefused`
 */
export function findKey(issuer: Issuer, header: TokenHeader, mayWait: boolean): VerificationKey | Wait {
  const { keys, name } = issuer;
  const wait = (missing: 'keys' | 'key'): Wait | undefined => (mayWait ? keys.wait(missing) : undefined);
  const set = keys.usable;
  if (set === undefined) {
    const waiting = wait('keys');
    if (waiting !== undefined) return waiting;
    refuse('TokenKeysUnavailable', `the keys of "${name}" are not available: ${keys.problem}`);
  }
  const found = set.find(header.keyId, header.algorithm);
  if (typeof found === 'object') return found;
  if (found === 'unfit')
    refuse('TokenAlgorithmRefused', 'the algorithm of the token does not fit the key that it names');
  if (found === 'ambiguous')
    refuse('TokenUnknownKey', 'the token does not say which of several keys signed it');
  const waiting = wait('key');
  if (waiting !== undefined) return waiting;
  refuse('TokenUnknownKey', `"${name}" publishes no key of the ID that the token names`);
}
