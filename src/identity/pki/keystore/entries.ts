import { refuse } from '../errors.js';

/** A private key with its certificates, as a keystore holds it. */
export interface KeyEntry {
  /** The name by which programs ask for it. Lower case: Java makes no difference, others do. */
  readonly alias: string;
  /** PKCS#8, DER, not encrypted. */
  readonly pkcs8: Uint8Array;
  /** DER, leaf first, at least one. */
  readonly chain: readonly Uint8Array[];
}

/** An authority, as a truststore holds it. */
export interface TrustedEntry {
  readonly alias: string;
  /** DER. */
  readonly certificate: Uint8Array;
}

/** The password as both formats derive keys from it: UTF-16, big-endian. */
export function bmpBytes(text: string): Uint8Array {
  return Buffer.from(text, 'utf16le').swap16();
}

/**
 * Refuses what readers would take in different ways: formats and programs differ in how they encode anything but ASCII.
 *
 * @throws PkiError `KeystoreInvalid`; never shows the password
 */
export function checkKeystore(password: string, entries: readonly { readonly alias: string }[]): void {
  if (!/^[\x20-\x7e]{1,128}$/.test(password))
    refuse('KeystoreInvalid', 'the password of a keystore must be 1 to 128 printable ASCII characters');
  const seen = new Set<string>();
  for (const { alias } of entries) {
    if (!/^[\x21-\x40\x5b-\x7e]{1,255}$/.test(alias))
      refuse('KeystoreInvalid', 'an alias must be 1 to 255 printable ASCII characters without capitals');
    if (seen.has(alias)) refuse('KeystoreInvalid', `alias "${alias}" is there twice`);
    seen.add(alias);
  }
}
