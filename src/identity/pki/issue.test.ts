import 'reflect-metadata';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { beforeAll, describe, expect, it } from '@jest/globals';
import * as peculiar from '@peculiar/x509';
import fc from 'fast-check';
import { makeCertificate, NOON, openssl } from '../../../test/support/certificates.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import { spiffeId, SpiffeIdError } from '../spiffe/id.js';
import type { Certificate } from './certificate.js';
import { parseCertificate } from './certificate.js';
import { PkiError } from './errors.js';
import type { CaRequest, Issuer, SvidRequest } from './issue.js';
import { createIssuer, issueCa } from './issue.js';
import type { KeyPair, KeyType, Signer } from './keys.js';
import { exportSpki, generateKeyPair, signerOf } from './keys.js';
import { encodePem } from './pem.js';
import { verifyX509Svid } from './svid.js';

const HOUR = 3_600_000;
const random = seededRandom(7);
/** A serial with a clear top bit. */
const serial = (size = 16): Uint8Array =>
  random.bytes(size).map((byte, index) => (index === 0 ? (byte & 0x7f) | 1 : byte));

async function makeCa(pair: KeyPair, change: Partial<CaRequest> = {}): Promise<Uint8Array> {
  return issueCa({
    signer: signerOf(pair),
    subjectPublicKey: pair.publicKey,
    trustDomain: 'example.org',
    serial: serial(),
    notBefore: NOON - HOUR,
    notAfter: NOON + 24 * HOUR,
    ...change,
  });
}

const text = (der: Uint8Array): string =>
  openssl(['x509', '-in', 'a.pem', '-noout', '-text'], { 'a.pem': encodePem('CERTIFICATE', der) });

describe('issueSvid', () => {
  let authority: KeyPair;
  let certificate: Certificate;
  let issuer: Issuer;
  let subject: KeyPair;
  let request: SvidRequest;

  beforeAll(async () => {
    authority = await generateKeyPair('ec-p256');
    certificate = parseCertificate(await makeCa(authority));
    issuer = createIssuer({ signer: signerOf(authority), certificate, profile: 'x509-svid', verifyEvery: 1 });
    subject = await generateKeyPair('ec-p256');
    request = {
      publicKeySpki: exportSpki(subject.publicKey),
      spiffeId: spiffeId('example.org', '/ns/a/sa/b'),
      dnsNames: ['orders.a.svc', 'orders'],
      serial: serial(),
      notBefore: NOON - 10_000,
      notAfter: NOON + HOUR,
    };
  });

  it('makes a certificate that openssl reads as the profile asks', async () => {
    const shown = text(
      await issuer.issueSvid({ ...request, serial: Uint8Array.of(0x80, 1, 2, 3, 4, 5, 6, 7) }),
    );
    for (const line of [
      'Version: 3 (0x2)',
      'Serial Number:\n            80:01:02:03:04:05:06:07\n',
      'Signature Algorithm: ecdsa-with-SHA256',
      'Not Before: Jan  1 11:59:50 2026 GMT',
      'Not After : Jan  1 13:00:00 2026 GMT',
      'Subject: O = Signet, CN = orders.a.svc\n',
      'X509v3 Key Usage: critical\n                Digital Signature\n',
      'X509v3 Extended Key Usage: \n                TLS Web Server Authentication, TLS Web Client Authentication\n',
      'X509v3 Basic Constraints: critical\n                CA:FALSE\n',
      'X509v3 Subject Alternative Name: \n                URI:spiffe://example.org/ns/a/sa/b, DNS:orders.a.svc, DNS:orders\n',
    ]) {
      expect(shown).toContain(line);
    }
    expect(shown.match(/X509v3 [A-Z][^:]*:/g)).toHaveLength(6);
  });

  it.each([
    ['no DNS names', [], undefined],
    ['several', ['orders.a.svc', 'another.a.svc'], 'orders.a.svc'],
    ['a first one of 64 characters', [`${'a'.repeat(60)}.svc`], `${'a'.repeat(60)}.svc`],
    ['a first one of 65', [`${'a'.repeat(61)}.svc`, 'orders.a.svc'], undefined],
  ])('takes the common name from the DNS names: %s', async (_, dnsNames, commonName) => {
    const der = await issuer.issueSvid({ ...request, dnsNames });
    const own = commonName === undefined ? '' : `\nCN=${commonName}`;
    expect(new X509Certificate(der).subject).toBe(`O=Signet${own}`);
  });

  it('lets RSA keys encipher, and no others', async () => {
    const rsa = await generateKeyPair('rsa-2048');
    const shown = text(await issuer.issueSvid({ ...request, publicKeySpki: exportSpki(rsa.publicKey) }));
    expect(shown).toContain('Digital Signature, Key Encipherment\n');
  });

  const types: KeyType[] = ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048', 'rsa-4096'];
  it.each(types)('signs with and for a key of type %s; three other readers agree', async (type) => {
    const pair = await generateKeyPair(type);
    const caDer = await makeCa(pair);
    const made = createIssuer({
      signer: signerOf(pair),
      certificate: parseCertificate(caDer),
      profile: 'x509-svid',
    });
    const der = await made.issueSvid({ ...request, publicKeySpki: exportSpki(pair.publicKey) });

    const byNode = new X509Certificate(der);
    expect(byNode.subjectAltName).toBe('URI:spiffe://example.org/ns/a/sa/b, DNS:orders.a.svc, DNS:orders');
    expect(byNode.verify(pair.publicKey)).toBe(true);
    expect(byNode.checkIssued(new X509Certificate(caDer))).toBe(true);
    expect(byNode.ca).toBe(false);

    const byPeculiar = new peculiar.X509Certificate(der);
    expect(byPeculiar.getExtension(peculiar.BasicConstraintsExtension)?.ca).toBe(false);
    expect(byPeculiar.getExtension(peculiar.KeyUsagesExtension)?.critical).toBe(true);
    expect(byPeculiar.notAfter.getTime()).toBe(NOON + HOUR);
    const keyId = byPeculiar.getExtension(peculiar.AuthorityKeyIdentifierExtension)?.keyId;
    expect(keyId).toBe(
      new peculiar.X509Certificate(caDer).getExtension(peculiar.SubjectKeyIdentifierExtension)?.keyId,
    );

    const pem = (bytes: Uint8Array) => encodePem('CERTIFICATE', bytes);
    const files = { 'ca.pem': pem(caDer), 'a.pem': pem(der) };
    const args = [
      'verify',
      '-x509_strict',
      '-attime',
      String(NOON / 1000),
      '-purpose',
      'sslserver',
      '-CAfile',
      'ca.pem',
      'a.pem',
    ];
    expect(openssl(args, files)).toContain('OK');

    const bundle = { trustDomain: 'example.org', x509Authorities: [caDer], jwtAuthorities: [], sequence: 1 };
    const { id, leaf } = verifyX509Svid({ chain: [der], bundles: () => bundle, now: NOON });
    expect(id.uri).toBe('spiffe://example.org/ns/a/sa/b');
    expect(leaf.authorityKeyId).toBe(parseCertificate(caDer).subjectKeyId);
  });

  it('writes what was asked for, whatever it is', async () => {
    const label = fc
      .stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z])?$/)
      .filter((name) => !/^[0-9]+$/.test(name));
    const names = fc.array(
      fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.')),
      { maxLength: 12 },
    );
    const path = fc.array(fc.stringMatching(/^[a-zA-Z0-9_-]{1,40}$/), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(
        names,
        path,
        fc.uint8Array({ minLength: 8, maxLength: 19 }),
        fc.nat(3600),
        async (dnsNames, parts, number, seconds) => {
          fc.pre(number.some((byte) => byte !== 0));
          const id = spiffeId('example.org', `/${parts.join('/')}`);
          const notAfter = NOON + 1000 + seconds * 1000;
          const der = await issuer.issueSvid({
            ...request,
            spiffeId: id,
            dnsNames,
            serial: number,
            notAfter,
          });
          const read = parseCertificate(der);
          expect([read.uris, read.dnsNames, read.notAfter]).toEqual([[id.uri], dnsNames, notAfter]);
          const [first = ''] = dnsNames;
          const commonName = first === '' || first.length > 64 ? '' : `CN=${first},`;
          expect(read.subjectText).toBe(`${commonName}O=Signet`);
          expect(read.serial).toBe(
            Buffer.from(number)
              .toString('hex')
              .replace(/^(00)+/, ''),
          );
          expect(new X509Certificate(der).verify(authority.publicKey)).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('writes GeneralizedTime from 2050', async () => {
    const end = Date.UTC(2051, 5, 1);
    const late = createIssuer({
      signer: signerOf(authority),
      certificate: parseCertificate(await makeCa(authority, { notAfter: end })),
      profile: 'x509-svid',
    });
    const der = await late.issueSvid({ ...request, notAfter: end });
    expect(new X509Certificate(der).validTo).toBe('Jun  1 00:00:00 2051 GMT');
    expect(parseCertificate(der).notAfter).toBe(end);
  });

  it.each<[string, Partial<SvidRequest>, string]>([
    ['a DNS name that reads like a SPIFFE ID', { dnsNames: ['spiffe://example.org/admin'] }, 'NameInvalid'],
    ['a DNS name with upper case', { dnsNames: ['Orders'] }, 'NameInvalid'],
    ['a wildcard', { dnsNames: ['*.example.org'] }, 'NameInvalid'],
    ['an IP address as a DNS name', { dnsNames: ['10.0.0.1'] }, 'NameInvalid'],
    ['an empty DNS name', { dnsNames: [''] }, 'NameInvalid'],
    ['a DNS name with NUL', { dnsNames: ['a\0.example.org'] }, 'NameInvalid'],
    ['101 DNS names', { dnsNames: Array.from({ length: 101 }, (_, index) => `a${index}`) }, 'NameInvalid'],
    ['the ID of a trust domain', { spiffeId: spiffeId('example.org', '') }, 'NameInvalid'],
    ['an ID of another trust domain', { spiffeId: spiffeId('example.com', '/a') }, 'IssueRefused'],
    ['a short serial', { serial: Uint8Array.of(1, 2, 3, 4, 5, 6, 7) }, 'IssueRefused'],
    ['a long serial', { serial: new Uint8Array(21).fill(1) }, 'IssueRefused'],
    ['a serial that needs a 21st byte', { serial: new Uint8Array(20).fill(0x80) }, 'IssueRefused'],
    ['a serial of zeros', { serial: new Uint8Array(16) }, 'IssueRefused'],
    ['an empty validity', { notBefore: NOON, notAfter: NOON + 999 }, 'IssueRefused'],
    ['a validity that is turned round', { notBefore: NOON + HOUR, notAfter: NOON }, 'IssueRefused'],
    ['times that are no numbers', { notAfter: NaN }, 'IssueRefused'],
    ['a life longer than its authority', { notAfter: NOON + 24 * HOUR + 1000 }, 'IssueRefused'],
    ['bytes that are no key', { publicKeySpki: Uint8Array.of(0x30, 0) }, 'DerInvalid'],
  ])('refuses %s', (_, change, code) => {
    const act = () => issuer.issueSvid({ ...request, ...change });
    expect(act).toThrow(PkiError);
    expect(act).toThrow(expect.objectContaining({ code }));
  });

  it('parses the ID again, whoever made it', () => {
    const forged = { trustDomain: 'example.org', path: '/a', uri: 'spiffe://example.org/a/../b' };
    expect(() => issuer.issueSvid({ ...request, spiffeId: forged })).toThrow(SpiffeIdError);
    const spelled = { trustDomain: 'example.org', path: '/a', uri: 'SPIFFE://example.org/a' };
    expect(() => issuer.issueSvid({ ...request, spiffeId: spelled })).toThrow('not in canonical form');
  });

  it('waits for a signer that is elsewhere, and does not mix its certificates up', async () => {
    const local = signerOf(authority);
    const waiting: (() => void)[] = [];
    const remote: Signer = {
      ...local,
      sign: (data) =>
        new Promise((resolve) => {
          waiting.push(() => resolve(local.sign(data)));
        }),
    };
    const far = createIssuer({ signer: remote, certificate, profile: 'x509-svid' });
    const first = far.issueSvid({ ...request, spiffeId: spiffeId('example.org', '/first') });
    const second = far.issueSvid({ ...request, spiffeId: spiffeId('example.org', '/second') });
    for (const answer of waiting.reverse()) answer();
    const made = (await Promise.all([first, second])).map((der) => new X509Certificate(der));
    expect(made.map((svid) => svid.subjectAltName?.split(',')[0])).toEqual([
      'URI:spiffe://example.org/first',
      'URI:spiffe://example.org/second',
    ]);
    expect(made.every((svid) => svid.verify(authority.publicKey))).toBe(true);
  });

  describe('with a signer that is broken', () => {
    const broken = (sign: Signer['sign'], verifyEvery?: number): Issuer =>
      createIssuer({
        signer: { ...signerOf(authority), sign },
        certificate,
        profile: 'x509-svid',
        ...(verifyEvery === undefined ? {} : { verifyEvery }),
      });
    const wrong = (data: Uint8Array): Uint8Array => signerOf(subject).sign(data) as Uint8Array;
    const right = (data: Uint8Array): Uint8Array => signerOf(authority).sign(data) as Uint8Array;

    it('hands nothing out that another key signed', () => {
      expect(() => broken(wrong).issueSvid(request)).toThrow(
        expect.objectContaining({ code: 'IssuedInvalid' }),
      );
    });

    it('hands nothing out that a remote key signed wrongly, ever', async () => {
      let count = 0;
      const far = broken((data) => Promise.resolve(++count === 1 ? right(data) : wrong(data)));
      await far.issueSvid(request);
      await expect(Promise.resolve(far.issueSvid(request))).rejects.toMatchObject({ code: 'IssuedInvalid' });
    });

    it('looks at each signature once one was wrong', () => {
      let count = 0;
      // Looks at the 1st, the 4th, …; the 4th is the first that is wrong.
      const sometimes = broken((data) => (++count === 4 || count === 6 ? wrong(data) : right(data)), 3);
      const outcomes = Array.from({ length: 7 }, () => {
        try {
          return sometimes.issueSvid(request) instanceof Uint8Array;
        } catch {
          return false;
        }
      });
      expect(outcomes).toEqual([true, true, true, false, true, false, true]);
    });

    it('hands nothing out with a signature that is empty or too long', () => {
      expect(() => broken(() => new Uint8Array()).issueSvid(request)).toThrow();
      expect(() => broken(() => new Uint8Array(600)).issueSvid(request)).toThrow();
    });
  });
});

describe('createIssuer', () => {
  it('refuses a certificate that is not for its key', async () => {
    const [one, other] = [await generateKeyPair('ec-p256'), await generateKeyPair('ec-p256')];
    const certificate = parseCertificate(await makeCa(one));
    const act = () => createIssuer({ signer: signerOf(other), certificate, profile: 'x509-svid' });
    expect(act).toThrow("not for the signer's key");
  });

  it('refuses a certificate that may not sign', async () => {
    const pair = await generateKeyPair('ec-p256');
    const leaf = parseCertificate(makeCertificate({ subject: 'leaf', pair }).der);
    expect(() => createIssuer({ signer: signerOf(pair), certificate: leaf, profile: 'x509-svid' })).toThrow(
      'must be a CA',
    );
  });
});

describe('issueCa', () => {
  let pair: KeyPair;
  beforeAll(async () => {
    pair = await generateKeyPair('ec-p256');
  });

  it('makes a root that openssl reads as the profile asks', async () => {
    const shown = text(await makeCa(pair, { serial: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), pathLength: 1 }));
    for (const line of [
      'X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n',
      'X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:1\n',
      'X509v3 Subject Alternative Name: \n                URI:spiffe://example.org\n',
      'Subject: O = Signet, serialNumber = 0102030405060708\n',
    ]) {
      expect(shown).toContain(line);
    }
  });

  it('makes an intermediate below a root', async () => {
    const rootDer = await makeCa(pair);
    const below = await generateKeyPair('ec-p384');
    const der = await makeCa(pair, {
      issuerCertificate: parseCertificate(rootDer),
      subjectPublicKey: below.publicKey,
      pathLength: 0,
      commonName: 'Intermediate',
    });
    const made = parseCertificate(der);
    expect(made.subjectText).toMatch(/^CN=Intermediate,SERIALNUMBER=[0-9a-f]{32},O=Signet$/);
    expect(made.authorityKeyId).toBe(parseCertificate(rootDer).subjectKeyId);
    expect(new X509Certificate(der).checkIssued(new X509Certificate(rootDer))).toBe(true);
    expect(made.isSignedBy(pair.publicKey)).toBe(true);
  });

  it.each<[string, (root: Certificate, other: KeyPair) => Partial<CaRequest>, string]>([
    [
      'a self-signed CA by another key',
      (_, other) => ({ subjectPublicKey: other.publicKey }),
      'signed by its own key',
    ],
    [
      'an issuer that is not the signer',
      (root, other) => ({ issuerCertificate: root, signer: signerOf(other) }),
      "not for the signer's key",
    ],
    [
      'a life longer than the issuer',
      (root) => ({ issuerCertificate: root, notAfter: NOON + 48 * HOUR }),
      'outlive',
    ],
    [
      'a CA below path length 0',
      (root) => ({ issuerCertificate: { ...root, pathLength: 0 } }),
      'no further CAs',
    ],
    ['an empty validity', () => ({ notAfter: NOON - HOUR }), 'validity'],
    ['a short serial', () => ({ serial: Uint8Array.of(1) }), 'serial number'],
    ['a trust domain in upper case', () => ({ trustDomain: 'Example.org' }), 'write "example.org"'],
    ['a common name with a control character', () => ({ commonName: 'a\nb' }), 'printable ASCII'],
  ])('refuses %s', async (_, change, reason) => {
    const root = parseCertificate(await makeCa(pair));
    const other = await generateKeyPair('ec-p256');
    await expect(makeCa(pair, change(root, other))).rejects.toThrow(reason);
  });

  it('hands nothing out that another key signed', async () => {
    const other = await generateKeyPair('ec-p256');
    const signer = { ...signerOf(pair), sign: signerOf(other).sign };
    await expect(makeCa(pair, { signer })).rejects.toMatchObject({ code: 'IssuedInvalid' });
  });

  it('makes certificates whose keys openssl made, too', async () => {
    const pem = openssl(['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256']);
    const privateKey = createPrivateKey(pem);
    const foreign: KeyPair = { type: 'ec-p256', privateKey, publicKey: createPublicKey(privateKey) };
    expect(new X509Certificate(await makeCa(foreign)).ca).toBe(true);
  });
});
