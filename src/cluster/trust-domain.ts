import { parseTrustDomain } from '../identity/spiffe/id.js';
import { SignetError } from '../lib/errors.js';
import { parseDuration } from '../lib/duration.js';
import { meshOptionsProblems } from '../resources/mesh-options-schema.js';
import type {
  KeyEncryptionPlace,
  KeyTypeName,
  MeshOptionsSpec,
  TokenIssuer,
  TrustDomain,
  TrustDomainSpec,
} from '../resources/identity.js';
import type { StoreReader } from '../store/store.js';

/** Settings of the trust domain that cannot be. The message names the field and the fix. */
export class TrustDomainError extends SignetError {}

/** The trust domain as it is run: what the resource says, and the defaults for what it does not. */
export interface TrustDomainSettings {
  readonly name: string;
  readonly keyTypes: {
    readonly x509Authority: KeyTypeName;
    readonly jwtAuthority: Exclude<KeyTypeName, 'ed25519'>;
    readonly workload: KeyTypeName;
  };
  readonly ttlSeconds: { readonly authority: number; readonly x509Svid: number; readonly jwtSvid: number };
  readonly jwtIssuer?: string;
  /** Files of the authority above ours; ours signs itself without. */
  readonly upstreamDisk?: {
    readonly certificateFile: string;
    readonly keyFile: string;
    readonly rootsFile?: string;
  };
  /** Where the key is that seals authority keys at rest; in a cluster the built-in one unless said, else they are not sealed. */
  readonly keyEncryption?: KeyEncryptionSource;
  /** Where the key is that sealed them before: what it has sealed opens. */
  readonly previousKeyEncryption?: KeyEncryptionSource;
  readonly defaultAction: 'Allow' | 'Deny';
  /** As written; who validates tokens reads them. */
  readonly tokenIssuers: readonly TokenIssuer[];
  /** As written, and good; see mesh-settings.ts. */
  readonly meshOptions: MeshOptionsSpec;
}

/** Where a key-encryption key is: in a file, behind the socket of a KMS plugin, or in the Secret that servers make. */
export type KeyEncryptionSource =
  { readonly keyFile: string } | { readonly socket: string } | { readonly builtIn: true };

/** Where settings come from. */
export interface TrustDomainSources {
  /** The resource, when there is one. */
  readonly resource?: TrustDomain;
  /** `--trust-domain`. */
  readonly flag?: string;
}

const DAY = 24 * 60 * 60;
const DEFAULT_TTL = { authority: DAY, x509Svid: 3600, jwtSvid: 300 } as const;
const SHORTEST_AUTHORITY = 10;
const LONGEST_AUTHORITY = 20 * 365 * DAY;
const KEY_TYPES: readonly KeyTypeName[] = ['ec-p256', 'ec-p384', 'rsa-2048', 'rsa-4096', 'ed25519'];
const JWT_KEY_TYPES = ['ec-p256', 'ec-p384', 'rsa-2048', 'rsa-4096'] as const;
const MAX_ISSUER = 2048;

/**
 * The one TrustDomain of a store; undefined when there is none.
 *
 * @throws TrustDomainError `TrustDomainAmbiguous`
 */
export function findTrustDomain(store: StoreReader): TrustDomain | undefined {
  const found = store.list('TrustDomain');
  if (found.length > 1) {
    const names = found.map(({ metadata }) => metadata.name).sort();
    throw new TrustDomainError(
      'TrustDomainAmbiguous',
      `there are ${found.length} TrustDomain resources (${names.slice(0, 5).join(', ')}); keep one`,
    );
  }
  return found[0] as TrustDomain | undefined;
}

/**
 * Settles what the trust domain is.
 *
 * @throws TrustDomainError `TrustDomainMissing`, `TrustDomainConflict`, `TrustDomainInvalid`, `TTLInvalid`, `TTLTooLong`,
 *   `KeyTypeInvalid`, `IssuerInvalid`, `UpstreamInvalid`, `KeyEncryptionInvalid` or `MeshOptionsInvalid`
 */
export function trustDomainSettings({ resource, flag }: TrustDomainSources): TrustDomainSettings {
  const spec: Omit<TrustDomainSpec, 'name'> = resource?.spec ?? {};
  return {
    name: nameOf(resource?.spec.name, flag),
    keyTypes: {
      x509Authority: oneOf(KEY_TYPES, spec.keyTypes?.x509Authority, 'x509Authority'),
      jwtAuthority: oneOf(JWT_KEY_TYPES, spec.keyTypes?.jwtAuthority, 'jwtAuthority'),
      workload: oneOf(KEY_TYPES, spec.keyTypes?.workload, 'workload'),
    },
    ttlSeconds: ttls(spec.ttls),
    ...(spec.jwtIssuer === undefined ? {} : { jwtIssuer: issuer(spec.jwtIssuer) }),
    ...files(spec),
    defaultAction: spec.defaultAction ?? 'Deny',
    tokenIssuers: spec.tokenIssuers ?? [],
    meshOptions: meshOptions(spec.meshOptions ?? {}),
  };
}

function meshOptions(written: MeshOptionsSpec): MeshOptionsSpec {
  const [problem] = meshOptionsProblems(written);
  if (problem === undefined) return written;
  const { path, message, fix } = problem;
  return refuse('MeshOptionsInvalid', `${path.join('.')}: ${message}${fix === undefined ? '' : `; ${fix}`}`);
}

/** The files that the settings name. */
function files(
  spec: Omit<TrustDomainSpec, 'name'>,
): Pick<TrustDomainSettings, 'upstreamDisk' | 'keyEncryption' | 'previousKeyEncryption'> {
  const upstream = spec.upstreamAuthority?.disk;
  if (upstream !== undefined && (!upstream.certificateFile || !upstream.keyFile))
    refuse('UpstreamInvalid', 'spec.upstreamAuthority.disk needs certificateFile and keyFile');
  return {
    ...(upstream === undefined ? {} : { upstreamDisk: upstream }),
    ...keyEncryption(spec.keyEncryption),
  };
}

function keyEncryption(
  written: TrustDomainSpec['keyEncryption'],
): Pick<TrustDomainSettings, 'keyEncryption' | 'previousKeyEncryption'> {
  if (written === undefined) return {};
  const { previous, ...present } = written;
  return {
    keyEncryption: keyEncryptionSource(present, 'spec.keyEncryption'),
    ...(previous === undefined
      ? {}
      : { previousKeyEncryption: keyEncryptionSource(previous, 'spec.keyEncryption.previous') }),
  };
}

function keyEncryptionSource(
  { local, kms, builtIn }: KeyEncryptionPlace,
  field: string,
): KeyEncryptionSource {
  const named = Object.entries({ local, kms, builtIn }).flatMap(([name, place]) =>
    place === undefined ? [] : [name],
  );
  if (named.length > 1)
    refuse('KeyEncryptionInvalid', `${field} has both ${named.slice(0, 2).join(' and ')}; keep one`);
  if (local?.keyFile === '')
    refuse(
      'KeyEncryptionInvalid',
      `${field}.local.keyFile is empty; name a file, or leave keyEncryption out`,
    );
  if (kms !== undefined && !kms.socket.startsWith('/'))
    refuse('KeyEncryptionInvalid', `${field}.kms.socket must be an absolute path`);
  if (local !== undefined) return { keyFile: local.keyFile };
  if (kms !== undefined) return { socket: kms.socket };
  if (builtIn !== undefined) return { builtIn };
  return refuse('KeyEncryptionInvalid', `${field} names no key; write local, kms or builtIn`);
}

function refuse(code: string, message: string): never {
  throw new TrustDomainError(code, message);
}

function nameOf(written: string | undefined, flag: string | undefined): string {
  const fromResource = written === undefined ? undefined : name(written, 'spec.name of the TrustDomain');
  const fromFlag = flag === undefined ? undefined : name(flag, '--trust-domain');
  if (fromResource !== undefined && fromFlag !== undefined && fromResource !== fromFlag) {
    refuse(
      'TrustDomainConflict',
      `--trust-domain says "${fromFlag}" and the TrustDomain resource "${fromResource}"; leave out --trust-domain or write the same name`,
    );
  }
  return (
    fromResource ??
    fromFlag ??
    refuse(
      'TrustDomainMissing',
      'no trust domain is named; write a TrustDomain resource or give --trust-domain',
    )
  );
}

function name(text: string, where: string): string {
  try {
    return parseTrustDomain(text);
  } catch (thrown) {
    throw new TrustDomainError('TrustDomainInvalid', `${where}: ${SignetError.from(thrown).message}`, {
      cause: thrown,
    });
  }
}

function oneOf<T extends string>(known: readonly T[], written: string | undefined, field: string): T {
  const type = written ?? 'ec-p256';
  return (
    known.find((candidate) => candidate === type) ??
    refuse('KeyTypeInvalid', `spec.keyTypes.${field} is "${type}"; write one of ${known.join(', ')}`)
  );
}

function ttls(written: TrustDomainSpec['ttls']): TrustDomainSettings['ttlSeconds'] {
  const authority = ttl(written?.authority, 'authority') ?? DEFAULT_TTL.authority;
  if (authority < SHORTEST_AUTHORITY || authority > LONGEST_AUTHORITY) {
    refuse(
      'TTLInvalid',
      `spec.ttls.authority is ${written?.authority ?? ''}; it must be from ${SHORTEST_AUTHORITY}s to ${LONGEST_AUTHORITY / 3600}h`,
    );
  }
  const svid = (field: 'x509Svid' | 'jwtSvid'): number => {
    const seconds = ttl(written?.[field], field);
    // The last sixth of an authority's life is the next one's: an SVID within it is never cut short.
    if (seconds === undefined) return Math.min(DEFAULT_TTL[field], Math.max(1, Math.floor(authority / 6)));
    if (seconds <= authority) return seconds;
    return refuse(
      'TTLTooLong',
      `spec.ttls.${field} is ${written?.[field] ?? ''}, longer than the authority's ${authority}s (spec.ttls.authority); no SVID outlives its authority`,
    );
  };
  return { authority, x509Svid: svid('x509Svid'), jwtSvid: svid('jwtSvid') };
}

function ttl(text: string | undefined, field: string): number | undefined {
  if (text === undefined) return undefined;
  let seconds: number;
  try {
    seconds = Math.floor(parseDuration(text));
  } catch (thrown) {
    throw new TrustDomainError('TTLInvalid', `spec.ttls.${field}: ${SignetError.from(thrown).message}`, {
      cause: thrown,
    });
  }
  return seconds >= 1 ? seconds : refuse('TTLInvalid', `spec.ttls.${field} is ${text}; write at least 1s`);
}

/** Relying parties find the keys under the issuer, so it must be a URL that can be one (OpenID Connect Discovery §3). */
function issuer(text: string): string {
  const wanted = 'write a URL such as https://oidc.example.org';
  if (text.length > MAX_ISSUER)
    refuse('IssuerInvalid', `spec.jwtIssuer has ${text.length} characters; ${MAX_ISSUER} are allowed`);
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== 'https:' && url.protocol !== 'http:'))
    return refuse('IssuerInvalid', `spec.jwtIssuer "${text}" is no https URL; ${wanted}`);
  if (url.search !== '' || url.hash !== '' || text.includes('?') || text.includes('#') || url.username !== '')
    return refuse('IssuerInvalid', `spec.jwtIssuer "${text}" has a query, fragment or user; ${wanted}`);
  return text;
}
