import type { JsonWebKey, KeyObject } from 'node:crypto';
import { createHash, createPublicKey } from 'node:crypto';
import { MAX_BUNDLE_KEYS } from '../spiffe/bundle-document.js';
import { algorithmsOf, SUPPORTED_ALGORITHMS } from './algorithms.js';
import { isObject } from './json.js';

const MIN_RSA_BITS = 2048;
/** A larger key costs every caller more than it protects. */
const MAX_RSA_BITS = 8192;
const MAX_RSA_EXPONENT = 2n ** 32n;

/** A public key that may verify tokens. */
export interface VerificationKey {
  /** The issuer's `kid`; the thumbprint (RFC 7638) where it gave none. */
  readonly keyId: string;
  readonly named: boolean;
  readonly thumbprint: string;
  readonly key: KeyObject;
  readonly algorithms: readonly string[];
}

/** What looking a key up gives: the key, or why there is none. */
export type KeySearch = VerificationKey | 'unknown' | 'unfit' | 'ambiguous';

/** The keys of one issuer at one time. A value: never changed in place. */
export class KeySet {
  readonly keys: ReadonlySet<VerificationKey>;
  /** Why published keys were left out, one text each. Holds no key material. */
  readonly skipped: readonly string[];
  readonly #byId = new Map<string, VerificationKey[]>();

  constructor(keys: readonly VerificationKey[], skipped: readonly string[]) {
    this.keys = new Set(keys);
    this.skipped = skipped;
    for (const key of this.keys) {
      if (!key.named) continue;
      const same = this.#byId.get(key.keyId);
      if (same === undefined) this.#byId.set(key.keyId, [key]);
      else same.push(key);
    }
  }

  /**
   * The one key that a token's header names. `unfit`: there is a key of that ID, for other algorithms. A token that names
   * no key is taken only where one key alone could have signed it (OpenID Connect Core §10.1).
   */
  find(keyId: string | undefined, algorithm: string): KeySearch {
    const candidates = keyId === undefined ? [...this.keys] : (this.#byId.get(keyId) ?? []);
    const fit = candidates.filter(({ algorithms }) => algorithms.includes(algorithm));
    const [key] = fit;
    if (key === undefined) return candidates.length === 0 ? 'unknown' : 'unfit';
    return fit.length === 1 ? key : 'ambiguous';
  }
}

/**
 * Reads a JWK Set (RFC 7517 §5). Keys that cannot serve are skipped, each with its reason, as §5 asks; so are private and
 * symmetric ones. A key that `earlier` holds as well is the same object again, so what was verified with it stays so.
 *
 * @throws Error when the document is no JWK Set at all
 */
export function readKeySet(document: unknown, earlier?: KeySet): KeySet {
  const keys = isObject(document) ? document['keys'] : undefined;
  if (!Array.isArray(keys)) throw new Error('the document is no JWK Set: it has no list "keys"');
  if (keys.length > MAX_BUNDLE_KEYS)
    throw new Error(`the JWK Set has ${keys.length} keys; ${MAX_BUNDLE_KEYS} are allowed`);
  const found: VerificationKey[] = [];
  const skipped: string[] = [];
  keys.forEach((jwk: unknown, index) => {
    const key = readKey(jwk);
    if (typeof key === 'string') skipped.push(`keys[${index}]: ${key}`);
    // The same key twice is no other key.
    else if (!found.some((other) => isSame(other, key))) found.push(known(key, earlier));
  });
  return new KeySet(found, skipped);
}

function known(key: VerificationKey, earlier: KeySet | undefined): VerificationKey {
  for (const other of earlier?.keys ?? []) if (isSame(other, key)) return other;
  return key;
}

function isSame(left: VerificationKey, right: VerificationKey): boolean {
  return (
    left.thumbprint === right.thumbprint &&
    left.keyId === right.keyId &&
    left.named === right.named &&
    left.algorithms.join() === right.algorithms.join()
  );
}

/** The members that make each kind of public key, in the order of their thumbprint (RFC 7638 §3.2, RFC 8037 §2). */
const MEMBERS = new Map<unknown, readonly string[]>([
  ['EC', ['crv', 'kty', 'x', 'y']],
  ['RSA', ['e', 'kty', 'n']],
  ['OKP', ['crv', 'kty', 'x']],
]);

/** The key, or why it cannot serve. */
function readKey(jwk: unknown): VerificationKey | string {
  if (!isObject(jwk)) return 'no object';
  if (jwk['kty'] === 'oct') return 'a symmetric key; nobody may publish or share one here';
  const members = MEMBERS.get(jwk['kty']);
  if (members === undefined) return 'of an unknown "kty"';
  if ('d' in jwk) return 'a private key; it is known to everybody now, so replace it';
  const use = useProblem(jwk);
  if (use !== undefined) return use;
  const { kid } = jwk;
  if (kid !== undefined && (typeof kid !== 'string' || kid === '')) return '"kid" is no text';
  const key = importKey(Object.fromEntries(members.map((name) => [name, jwk[name]])));
  if (typeof key === 'string') return key;
  const algorithms = algorithmsOf(key.kind).filter((name) => jwk['alg'] === undefined || name === jwk['alg']);
  if (algorithms.length === 0)
    return `"alg" is none that its key can do; of those we know: ${algorithmsOf(key.kind).join(', ')}`;
  const canonical = key.object.export({ format: 'jwk' });
  const text = JSON.stringify(Object.fromEntries(members.map((name) => [name, canonical[name]])));
  const thumbprint = createHash('sha256').update(text).digest('base64url');
  return { keyId: kid ?? thumbprint, named: kid !== undefined, thumbprint, key: key.object, algorithms };
}

/** RFC 7517 §4.2, §4.3: for signatures, or nothing is said. */
function useProblem({ use, key_ops: operations, alg }: Record<string, unknown>): string | undefined {
  if (use !== undefined && use !== 'sig') return '"use" is not "sig"';
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify')))
    return '"key_ops" lacks "verify"';
  if (alg !== undefined && !SUPPORTED_ALGORITHMS.includes(alg as string)) return '"alg" is not supported';
  return undefined;
}

/** The kind is `rsa` or the name of the curve. */
function importKey(jwk: JsonWebKey): { readonly kind: string; readonly object: KeyObject } | string {
  let object: KeyObject;
  try {
    object = createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    return 'no valid public key';
  }
  if (object.asymmetricKeyType !== 'rsa') return { kind: jwk.crv ?? '', object };
  const { modulusLength = 0, publicExponent = 0n } = object.asymmetricKeyDetails ?? {};
  if (modulusLength < MIN_RSA_BITS || modulusLength > MAX_RSA_BITS)
    return `an RSA key of ${modulusLength} bits; ${MIN_RSA_BITS} to ${MAX_RSA_BITS} are allowed`;
  if (publicExponent < 3n || publicExponent > MAX_RSA_EXPONENT || publicExponent % 2n === 0n)
    return 'an RSA key with an exponent that is not safe';
  return { kind: 'rsa', object };
}
