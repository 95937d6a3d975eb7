import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { decodePem } from '../identity/pki/pem.js';
import { parseBundleDocument } from '../identity/spiffe/bundle-document.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { SignetError } from '../lib/errors.js';

const MAX_FILE_BYTES = 4 * 1024 * 1024;

/** Standard input is the process's own, and so is whether it was read: a second reader would find nothing there. */
let stdinWasRead = false;

/** Reads a file that a user named; `-` is standard input. */
export function readUserFile(path: string): string {
  if (path === '-') {
    if (stdinWasRead) throw new SignetError('StdinTwice', 'standard input (-) is named twice; name a file');
    stdinWasRead = true;
  }
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

/** The YAML and JSON files that a user named: a file, standard input, or all in a folder and below it, in order. */
export function yamlFiles(path: string): readonly string[] {
  if (path === '-') return [path];
  try {
    if (!statSync(path).isDirectory()) return [path];
    return readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(ya?ml|json)$/i.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
  } catch (error) {
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
