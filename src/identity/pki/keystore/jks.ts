import { createHash } from 'node:crypto';
import type { Random } from '../../../lib/random.js';
import { concatBytes } from '../bytes.js';
import { NULL, octetString, oid, sequence } from '../der-write.js';
import { refuse } from '../errors.js';
import { bmpBytes, checkKeystore, type KeyEntry, type TrustedEntry } from './entries.js';

/** Sun's own way of protecting a key: a stream of SHA-1. It keeps nobody from anything; the format has no other. */
const KEY_PROTECTOR = oid('1.3.6.1.4.1.42.2.17.1.1');
const MAGIC = 0xfeedfeed;
const VERSION = 2;
const KEY_TAG = 1;
const TRUSTED_TAG = 2;
/** Goes into the file's digest behind the password. */
const WHITENER = Buffer.from('Mighty Aphrodite', 'latin1');

/**
 * A Java keystore of the old kind (JKS) with one key and its chain, for programs that read no PKCS#12.
 *
 * @param createdAt what the file says of its entries' age, milliseconds since the epoch
 * @throws PkiError `KeystoreInvalid`
 */
export function encodeJksKeystore(
  entry: KeyEntry,
  password: string,
  createdAt: number,
  random: Random,
): Uint8Array {
  checkKeystore(password, [entry]);
  if (entry.chain.length === 0) refuse('KeystoreInvalid', 'a key entry needs its certificate');
  const key = protectedKey(entry.pkcs8, password, random);
  return store(
    [
      concatBytes([
        uint32(KEY_TAG),
        utf(entry.alias),
        uint64(createdAt),
        uint32(key.length),
        key,
        uint32(entry.chain.length),
        ...entry.chain.map(certificateOf),
      ]),
    ],
    password,
  );
}

/**
 * The same with authorities, all trusted.
 *
 * @throws PkiError `KeystoreInvalid`
 */
export function encodeJksTruststore(
  entries: readonly TrustedEntry[],
  password: string,
  createdAt: number,
): Uint8Array {
  checkKeystore(password, entries);
  return store(
    entries.map(({ alias, certificate }) =>
      concatBytes([uint32(TRUSTED_TAG), utf(alias), uint64(createdAt), certificateOf(certificate)]),
    ),
    password,
  );
}

function store(entries: readonly Uint8Array[], password: string): Uint8Array {
  const content = concatBytes([uint32(MAGIC), uint32(VERSION), uint32(entries.length), ...entries]);
  const digest = sha1(bmpBytes(password), WHITENER, content);
  return concatBytes([content, digest]);
}

/** EncryptedPrivateKeyInfo of sun.security.provider.KeyProtector: salt, key XOR stream, digest of the key. */
function protectedKey(pkcs8: Uint8Array, password: string, random: Random): Uint8Array {
  const secret = bmpBytes(password);
  const salt = random.bytes(20);
  const hidden = Uint8Array.from(pkcs8);
  let stream = salt;
  for (let at = 0; at < hidden.length; at++) {
    if (at % 20 === 0) stream = sha1(secret, stream);
    hidden[at] = (hidden[at] ?? 0) ^ (stream[at % 20] ?? 0);
  }
  return sequence(sequence(KEY_PROTECTOR, NULL), octetString(salt, hidden, sha1(secret, pkcs8)));
}

function certificateOf(der: Uint8Array): Uint8Array {
  return concatBytes([utf('X.509'), uint32(der.length), der]);
}

function sha1(...parts: readonly Uint8Array[]): Uint8Array {
  const digest = createHash('sha1');
  for (const part of parts) digest.update(part);
  return digest.digest();
}

/** Java's writeUTF, for ASCII. */
function utf(text: string): Uint8Array {
  return concatBytes([Uint8Array.of(text.length >> 8, text.length & 0xff), Buffer.from(text, 'latin1')]);
}

function uint32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function uint64(value: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(Math.max(0, Math.floor(value))));
  return bytes;
}
