import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { contextTag, TAG } from '../../src/identity/pki/der.js';
import {
  bitString,
  encode,
  octetString,
  sequence,
  smallInteger,
  time,
  unsignedInteger,
} from '../../src/identity/pki/der-write.js';
import type { KEY_USAGES } from '../../src/identity/pki/extensions.js';
import { dnsName, uriName } from '../../src/identity/pki/general-names.js';
import type { KeyPair } from '../../src/identity/pki/keys.js';
import { exportSpki, signerOf } from '../../src/identity/pki/keys.js';
import { encodeName } from '../../src/identity/pki/names.js';
import { OID } from '../../src/identity/pki/oids.js';
import {
  authorityKeyIdentifier,
  caConstraints,
  extension,
  keyIdOfSpki,
  keyUsageExtension,
  LEAF_CONSTRAINTS,
  subjectKeyIdentifier,
} from '../../src/identity/pki/profile.js';
import { signatureAlgorithm } from '../../src/identity/pki/signature.js';

const HOUR = 3_600_000;
/** The middle of the validity that certificates have unless said otherwise. */
export const NOON = Date.UTC(2026, 0, 1, 12);

/** A certificate that may be wrong in any way: what the issuer of the product would refuse to make. */
export interface CertificateSpec {
  readonly subject: string;
  readonly pair: KeyPair;
  /** Self-signed without. */
  readonly issuer?: TestCertificate;
  readonly ca?: boolean;
  readonly pathLength?: number;
  readonly keyUsage?: readonly (typeof KEY_USAGES)[number][];
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly notBefore?: number;
  readonly notAfter?: number;
  /** Extensions, DER, after the usual ones. */
  readonly extra?: readonly Uint8Array[];
  /** Signs instead of the issuer. */
  readonly signedBy?: KeyPair;
  readonly serial?: number;
}

export interface TestCertificate {
  readonly der: Uint8Array;
  readonly pair: KeyPair;
  readonly name: Uint8Array;
}

/** Makes a certificate by the spec; signs synchronously. */
export function makeCertificate(spec: CertificateSpec): TestCertificate {
  const { pair, issuer, serial = 1, notBefore = NOON - HOUR, notAfter = NOON + HOUR } = spec;
  const name = encodeName([{ type: 'commonName', value: spec.subject }]);
  const signing = spec.signedBy ?? issuer?.pair ?? pair;
  const algorithm = signatureAlgorithm(signing.type);
  const tbs = sequence(
    encode(contextTag(0, true), smallInteger(2)),
    unsignedInteger(Uint8Array.of(1, serial)),
    algorithm,
    issuer?.name ?? name,
    sequence(time(notBefore), time(notAfter)),
    name,
    exportSpki(pair.publicKey),
    encode(contextTag(3, true), sequence(...extensionsOf(spec))),
  );
  const signature = signerOf(signing).sign(tbs);
  if (signature instanceof Promise) throw new Error('a test key signs at once');
  return { der: sequence(tbs, algorithm, bitString(signature)), pair, name };
}

function extensionsOf(spec: CertificateSpec): Uint8Array[] {
  const { issuer, ca = false, uris = [], dnsNames = [], extra = [] } = spec;
  const names = [...uris.map(uriName), ...dnsNames.map(dnsName)];
  const keyId = (pair: KeyPair): Uint8Array => keyIdOfSpki(exportSpki(pair.publicKey));
  return [
    ca ? caConstraints(spec.pathLength) : LEAF_CONSTRAINTS,
    keyUsageExtension(spec.keyUsage ?? (ca ? ['keyCertSign', 'cRLSign'] : ['digitalSignature'])),
    subjectKeyIdentifier(keyId(spec.pair)),
    ...(issuer === undefined ? [] : [authorityKeyIdentifier(keyId(issuer.pair))]),
    ...(names.length === 0 ? [] : [extension(OID.subjectAltName, false, sequence(...names))]),
    ...extra,
  ];
}

/** nameConstraints (RFC 5280 §4.2.1.10), critical, from GeneralNames in DER. */
export function nameConstraintsExtension(constraints: {
  readonly permitted?: readonly Uint8Array[];
  readonly excluded?: readonly Uint8Array[];
}): Uint8Array {
  const list = (number: number, names: readonly Uint8Array[] = []): Uint8Array[] =>
    names.length === 0 ? [] : [encode(contextTag(number, true), ...names.map((name) => sequence(name)))];
  const value = sequence(...list(0, constraints.permitted), ...list(1, constraints.excluded));
  return extension(OID.nameConstraints, true, value);
}

/** An IP constraint or address as GeneralName. */
export function ipName(bytes: readonly number[]): Uint8Array {
  return encode(contextTag(7, false), Uint8Array.from(bytes));
}

/** A critical extension that nobody knows. */
export function unknownExtension(): Uint8Array {
  return extension('1.3.6.1.4.1.99999.1', true, octetString(Uint8Array.of(TAG.nul, 0)));
}

/** Runs the openssl command on files made from `files`; gives its output. Throws when it fails. */
export function openssl(
  arguments_: readonly string[],
  files: Readonly<Record<string, Uint8Array | string>> = {},
): string {
  const directory = mkdtempSync(join(tmpdir(), 'signet-openssl-'));
  try {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content);
    return execFileSync('openssl', arguments_, {
      cwd: directory,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
