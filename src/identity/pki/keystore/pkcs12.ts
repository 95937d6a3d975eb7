import { createCipheriv, createHash, createHmac, hash, pbkdf2 } from 'node:crypto';
import { promisify } from 'node:util';
import type { Random } from '../../../lib/random.js';
import { concatBytes } from '../bytes.js';
import { contextTag, TAG } from '../der.js';
import { encode, NULL, octetString, oid, sequence, setOfOne, smallInteger } from '../der-write.js';
import { refuse } from '../errors.js';
import { OID } from '../oids.js';
import { bmpBytes, checkKeystore, type KeyEntry, type TrustedEntry } from './entries.js';

const derive = promisify(pbkdf2);

/** Object identifiers of PKCS#12 (RFC 7292), PKCS#5 (RFC 8018) and PKCS#9 (RFC 2985). */
const P12 = {
  data: oid('1.2.840.113549.1.7.1'),
  encryptedData: oid('1.2.840.113549.1.7.6'),
  shroudedKeyBag: oid('1.2.840.113549.1.12.10.1.2'),
  certBag: oid('1.2.840.113549.1.12.10.1.3'),
  x509Certificate: oid('1.2.840.113549.1.9.22.1'),
  friendlyName: oid('1.2.840.113549.1.9.20'),
  localKeyId: oid('1.2.840.113549.1.9.21'),
  // Oracle's: without it, Java does not take a certificate for a trusted one.
  trustedKeyUsage: oid('2.16.840.1.113894.746875.1.1'),
  pbes2: oid('1.2.840.113549.1.5.13'),
  pbkdf2: oid('1.2.840.113549.1.5.12'),
  hmacWithSha256: oid('1.2.840.113549.2.9'),
  aes256Cbc: oid('2.16.840.1.101.3.4.1.42'),
  sha256: oid('2.16.840.1.101.3.4.2.1'),
};

/**
 * As OpenSSL's: the password of such a file is as a rule known to whoever can read the file, so more of them would slow
 * down nobody but its readers.
 */
export const PKCS12_ITERATIONS = 2_048;
/** Iterations between two turns of the event loop. */
const TURN = 256;
const BMP_STRING = 0x1e;

/**
 * A PKCS#12 file (RFC 7292) with one key and its chain: PBES2 with AES-256-CBC and PBKDF2-HMAC-SHA256, and a MAC with
 * SHA-256, which OpenSSL 1.1 and 3, Java from 8u301 on, Node and Go read.
 *
 * @throws PkiError `KeystoreInvalid`
 */
export async function encodePkcs12Keystore(
  entry: KeyEntry,
  password: string,
  random: Random,
): Promise<Uint8Array> {
  checkKeystore(password, [entry]);
  const [leaf, ...others] = entry.chain;
  if (leaf === undefined) refuse('KeystoreInvalid', 'a key entry needs its certificate');
  const named = [
    attribute(P12.friendlyName, encode(BMP_STRING, bmpBytes(entry.alias))),
    attribute(P12.localKeyId, octetString(createHash('sha256').update(leaf).digest())),
  ];
  const key = await encrypt(entry.pkcs8, password, random);
  const keyBag = bag(P12.shroudedKeyBag, sequence(key.algorithm, octetString(key.ciphertext)), named);
  const certBags = [certBag(leaf, named), ...others.map((certificate) => certBag(certificate, []))];
  return pfx([await encryptedContent(certBags, password, random), dataContent([keyBag])], password, random);
}

/**
 * A PKCS#12 file with authorities that Java, too, takes for trusted. As {@link encodePkcs12Keystore}.
 *
 * @throws PkiError `KeystoreInvalid`
 */
export async function encodePkcs12Truststore(
  entries: readonly TrustedEntry[],
  password: string,
  random: Random,
): Promise<Uint8Array> {
  checkKeystore(password, entries);
  const bags = entries.map(({ alias, certificate }) =>
    certBag(certificate, [
      attribute(P12.friendlyName, encode(BMP_STRING, bmpBytes(alias))),
      attribute(P12.trustedKeyUsage, oid(OID.anyExtendedKeyUsage)),
    ]),
  );
  return pfx([await encryptedContent(bags, password, random)], password, random);
}

/** PFX (§4): the contents and a MAC over them. */
async function pfx(contents: readonly Uint8Array[], password: string, random: Random): Promise<Uint8Array> {
  const safe = sequence(...contents);
  const salt = random.bytes(16);
  const key = await macKey(password, salt);
  const mac = createHmac('sha256', key).update(safe).digest();
  return sequence(
    smallInteger(3),
    sequence(P12.data, explicit(octetString(safe))),
    sequence(
      sequence(sequence(P12.sha256, NULL), octetString(mac)),
      octetString(salt),
      smallInteger(PKCS12_ITERATIONS),
    ),
  );
}

/** Bags in clear; what is secret in them is encrypted by itself. */
function dataContent(bags: readonly Uint8Array[]): Uint8Array {
  return sequence(P12.data, explicit(octetString(sequence(...bags))));
}

/** EncryptedData (RFC 2315 §13): certificates are no secrets, but some readers look for them nowhere else. */
async function encryptedContent(
  bags: readonly Uint8Array[],
  password: string,
  random: Random,
): Promise<Uint8Array> {
  const { algorithm, ciphertext } = await encrypt(sequence(...bags), password, random);
  const content = sequence(P12.data, algorithm, encode(contextTag(0, false), ciphertext));
  return sequence(P12.encryptedData, explicit(sequence(smallInteger(0), content)));
}

function certBag(certificate: Uint8Array, attributes: readonly Uint8Array[]): Uint8Array {
  return bag(P12.certBag, sequence(P12.x509Certificate, explicit(octetString(certificate))), attributes);
}

/** SafeBag (§4.2). */
function bag(type: Uint8Array, value: Uint8Array, attributes: readonly Uint8Array[]): Uint8Array {
  // SET OF is sorted in DER (X.690 §11.6).
  const sorted = [...attributes].sort((one, other) => Buffer.compare(one, other));
  return sequence(type, explicit(value), ...(sorted.length === 0 ? [] : [encode(TAG.set, ...sorted)]));
}

function attribute(type: Uint8Array, value: Uint8Array): Uint8Array {
  return sequence(type, setOfOne(value));
}

function explicit(value: Uint8Array): Uint8Array {
  return encode(contextTag(0, true), value);
}

/** PBES2 (RFC 8018 §6.2). The derivation runs on another thread. */
async function encrypt(
  plain: Uint8Array,
  password: string,
  random: Random,
): Promise<{ readonly algorithm: Uint8Array; readonly ciphertext: Uint8Array }> {
  const salt = random.bytes(16);
  const iv = random.bytes(16);
  const key = await derive(password, salt, PKCS12_ITERATIONS, 32, 'sha256');
  const cipher = createCipheriv('aes-256-cbc', key, iv);
  const kdf = sequence(
    octetString(salt),
    smallInteger(PKCS12_ITERATIONS),
    smallInteger(32),
    sequence(P12.hmacWithSha256, NULL),
  );
  return {
    algorithm: sequence(
      P12.pbes2,
      sequence(sequence(P12.pbkdf2, kdf), sequence(P12.aes256Cbc, octetString(iv))),
    ),
    ciphertext: concatBytes([cipher.update(plain), cipher.final()]),
  };
}

/**
 * The MAC's key (RFC 7292 appendix B.2, with SHA-256 and for one block of output). No library has this derivation, so it
 * runs here, a little at a time.
 */
async function macKey(password: string, salt: Uint8Array): Promise<Uint8Array> {
  const block = 64;
  const diversifier = new Uint8Array(block).fill(3);
  const filled = (bytes: Uint8Array): Uint8Array =>
    Uint8Array.from(
      { length: Math.ceil(bytes.length / block) * block },
      (_, index) => bytes[index % bytes.length] ?? 0,
    );
  // Terminated, as the appendix asks for.
  const secret = concatBytes([bmpBytes(password), Uint8Array.of(0, 0)]);
  let digest: Uint8Array = concatBytes([diversifier, filled(salt), filled(secret)]);
  for (let done = 0; done < PKCS12_ITERATIONS; done++) {
    if (done % TURN === TURN - 1) await new Promise((resolve) => setImmediate(resolve));
    digest = hash('sha256', digest, 'buffer');
  }
  return digest;
}
