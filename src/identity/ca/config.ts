import type { KeyType } from '../pki/keys.js';
import { CaError } from './errors.js';
import type { UpstreamAuthority } from './upstream.js';

/** Settings of a certificate authority. Times in seconds. */
export interface CaConfig {
  /** Of X.509 authorities; `ec-p256` unless said. */
  readonly x509KeyType?: KeyType;
  /** Of JWT authorities; `ec-p256` unless said. Ed25519 is no algorithm of JWT-SVIDs. */
  readonly jwtKeyType?: Exclude<KeyType, 'ed25519'>;
  /** Lifetime of an authority of either kind; a day unless said. An SVID never outlives its authority. */
  readonly authorityTtlSeconds?: number;
  /** `iss` of JWT-SVIDs; none unless said. */
  readonly jwtIssuer?: string;
  /** Who signs our X.509 authorities; they sign themselves unless said. */
  readonly upstream?: UpstreamAuthority;
  /**
   * How long consumers get to take up a bundle before its new authority signs, on the regular schedule; 60 unless said,
   * and never more than a third of an authority's lifetime. A rotation by hand does not wait.
   */
  readonly publishDelaySeconds?: number;
}

/** {@link CaConfig}, checked, with every default filled in, in milliseconds. */
export interface CaSettings {
  readonly keyTypes: { readonly x509: KeyType; readonly jwt: KeyType };
  readonly authorityTtlMs: number;
  readonly publishDelayMs: number;
  readonly refreshHintSeconds: number;
  readonly jwtIssuer: string | undefined;
  readonly upstream: UpstreamAuthority | undefined;
}

const DAY = 24 * 60 * 60;
const SHORTEST_TTL = 10;
const LONGEST_TTL = 20 * 365 * DAY;
/** What the federation standard recommends where nothing else is known (SPIFFE Federation §5). */
const USUAL_REFRESH_HINT = 300;

/** Throws CaError `CaConfigInvalid` that names the field. */
export function checkConfig(config: CaConfig): CaSettings {
  const ttl = within('authorityTtlSeconds', config.authorityTtlSeconds ?? DAY, SHORTEST_TTL, LONGEST_TTL);
  const delay = within('publishDelaySeconds', config.publishDelaySeconds ?? 60, 0, LONGEST_TTL);
  checkJwtKeyType(config.jwtKeyType ?? 'ec-p256');
  if (config.jwtIssuer !== undefined && (config.jwtIssuer === '' || config.jwtIssuer.length > 2048)) {
    throw new CaError('CaConfigInvalid', 'jwtIssuer must have 1 to 2048 characters, or be left out');
  }
  return {
    keyTypes: { x509: config.x509KeyType ?? 'ec-p256', jwt: config.jwtKeyType ?? 'ec-p256' },
    authorityTtlMs: ttl * 1000,
    publishDelayMs: Math.min(delay, ttl / 3) * 1000,
    refreshHintSeconds: Math.max(1, Math.min(USUAL_REFRESH_HINT, Math.floor(ttl / 10))),
    jwtIssuer: config.jwtIssuer,
    upstream: config.upstream,
  };
}

function within(field: string, value: number, least: number, most: number): number {
  if (Number.isFinite(value) && value >= least && value <= most) return value;
  throw new CaError('CaConfigInvalid', `${field} is ${value}; it must be from ${least} to ${most} seconds`);
}

/** Types are gone at run time, and this comes from a file. */
function checkJwtKeyType(type: KeyType): void {
  if (type !== 'ed25519') return;
  throw new CaError(
    'CaConfigInvalid',
    'jwtKeyType is ed25519, which JWT-SVIDs do not know; use ec-p256, ec-p384 or rsa-2048',
  );
}
