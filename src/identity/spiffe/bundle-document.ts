import type { JsonWebKey } from 'node:crypto';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { SignetError } from '../../lib/errors.js';
import type { JwtAuthorityKey, TrustBundle } from './bundle.js';
import { parseTrustDomain } from './id.js';

/** The largest bundle document that is read, in bytes. A root with an RSA-4096 key takes about 3,000. */
export const MAX_BUNDLE_BYTES = 4 * 1024 * 1024;
/** The most keys in one document. */
export const MAX_BUNDLE_KEYS = 1000;
/** The longest key ID, in characters. */
export const MAX_KEY_ID = 1024;

/** Why a bundle document is refused. The code is always `BundleInvalid`. */
export class BundleError extends SignetError {}

function fail(message: string, cause?: unknown): never {
  throw new BundleError('BundleInvalid', message, cause === undefined ? undefined : { cause });
}

type JsonObject = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Reads a trust bundle document: a JWK Set with `spiffe_sequence` and `spiffe_refresh_hint` (SPIFFE Trust Domain and
 * Bundle §4). A plain JWK Set, as FetchJWTBundles sends it, is one too. Keys of an unknown or absent `use` or `kty` are
 * skipped (§4.2.1, §4.2.2); a key of a known use that is malformed makes the whole document invalid, so that a reader
 * keeps the last good one rather than half of a bad one.
 *
 * @throws BundleError
 */
export function parseBundleDocument(trustDomain: string, json: string | Uint8Array): TrustBundle {
  const name = parseTrustDomain(trustDomain);
  const document = parseJson(json);
  const keys = document['keys'];
  // §4.1.3: must be there; an empty list says that all keys are revoked.
  if (!Array.isArray(keys))
    fail('the bundle document has no list "keys"; an empty one must be written as []');
  if (keys.length > MAX_BUNDLE_KEYS)
    fail(`the bundle document has ${keys.length} keys; ${MAX_BUNDLE_KEYS} are allowed`);

  const x509 = new Map<string, Uint8Array>();
  const jwt = new Map<string, JwtAuthorityKey>();
  keys.forEach((key: unknown, index) => {
    if (!isObject(key)) fail(`keys[${index}] is no object`);
    if (key['use'] === 'x509-svid') readX509Key(key, index, x509);
    else if (key['use'] === 'jwt-svid') readJwtKey(key, index, jwt);
  });
  const refreshHintSeconds = readCount(document, 'spiffe_refresh_hint');
  return {
    trustDomain: name,
    x509Authorities: [...x509.values()],
    jwtAuthorities: [...jwt.values()],
    sequence: readCount(document, 'spiffe_sequence') ?? 0,
    ...(refreshHintSeconds === undefined ? {} : { refreshHintSeconds }),
  };
}

function parseJson(json: string | Uint8Array): JsonObject {
  if (json.length > MAX_BUNDLE_BYTES)
    fail(`the bundle document has ${json.length} bytes; ${MAX_BUNDLE_BYTES} are allowed`);
  let value: unknown;
  try {
    const text = typeof json === 'string' ? json : new TextDecoder('utf-8', { fatal: true }).decode(json);
    value = JSON.parse(text);
  } catch (cause) {
    fail(`the bundle document is no JSON: ${cause instanceof Error ? cause.message : 'unreadable'}`, cause);
  }
  if (!isObject(value)) fail('the bundle document is no JSON object');
  return value;
}

/** An optional integer >= 0. */
function readCount(document: JsonObject, name: string): number | undefined {
  const value = document[name];
  if (value === undefined) return undefined;
  if (!Number.isSafeInteger(value) || (value as number) < 0)
    fail(`"${name}" of the bundle document must be an integer of at least 0`);
  return value as number;
}

/** X509-SVID §6: `x5c` holds one CA certificate; a reader takes the first and skips an entry that has none. */
function readX509Key(key: JsonObject, index: number, found: Map<string, Uint8Array>): void {
  if (typeof key['kty'] !== 'string') fail(`keys[${index}] has no "kty"`);
  if (!KNOWN_KTY.has(key['kty'])) return;
  const chain = key['x5c'];
  if (chain === undefined || (Array.isArray(chain) && chain.length === 0)) return;
  const first: unknown = Array.isArray(chain) ? chain[0] : undefined;
  if (typeof first !== 'string' || first.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(first))
    fail(`keys[${index}].x5c[0] is not base64`);
  const der = Uint8Array.from(Buffer.from(first, 'base64'));
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(der);
  } catch (cause) {
    fail(`keys[${index}].x5c[0] is no certificate`, cause);
  }
  // A parser that skips what follows would let two readers see two documents.
  if (certificate.raw.length !== der.length) fail(`keys[${index}].x5c[0] has bytes after the certificate`);
  if (!certificate.ca) fail(`keys[${index}].x5c[0] is no CA certificate`);
  found.set(first, der);
}

const KNOWN_KTY: ReadonlySet<string> = new Set(['EC', 'RSA', 'OKP']);
/** The members that make the key; all others (`alg`, `x5t`, …) say nothing that we need. */
const PUBLIC_MEMBERS = new Map<unknown, readonly string[]>([
  ['EC', ['kty', 'crv', 'x', 'y']],
  ['RSA', ['kty', 'n', 'e']],
]);
const CURVES: ReadonlySet<unknown> = new Set(['P-256', 'P-384', 'P-521']);

/** JWT-SVID §5: the key ID must be there. */
function readJwtKey(key: JsonObject, index: number, found: Map<string, JwtAuthorityKey>): void {
  if (typeof key['kty'] !== 'string') fail(`keys[${index}] has no "kty"`);
  const members = PUBLIC_MEMBERS.get(key['kty']);
  if (members === undefined) return;
  const keyId = key['kid'];
  if (typeof keyId !== 'string' || keyId === '') fail(`keys[${index}] needs a "kid", as every jwt-svid key`);
  if (keyId.length > MAX_KEY_ID)
    fail(`keys[${index}].kid has ${keyId.length} characters; ${MAX_KEY_ID} are allowed`);
  if ('d' in key)
    fail(`keys[${index}] holds a private key; a bundle has public keys only, so treat it as leaked`);
  const jwk: JsonWebKey = Object.fromEntries(members.map((member) => [member, key[member]]));
  checkJwtKey(jwk, index);
  const earlier = found.get(keyId);
  if (earlier !== undefined && JSON.stringify(earlier.jwk) !== JSON.stringify(jwk))
    fail(`keys[${index}].kid is the key ID of another key, too; key IDs must be unique`);
  found.set(keyId, { keyId, jwk });
}

/** The key must be one that a JWT-SVID may be signed with (JWT-SVID §2.1). */
function checkJwtKey(jwk: JsonWebKey, index: number): void {
  if (jwk.kty === 'EC' && !CURVES.has(jwk.crv)) fail(`keys[${index}].crv must be P-256, P-384 or P-521`);
  let bits: number | undefined;
  try {
    bits = createPublicKey({ key: jwk, format: 'jwk' }).asymmetricKeyDetails?.modulusLength;
  } catch (cause) {
    fail(`keys[${index}] is no ${jwk.kty ?? ''} public key`, cause);
  }
  if (jwk.kty === 'RSA' && (bits ?? 0) < 2048)
    fail(`keys[${index}] is an RSA key of ${bits ?? 0} bits; 2048 are needed`);
}

/** The whole bundle as a SPIFFE bundle document. The same bundle gives the same text. */
export function formatBundleDocument(bundle: TrustBundle): string {
  return JSON.stringify({
    keys: [...bundle.x509Authorities.map(x509Key), ...bundle.jwtAuthorities.map(jwtKey)],
    spiffe_sequence: bundle.sequence,
    ...(bundle.refreshHintSeconds === undefined ? {} : { spiffe_refresh_hint: bundle.refreshHintSeconds }),
  });
}

/**
 * The JWT authorities alone as a JWK Set: what FetchJWTBundles sends, where keys of other uses may not be
 * (SPIFFE Workload API §6.2.2).
 */
export function formatJwtBundle(bundle: TrustBundle): string {
  return JSON.stringify({ keys: bundle.jwtAuthorities.map(jwtKey) });
}

function x509Key(der: Uint8Array): JsonWebKey {
  const certificate = new X509Certificate(der);
  return {
    use: 'x509-svid',
    ...certificate.publicKey.export({ format: 'jwk' }),
    // No key ID: X509-SVID §6 forbids it.
    x5c: [Buffer.from(der).toString('base64')],
  };
}

function jwtKey({ keyId, jwk }: JwtAuthorityKey): JsonWebKey {
  return { use: 'jwt-svid', kid: keyId, ...jwk };
}
