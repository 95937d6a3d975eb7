import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import * as peculiar from '@peculiar/x509';
import fc from 'fast-check';
import {
  makeCertificate,
  nameConstraintsExtension,
  openssl,
  unknownExtension,
} from '../../../test/support/certificates.js';
import { parseCertificate, splitCertificates } from './certificate.js';
import { encode, octetString, oid, sequence, TRUE } from './der-write.js';
import { PkiError } from './errors.js';
import { uriName } from './general-names.js';
import { generateKeyPair } from './keys.js';
import { OID } from './oids.js';
import { decodePem } from './pem.js';
import { extension } from './profile.js';

/** A self-signed certificate by the openssl command. */
function opensslCertificate(
  more: readonly string[],
  keyOptions = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
): Uint8Array {
  const args = ['req', '-x509', '-nodes', '-keyout', '/dev/null', '-days', '3', ...keyOptions, ...more];
  const [der] = decodePem(openssl(args), 'CERTIFICATE');
  if (der === undefined) throw new Error('openssl made no certificate');
  return der;
}

const pair = await generateKeyPair('ec-p256');

describe('parseCertificate', () => {
  const all = [
    ['-subj', '/C=DE/ST=Berlin/O=Some Company, Ltd./OU=Unit/CN=name\\+x'],
    ['-set_serial', '0x00a1b2c3d4e5f60718'],
    ['-addext', 'basicConstraints=critical,CA:TRUE,pathlen:2'],
    ['-addext', 'keyUsage=critical,digitalSignature,keyCertSign,cRLSign,decipherOnly,keyAgreement'],
    ['-addext', 'extendedKeyUsage=clientAuth,serverAuth,codeSigning'],
    [
      '-addext',
      'subjectAltName=URI:spiffe://example.org,DNS:a.example.org,DNS:*.b.org,IP:10.1.2.3,IP:::1,email:a@b.org,RID:1.2.3',
    ],
    [
      '-addext',
      'nameConstraints=critical,permitted;URI:example.org,excluded;DNS:bad.org,permitted;IP:10.0.0.0/255.0.0.0',
    ],
    ['-addext', 'certificatePolicies=critical,1.2.3.4'],
  ].flat();

  it('reads everything that openssl wrote', () => {
    const der = opensslCertificate(all);
    const read = parseCertificate(der);
    const node = new X509Certificate(der);
    expect(read.serial.toUpperCase()).toBe(node.serialNumber);
    expect(read.notBefore).toBe(Date.parse(node.validFrom));
    expect(read.notAfter).toBe(Date.parse(node.validTo));
    expect(read.publicKey.equals(node.publicKey)).toBe(true);
    expect(read.subjectText).toBe('CN=name\\2bx,OU=Unit,O=Some Company\\2c Ltd.,ST=Berlin,C=DE');
    expect(Buffer.from(read.subject)).toEqual(Buffer.from(read.issuer));
    expect([read.isCa, read.pathLength]).toEqual([true, 2]);
    expect([...(read.keyUsage ?? [])]).toEqual([
      'digitalSignature',
      'keyAgreement',
      'keyCertSign',
      'cRLSign',
      'decipherOnly',
    ]);
    expect(read.keyUsageCritical).toBe(true);
    expect(read.extendedKeyUsage).toEqual([OID.clientAuth, OID.serverAuth, '1.3.6.1.5.5.7.3.3']);
    expect(read.uris).toEqual(['spiffe://example.org']);
    expect(read.dnsNames).toEqual(['a.example.org', '*.b.org']);
    expect(read.emails).toEqual(['a@b.org']);
    expect(read.ipAddresses.map((bytes) => [...bytes])).toEqual([
      [10, 1, 2, 3],
      [...new Uint8Array(15), 1],
    ]);
    expect(read.alternativeNames.other).toBe(1);
    expect(read.nameConstraints?.permitted).toMatchObject([
      { kind: 'uri', text: 'example.org' },
      { kind: 'ip' },
    ]);
    expect(read.nameConstraints?.excluded).toEqual([{ kind: 'dns', text: 'bad.org' }]);
    expect(read.subjectKeyId).toMatch(/^[0-9a-f]{40}$/);
    expect(read.unknownCritical).toEqual([]);
    expect(read.isSignedBy(node.publicKey)).toBe(true);
    expect(read.isSignedBy(pair.publicKey)).toBe(false);
  });

  it.each([
    ['RSA', ['-newkey', 'rsa:2048']],
    ['RSA with SHA-512', ['-newkey', 'rsa:2048', '-sha512']],
    ['EC P-384', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384', '-sha384']],
    ['EC P-521', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-521', '-sha512']],
    ['Ed25519', ['-newkey', 'ed25519']],
  ])('verifies signatures of %s', (_, keyOptions) => {
    const read = parseCertificate(opensslCertificate(['-subj', '/CN=a'], keyOptions));
    expect(read.isSignedBy(read.publicKey)).toBe(true);
  });

  it('does not accept SHA-1', () => {
    const read = parseCertificate(opensslCertificate(['-subj', '/CN=a', '-sha1']));
    expect(() => read.isSignedBy(read.publicKey)).toThrow('is not accepted');
  });

  it('reads what @peculiar/x509 wrote', async () => {
    const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
    const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
    const made = await peculiar.X509CertificateGenerator.createSelfSigned({
      serialNumber: '0102',
      name: 'CN=peculiar, O=Test',
      notBefore: new Date('2026-01-01T00:00:00Z'),
      notAfter: new Date('2060-01-01T00:00:00Z'),
      keys,
      signingAlgorithm: algorithm,
      extensions: [
        new peculiar.BasicConstraintsExtension(true, undefined, true),
        new peculiar.SubjectAlternativeNameExtension([{ type: 'url', value: 'spiffe://example.org' }]),
      ],
    });
    const read = parseCertificate(new Uint8Array(made.rawData));
    expect([read.serial, read.subjectText, read.uris, read.isCa]).toEqual([
      '0102',
      'O=Test,CN=peculiar',
      ['spiffe://example.org'],
      true,
    ]);
    expect(read.notAfter).toBe(Date.UTC(2060, 0, 1));
    expect(read.isSignedBy(read.publicKey)).toBe(true);
  });

  it('names critical extensions that it does not understand', () => {
    const { der } = makeCertificate({ subject: 'a', pair, extra: [unknownExtension()] });
    expect(parseCertificate(der).unknownCritical).toEqual(['1.3.6.1.4.1.99999.1']);
  });

  it.each<[string, Uint8Array[]]>([
    ['an extension twice', [unknownExtension(), unknownExtension()]],
    ['an empty list of alternative names', [extension(OID.subjectAltName, false, sequence())]],
    ['a URI with NUL', [extension(OID.subjectAltName, false, sequence(uriName('spiffe://a/\0')))]],
    [
      'a URI beyond ASCII',
      [extension(OID.subjectAltName, false, sequence(encode(0x86, Buffer.from('spiffe://ä'))))],
    ],
    [
      'an IP address of five bytes',
      [extension(OID.subjectAltName, false, sequence(encode(0x87, new Uint8Array(5))))],
    ],
    ['an extended key usage that is empty', [extension(OID.extendedKeyUsage, false, sequence())]],
    ['name constraints that are empty', [nameConstraintsExtension({})]],
    [
      'an extension with bytes after its value',
      [extension(OID.extendedKeyUsage, false, Buffer.concat([sequence(oid('1.2.3')), TRUE]))],
    ],
    ['an extension that is malformed', [sequence(oid('1.2.3'), TRUE, TRUE, octetString())]],
  ])('refuses %s', (_, extra) => {
    const { der } = makeCertificate({ subject: 'a', pair, extra });
    expect(() => parseCertificate(der)).toThrow(expect.objectContaining({ code: 'CertificateInvalid' }));
  });

  it('refuses what is too large, cut off or followed by more', () => {
    const { der } = makeCertificate({ subject: 'a', pair });
    expect(() => parseCertificate(new Uint8Array(64 * 1024 + 1))).toThrow('are allowed');
    expect(() => parseCertificate(der.subarray(0, -1))).toThrow(PkiError);
    expect(() => parseCertificate(Buffer.concat([der, Uint8Array.of(0)]))).toThrow(PkiError);
  });

  it('never fails but by a PkiError, whatever bytes are changed', () => {
    const der = opensslCertificate(all);
    let parsed = 0;
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(der.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 }),
        fc.option(fc.nat(der.length)),
        (changes, cut) => {
          const changed = Uint8Array.from(der);
          for (const [index, byte] of changes) changed[index] = byte;
          try {
            const read = parseCertificate(cut === null ? changed : changed.subarray(0, cut));
            parsed++;
            expect(read.subjectText).not.toMatch(/\p{C}/u);
            read.isSignedBy(read.publicKey);
          } catch (error) {
            expect(error).toBeInstanceOf(PkiError);
          }
        },
      ),
      { numRuns: 3000 },
    );
    // Many changes hit names and keys and still parse; if none did, the test would not reach the inside.
    expect(parsed).toBeGreaterThan(50);
  });
});

describe('splitCertificates', () => {
  it('gives the certificates of a concatenation', () => {
    const list = ['a', 'b', 'c'].map((subject) => makeCertificate({ subject, pair }).der);
    const found = splitCertificates(Buffer.concat(list));
    expect(found.map((der) => parseCertificate(der).subjectText)).toEqual(['CN=a', 'CN=b', 'CN=c']);
  });

  it('refuses a tail that is no element, and too many', () => {
    const { der } = makeCertificate({ subject: 'a', pair });
    expect(() => splitCertificates(Buffer.concat([der, Uint8Array.of(0x30)]))).toThrow(PkiError);
    expect(() => splitCertificates(Buffer.concat(Array.from({ length: 257 }, () => sequence())))).toThrow(
      'more than 256',
    );
  });
});
