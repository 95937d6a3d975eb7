import type { JsonWebKey, KeyObject } from 'node:crypto';
import { createHash, verify } from 'node:crypto';
import { CaError } from './errors.js';
import { BACKDATE_MS } from '../pki/backdate.js';
import type { KeyType, Signer } from '../pki/keys.js';
import { ecdsaSignatureToRaw, exportSpki, publicKeyFromSpki } from '../pki/keys.js';
import type { JwtAuthorityKey } from '../spiffe/bundle.js';
import type { SpiffeId } from '../spiffe/id.js';
import type { Random } from '../../lib/random.js';
import type { JwtAuthority } from './authority-set.js';
import { checkTimely } from './authority-set.js';
import type { MintOptions } from './x509-authority.js';

/** What a JWT-SVID is to say. */
export interface JwtRequest {
  readonly spiffeId: SpiffeId;
  /** At least one (JWT-SVID §3.2). */
  readonly audience: readonly string[];
  /** The token ends earlier if its authority does. */
  readonly ttlSeconds: number;
}

/** A signed JWT-SVID. */
export interface IssuedJwt {
  /** JWS compact. */
  readonly token: string;
  /** Milliseconds since the epoch, in whole seconds. */
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly keyId: string;
}

/** A JWT authority with its key at hand. */
export interface JwtSigner {
  readonly kind: 'jwt';
  readonly authority: JwtAuthority;
  sign(request: JwtRequest, now: number): Promise<IssuedJwt>;
}

const TOKEN_ID_BYTES = 16;

/** JWA names (RFC 7518 §3.1), all among those that JWT-SVID §2.1 allows. */
function algorithmOf(type: KeyType): 'ES256' | 'ES384' | 'RS256' {
  switch (type) {
    case 'ec-p256':
      return 'ES256';
    case 'ec-p384':
      return 'ES384';
    case 'rsa-2048':
    case 'rsa-4096':
      return 'RS256';
    case 'ed25519':
      throw new CaError('CaConfigInvalid', 'Ed25519 is no algorithm of JWT-SVIDs; use ec-p256');
  }
}

/** Makes a key for JWT-SVIDs. It is in the store when this resolves; nobody knows of the authority yet. */
export async function mintJwtAuthority(options: MintOptions): Promise<JwtAuthority> {
  const { settings, keys, random, now } = options;
  const keyId = `jwt-${Buffer.from(random.bytes(8)).toString('hex')}`;
  const key = await keys.generate(keyId, settings.keyTypes.jwt);
  const algorithm = algorithmOf(key.keyType);
  return {
    kind: 'jwt',
    id: thumbprint(key.publicKey),
    keyId,
    keyType: key.keyType,
    subject: `${algorithm} key`,
    slot: 'prepared',
    published: false,
    tainted: false,
    revoked: false,
    notBefore: wholeSecond(now - BACKDATE_MS),
    notAfter: wholeSecond(now + settings.authorityTtlMs),
    spki: Uint8Array.from(exportSpki(key.publicKey)),
  };
}

/**
 * An authority ready to sign with `key`. The header (alg, kid, typ and nothing else: JWT-SVID §2) is encoded once.
 *
 * @throws CaError `AuthorityKeyMismatch` when the key is not the authority's, `SelfCheckFailed` when it does not sign
 */
export async function jwtSigner(
  authority: JwtAuthority,
  key: Signer,
  random: Random,
  issuerNow: () => string | undefined,
): Promise<JwtSigner> {
  if (Buffer.compare(authority.spki, exportSpki(key.publicKey)) !== 0) {
    throw new CaError(
      'AuthorityKeyMismatch',
      `key ${authority.keyId} is not the key of jwt authority ${authority.id}; restore the state from one backup`,
    );
  }
  const header = encodeJson({ alg: algorithmOf(key.keyType), kid: authority.id, typ: 'JWT' });
  await selfCheck(authority, key);
  return {
    kind: 'jwt',
    authority,
    async sign({ spiffeId, audience, ttlSeconds }, now) {
      checkTimely(authority, now);
      const issuedAt = wholeSecond(now);
      const expiresAt = Math.min(issuedAt + ttlSeconds * 1000, authority.notAfter);
      const issuer = issuerNow();
      const claims = {
        ...(issuer === undefined ? {} : { iss: issuer }),
        sub: spiffeId.uri,
        aud: audience,
        exp: expiresAt / 1000,
        iat: issuedAt / 1000,
        jti: Buffer.from(random.bytes(TOKEN_ID_BYTES)).toString('base64url'),
      };
      const signed = `${header}.${encodeJson(claims)}`;
      const signature = await rawSignature(key, Buffer.from(signed, 'latin1'));
      return {
        token: `${signed}.${Buffer.from(signature).toString('base64url')}`,
        issuedAt,
        expiresAt,
        keyId: authority.id,
      };
    },
  };
}

/** The public half as the bundle has it (Trust Domain and Bundle §4.2.2): no `kid` and `use`, which the document adds. */
export function jwtAuthorityKey(authority: JwtAuthority): JwtAuthorityKey {
  return { keyId: authority.id, jwk: publicKeyFromSpki(authority.spki).export({ format: 'jwk' }) };
}

async function rawSignature(key: Signer, data: Uint8Array): Promise<Uint8Array> {
  const signature = await key.sign(data);
  return key.keyType === 'ec-p256' || key.keyType === 'ec-p384'
    ? ecdsaSignatureToRaw(signature, key.keyType)
    : signature;
}

/** Signs once and verifies, when the key is taken up: each token after that is the same computation. */
async function selfCheck(authority: JwtAuthority, key: Signer): Promise<void> {
  const data = Buffer.from(`signet self-check ${authority.id}`);
  const signature = await rawSignature(key, data);
  const digest = key.keyType === 'ec-p384' ? 'sha384' : 'sha256';
  const publicKey = publicKeyFromSpki(authority.spki);
  if (verify(digest, data, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)) return;
  throw new CaError(
    'SelfCheckFailed',
    `key ${authority.keyId} made a signature that its public half does not verify`,
  );
}

/** The JWK thumbprint (RFC 7638), base64url of SHA-256: the same for everybody who computes it. */
function thumbprint(publicKey: KeyObject): string {
  const { crv, e, kty, n, x, y }: JsonWebKey = publicKey.export({ format: 'jwk' });
  // The members that the key type requires, in lexical order, and no space (§3.2).
  const members = kty === 'RSA' ? { e, kty, n } : { crv, kty, x, y };
  return createHash('sha256').update(JSON.stringify(members)).digest('base64url');
}

function encodeJson(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

function wholeSecond(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}
