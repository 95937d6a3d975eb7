import type { KeyObject } from 'node:crypto';
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPair as generate,
  generateKeyPairSync,
  sign,
} from 'node:crypto';
import { promisify } from 'node:util';
import { bytesEqual, concatBytes } from './bytes.js';
import { parseDer, TAG } from './der.js';
import { expectTag, readBitString, readOid } from './der-read.js';
import { ecPkcs8, ecSpki } from './ec-export.js';
import { refuse } from './errors.js';
import { OID } from './oids.js';
import { encodePem } from './pem.js';

/** The kinds of key that Signet makes and signs with. */
export type KeyType = 'ec-p256' | 'ec-p384' | 'ed25519' | 'rsa-2048' | 'rsa-4096';

/** A private key with its public half. */
export interface KeyPair {
  readonly type: KeyType;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** Signs with a key that may live elsewhere. */
export interface Signer {
  readonly keyType: KeyType;
  readonly publicKey: KeyObject;
  /**
   * The signature in X.509 form: ECDSA as DER with SHA-256 (P-256) or SHA-384 (P-384), RSA PKCS#1 v1.5 with SHA-256,
   * or Ed25519. Synchronous where the key is at hand.
   */
  sign(data: Uint8Array): Uint8Array | Promise<Uint8Array>;
}

/** The largest SubjectPublicKeyInfo that is read; RSA-4096 needs 550 bytes. */
const MAX_SPKI_BYTES = 1024;
const MAX_PKCS8_BYTES = 8 * 1024;

const generateAsync = promisify(generate);

/** Makes a key pair. EC and Ed25519 keys are made at once; RSA keys on another thread, since they take long. */
export async function generateKeyPair(type: KeyType): Promise<KeyPair> {
  switch (type) {
    case 'ec-p256':
      return { type, ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) };
    case 'ec-p384':
      return { type, ...generateKeyPairSync('ec', { namedCurve: 'P-384' }) };
    case 'ed25519':
      return { type, ...generateKeyPairSync('ed25519') };
    case 'rsa-2048':
      return { type, ...(await generateAsync('rsa', { modulusLength: 2048 })) };
    case 'rsa-4096':
      return { type, ...(await generateAsync('rsa', { modulusLength: 4096 })) };
  }
}

/**
 * Reads an unencrypted PKCS#8 private key, DER.
 *
 * @throws PkiError `KeyInvalid` or `KeyUnsupported`; neither tells anything of the key
 */
export function keyPairFromPkcs8(der: Uint8Array): KeyPair {
  if (der.length > MAX_PKCS8_BYTES) {
    refuse('KeyInvalid', `the private key has ${der.length} bytes; ${MAX_PKCS8_BYTES} are allowed`);
  }
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey({ key: asBuffer(der), format: 'der', type: 'pkcs8' });
  } catch {
    // The cause stays out: OpenSSL's text is of no use to the reader, and this is a secret.
    refuse('KeyInvalid', 'the private key is not unencrypted PKCS#8 in DER');
  }
  return { type: keyTypeOf(privateKey), privateKey, publicKey: createPublicKey(privateKey) };
}

/** A private key as unencrypted PKCS#8, DER. The caller keeps it secret. */
export function exportPkcs8(key: KeyObject): Uint8Array {
  return ecPkcs8(key) ?? key.export({ type: 'pkcs8', format: 'der' });
}

/** A public key (or the public half of a private one) as SubjectPublicKeyInfo, DER. */
export function exportSpki(key: KeyObject): Uint8Array {
  return (
    ecSpki(key) ??
    (key.type === 'private' ? createPublicKey(key) : key).export({ type: 'spki', format: 'der' })
  );
}

/** A KeyObject from SubjectPublicKeyInfo. Throws PkiError `KeyInvalid`. */
export function publicKeyFromSpki(spki: Uint8Array): KeyObject {
  try {
    return createPublicKey(spkiPem(spki));
  } catch (cause) {
    refuse('KeyInvalid', 'the public key cannot be read', cause);
  }
}

/**
 * SubjectPublicKeyInfo in the form that Node reads fastest: a text is known to be PEM, while finding out what kind of
 * object holds the DER costs more than reading the key itself.
 */
export function spkiPem(spki: Uint8Array): string {
  return encodePem('PUBLIC KEY', spki);
}

/** The type of a key. Throws PkiError `KeyUnsupported` for any that Signet does not sign with. */
export function keyTypeOf(key: KeyObject): KeyType {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  const kind = key.asymmetricKeyType ?? 'not asymmetric';
  const name = `${kind}/${namedCurve ?? modulusLength ?? ''}`;
  return KEY_TYPES.get(name) ?? unsupported(name);
}

/** By Node's names of the algorithm, and of the curve or the modulus' bits. */
const KEY_TYPES: ReadonlyMap<string, KeyType> = new Map([
  ['ec/prime256v1', 'ec-p256'],
  ['ec/secp384r1', 'ec-p384'],
  ['ed25519/', 'ed25519'],
  ['rsa/2048', 'rsa-2048'],
  ['rsa/4096', 'rsa-4096'],
]);

function unsupported(what: string): never {
  refuse('KeyUnsupported', `the key is ${what}; use EC P-256 or P-384, Ed25519, or RSA of 2048 or 4096 bits`);
}

/** SPKI up to and including the byte that says "uncompressed point", and its whole length. */
const FIXED_SPKI: readonly { type: KeyType; prefix: Uint8Array; length: number }[] = [
  {
    type: 'ec-p256',
    prefix: Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex'),
    length: 91,
  },
  {
    type: 'ec-p384',
    prefix: Buffer.from('3076301006072a8648ce3d020106052b8104002203620004', 'hex'),
    length: 120,
  },
  { type: 'ed25519', prefix: Buffer.from('302a300506032b6570032100', 'hex'), length: 44 },
];

/**
 * The type of the key in a SubjectPublicKeyInfo, from its bytes. That an EC point lies on its curve is only known once
 * {@link publicKeyFromSpki} has read it. Only the usual encoding is accepted: no compressed points, no explicit curve
 * parameters.
 *
 * @throws PkiError `KeyUnsupported`, or `DerInvalid` when it is no SubjectPublicKeyInfo
 */
export function keyTypeOfSpki(spki: Uint8Array): KeyType {
  for (const { type, prefix, length } of FIXED_SPKI) {
    if (spki.length === length && bytesEqual(spki.subarray(0, prefix.length), prefix)) return type;
  }
  const node = parseDer(spki, 'the public key', { maxBytes: MAX_SPKI_BYTES });
  const algorithm = expectTag(node, TAG.sequence, 'the public key').children[0];
  const name = readOid(algorithm?.children[0], 'the public key algorithm');
  if (name !== OID.rsaEncryption) {
    if (name === OID.ecPublicKey) unsupported('EC on another curve, or a compressed point');
    unsupported(`of algorithm ${name}`);
  }
  const inner = parseDer(readBitString(node.children[1], 'the public key'), 'the RSA public key');
  const modulus = expectTag(inner.children[0], TAG.integer, 'the RSA modulus').content;
  const exponent = expectTag(inner.children[1], TAG.integer, 'the RSA exponent').content;
  // 65537 is what every library makes; small or even exponents are how broken keys look.
  if (!bytesEqual(exponent, Uint8Array.of(1, 0, 1))) unsupported('RSA with an exponent that is not 65537');
  if (modulus[0] === 0 && (modulus[1] ?? 0) >= 0x80) {
    if (modulus.length === 257) return 'rsa-2048';
    if (modulus.length === 513) return 'rsa-4096';
  }
  return unsupported('RSA of another size');
}

/** The signer of a key pair that is at hand. */
export function signerOf(pair: KeyPair): Signer {
  const digest = pair.type === 'ed25519' ? null : pair.type === 'ec-p384' ? 'sha384' : 'sha256';
  const { privateKey } = pair;
  return {
    keyType: pair.type,
    publicKey: pair.publicKey,
    sign: (data) => sign(digest, data, privateKey),
  };
}

/**
 * An ECDSA signature in the form that JWS wants (RFC 7518 §3.4): r and s, each of the curve's size.
 *
 * @throws PkiError `DerInvalid`
 */
export function ecdsaSignatureToRaw(signature: Uint8Array, type: 'ec-p256' | 'ec-p384'): Uint8Array {
  const size = type === 'ec-p256' ? 32 : 48;
  const node = expectTag(parseDer(signature, 'the ECDSA signature'), TAG.sequence, 'the ECDSA signature');
  const numbers = [node.children[0], node.children[1]].map((child) => {
    const { content } = expectTag(child, TAG.integer, 'a number of the ECDSA signature');
    const digits = content[0] === 0 ? content.subarray(1) : content;
    if (digits.length > size)
      refuse('DerInvalid', 'a number of the ECDSA signature is too large for its curve');
    return concatBytes([new Uint8Array(size - digits.length), digits]);
  });
  return concatBytes(numbers);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
