import { MAX_JWT_SVID_LENGTH } from '../spiffe/jwt-svid.js';
import type { JsonObject } from './json.js';
import { readJsonPart } from './json.js';
import { refuse } from './refusal.js';

/** The longest token that is read, in characters: the same as of JWT-SVIDs. */
export const MAX_TOKEN_LENGTH = MAX_JWT_SVID_LENGTH;
const MAX_KEY_ID_LENGTH = 1024;

/** What the header of a token says that matters. */
export interface TokenHeader {
  readonly algorithm: string;
  readonly keyId: string | undefined;
  /** In lower case and without `application/` (RFC 7515 §4.1.9). */
  readonly type: string | undefined;
  /** All members, to be refused where a profile allows only some. */
  readonly names: readonly string[];
}

/** A token, taken apart. Nothing in it is verified. */
export interface TokenParts {
  readonly header: TokenHeader;
  readonly claims: JsonObject;
  /** What was signed. */
  readonly signingInput: Buffer;
  readonly signature: Buffer;
}

function malformed(reason: string): never {
  refuse('TokenMalformed', reason);
}

/**
 * Before anything else is done with a token.
 *
 * @throws TokenRefusal `TokenMalformed`
 */
export function checkLength(token: string): void {
  if (token.length > MAX_TOKEN_LENGTH)
    malformed(`the token has ${token.length} characters; ${MAX_TOKEN_LENGTH} are allowed`);
}

/**
 * Takes a JWS in compact serialisation apart (RFC 7515 §7.1), in its one canonical spelling.
 *
 * @throws TokenRefusal `TokenMalformed`, `TokenAlgorithmRefused`
 */
export function takeApart(token: string): TokenParts {
  const first = token.indexOf('.');
  const second = token.indexOf('.', first + 1);
  if (first < 0 || second < 0 || token.includes('.', second + 1))
    malformed('the token is no JWS in compact serialisation: it needs three parts');
  const header = readHeader(readJsonPart(decode(token.slice(0, first), 'header'), 'header'));
  const claims = readJsonPart(decode(token.slice(first + 1, second), 'payload'), 'payload');
  return {
    header,
    claims,
    signingInput: Buffer.from(token.slice(0, second), 'latin1'),
    signature: decode(token.slice(second + 1), 'signature'),
  };
}

/** Buffer skips what is no base64url and ignores loose bits, so only what it writes itself is taken. */
function decode(part: string, what: string): Buffer {
  if (part === '') malformed(`the ${what} is empty`);
  const bytes = Buffer.from(part, 'base64url');
  if (bytes.toString('base64url') !== part) malformed(`the ${what} is not canonical base64url`);
  return bytes;
}

/**
 * Members that change what has to be verified, and that we do not do: refused, rather than read in another way than the
 * issuer meant. Where a key may be found (`jwk`, `jku`, `x5u`, `x5c`) is no business of the token, so those are not even
 * looked at: keys come from the issuer's configuration.
 */
const REFUSED = new Map([
  ['crit', 'it has critical extensions'],
  ['b64', 'its payload is not encoded'],
  ['enc', 'it is encrypted'],
  ['zip', 'it is compressed'],
]);

function readHeader(header: JsonObject): TokenHeader {
  const { alg, kid, typ, cty } = header;
  const names = Object.keys(header);
  for (const name of names) {
    const why = REFUSED.get(name);
    if (why !== undefined) malformed(`header "${name}" is not supported: ${why}`);
  }
  if (cty !== undefined && !(typeof cty === 'string' && typeOf(cty) === 'json'))
    malformed('header "cty" is not supported: a token inside a token is not read');
  if (typeof alg !== 'string') refuse('TokenAlgorithmRefused', 'header "alg" must name an algorithm');
  if (kid !== undefined && (typeof kid !== 'string' || kid === '' || kid.length > MAX_KEY_ID_LENGTH))
    malformed(`header "kid" must be a text of 1 to ${MAX_KEY_ID_LENGTH} characters`);
  if (typ !== undefined && typeof typ !== 'string') malformed('header "typ" must be a text');
  return { algorithm: alg, keyId: kid, type: typ === undefined ? undefined : typeOf(typ), names };
}

/** A media type without what may be left out (RFC 7515 §4.1.9). */
export function typeOf(mediaType: string): string {
  return mediaType.toLowerCase().replace(/^application\//, '');
}
