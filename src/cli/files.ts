import { readFileSync } from 'node:fs';
import { decodePem } from '../identity/pki/pem.js';
import { parseBundleDocument } from '../identity/spiffe/bundle-document.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { SignetError } from '../lib/errors.js';

const MAX_FILE_BYTES = 4 * 1024 * 1024;

/** Reads a file that a user named; `-` is standard input. */
export function readUserFile(path: string): string {
  try {
    const text = readFileSync(path === '-' ? 0 : path, 'utf8');
    if (text.length > MAX_FILE_BYTES) {
      throw new SignetError('FileTooLarge', `${path} has more than ${MAX_FILE_BYTES} bytes`);
    }
    return text;
  } catch (error) {
    if (error instanceof SignetError) throw error;
    throw new SignetError('FileUnreadable', `cannot read ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** The certificates of a PEM file, in its order. */
export function readCertificates(path: string): Uint8Array[] {
  const certificates = decodePem(readUserFile(path), 'CERTIFICATE');
  if (certificates.length === 0) {
    throw new SignetError('NoCertificate', `${path} holds no CERTIFICATE block; give a PEM file`);
  }
  return certificates;
}

/**
 * A trust bundle from a file: a SPIFFE bundle document, or PEM certificates. Neither names its trust domain, so the
 * caller does.
 */
export function readBundle(path: string, trustDomain: string): TrustBundle {
  const text = readUserFile(path);
  if (text.trimStart().startsWith('{')) return parseBundleDocument(trustDomain, text);
  return { trustDomain, x509Authorities: decodePem(text, 'CERTIFICATE'), jwtAuthorities: [], sequence: 0 };
}
