import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { encodePem } from '../../src/identity/pki/pem.js';
import type { Credentials } from './credentials.js';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const HOUR = 3_600_000;

/** Who a certificate of a cluster is for. Kubernetes reads a user out of the common name, groups out of organizations. */
export interface Subject {
  readonly name: string;
  readonly groups?: readonly string[];
  /** Addresses and DNS names: a server's certificate. A client's without. */
  readonly addresses?: readonly string[];
  readonly dnsNames?: readonly string[];
}

/** A certificate authority of a cluster, for a day: EC P-256. */
export interface ClusterAuthority extends Credentials {
  issue(subject: Subject): Promise<Credentials>;
}

/** Makes an authority by a library that has nothing in common with the code under test. */
export async function newClusterAuthority(name: string): Promise<ClusterAuthority> {
  const keys = await newKeys();
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity(),
    name: nameOf({ name }),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return {
    cert: root.toString('pem'),
    key: await keyOf(keys),
    async issue(subject): Promise<Credentials> {
      const own = await newKeys();
      const { addresses = [], dnsNames = [] } = subject;
      const names = [
        ...addresses.map((value) => ({ type: 'ip', value }) as const),
        ...dnsNames.map((value) => ({ type: 'dns', value }) as const),
      ];
      const usage = names.length > 0 ? 'serverAuth' : 'clientAuth';
      const leaf = await x509.X509CertificateGenerator.create({
        ...validity(),
        subject: nameOf(subject),
        issuer: root.subject,
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: ALGORITHM,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage[usage]]),
          await x509.AuthorityKeyIdentifierExtension.create(keys.publicKey),
          ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
        ],
      });
      return { cert: leaf.toString('pem'), key: await keyOf(own) };
    },
  };
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

async function keyOf({ privateKey }: webcrypto.CryptoKeyPair): Promise<string> {
  const der = await webcrypto.subtle.exportKey('pkcs8', privateKey);
  return encodePem('PRIVATE KEY', new Uint8Array(der));
}

function validity(): { readonly notBefore: Date; readonly notAfter: Date } {
  return { notBefore: new Date(Date.now() - HOUR), notAfter: new Date(Date.now() + 24 * HOUR) };
}

function nameOf({ name, groups = [] }: Subject): x509.JsonName {
  return [...groups.map((group) => ({ O: [group] })), { CN: [name] }];
}
