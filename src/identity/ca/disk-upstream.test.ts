import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { systemRandom } from '../../lib/random.js';
import { memoryKeyStore } from '../keys/key-store.js';
import { parseCertificate } from '../pki/certificate.js';
import { issueCa } from '../pki/issue.js';
import type { KeyPair, KeyType } from '../pki/keys.js';
import { exportPkcs8, exportSpki, generateKeyPair, signerOf } from '../pki/keys.js';
import { decodePem, encodePem } from '../pki/pem.js';
import { verifyX509Svid } from '../pki/svid.js';
import { parseSpiffeId } from '../spiffe/id.js';
import type { CertificateAuthority } from './certificate-authority.js';
import { openCertificateAuthority } from './certificate-authority.js';
import type { DiskUpstreamOptions } from './disk-upstream.js';
import { diskUpstream } from './disk-upstream.js';
import { memoryJournal } from './journal.js';

const DAY = 86_400_000;
const web = parseSpiffeId('spiffe://example.org/ns/shop/sa/web');
const spki = exportSpki((await generateKeyPair('ec-p256')).publicKey);

let clock = new FakeClock();
let log = recordingLogger();
let directory = '';
beforeEach(async () => {
  clock = new FakeClock();
  log = recordingLogger();
  directory = await mkdtemp(join(tmpdir(), 'signet-upstream-'));
});
afterEach(() => rm(directory, { recursive: true }));

const file = (name: string): string => join(directory, name);
const files = (rootsFile?: string): DiskUpstreamOptions => ({
  certificateFile: file('ca.pem'),
  keyFile: file('ca.key'),
  ...(rootsFile === undefined ? {} : { rootsFile: file(rootsFile) }),
});
const pem = (...ders: Uint8Array[]): string => ders.map((der) => encodePem('CERTIFICATE', der)).join('');
const keyPem = (pair: KeyPair): string => encodePem('PRIVATE KEY', exportPkcs8(pair.privateKey));

interface Made {
  readonly pair: KeyPair;
  readonly der: Uint8Array;
}
async function makeCa(
  options: {
    issuer?: Made;
    type?: KeyType;
    days?: number;
    fromDays?: number;
    pathLength?: number;
    trustDomain?: string;
  } = {},
): Promise<Made> {
  const pair = await generateKeyPair(options.type ?? 'ec-p256');
  const der = await issueCa({
    signer: signerOf(options.issuer?.pair ?? pair),
    ...(options.issuer === undefined ? {} : { issuerCertificate: parseCertificate(options.issuer.der) }),
    subjectPublicKey: pair.publicKey,
    trustDomain: options.trustDomain ?? 'example.org',
    serial: systemRandom.bytes(16),
    notBefore: clock.now() + (options.fromDays ?? -1) * DAY,
    notAfter: clock.now() + (options.days ?? 365) * DAY,
    ...(options.pathLength === undefined ? {} : { pathLength: options.pathLength }),
  });
  return { pair, der };
}
async function place(upstream: Made, ...chain: Made[]): Promise<void> {
  await writeFile(file('ca.pem'), pem(upstream.der, ...chain.map(({ der }) => der)));
  await writeFile(file('ca.key'), keyPem(upstream.pair));
}
const open = (options: DiskUpstreamOptions, ttl = 86_400): Promise<CertificateAuthority> =>
  openCertificateAuthority({
    trustDomain: 'example.org',
    keys: memoryKeyStore(),
    journal: memoryJournal(),
    clock,
    random: systemRandom,
    logger: log,
    config: { upstream: diskUpstream(options), authorityTtlSeconds: ttl },
  });
const sign = (ca: CertificateAuthority): ReturnType<CertificateAuthority['signX509']> =>
  ca.signX509({ spki, spiffeId: web, dnsNames: [], ttlSeconds: 3600 });
const verify = (chain: readonly Uint8Array[], roots: readonly Uint8Array[]): string =>
  verifyX509Svid({
    chain,
    bundles: () => ({ trustDomain: 'example.org', x509Authorities: roots, jwtAuthorities: [], sequence: 1 }),
    now: clock.now(),
  }).id.uri;

const nextValue = (watched: CertificateAuthority['problem']): Promise<unknown> =>
  new Promise((resolve) => {
    watched.watch(resolve);
  });

describe('an authority under a root on disk', () => {
  it.each(['ec-p256', 'ec-p384', 'rsa-2048'] as const)(
    'of key type %s: signs as its intermediate',
    async (type) => {
      const root = await makeCa({ type });
      await place(root);
      const ca = await open(files());
      expect(ca.bundle.value.x509Authorities.map((der) => Buffer.from(der))).toEqual([Buffer.from(root.der)]);
      const { chain, authorityId } = await sign(ca);
      expect(chain).toHaveLength(2);
      expect(parseCertificate(chain[1] ?? spki).subjectKeyId).toBe(authorityId);
      expect(verify(chain, [root.der])).toBe(web.uri);
      expect(() => verify(chain.slice(0, 1), [root.der])).toThrow();
    },
  );

  it('is verified by openssl as well', async () => {
    clock = new FakeClock(Date.now());
    const root = await makeCa();
    const middle = await makeCa({ issuer: root });
    await place(middle);
    await writeFile(file('roots.pem'), pem(root.der));
    const ca = await open(files('roots.pem'));
    const [leaf = spki, ...rest] = (await sign(ca)).chain;
    await writeFile(file('leaf.pem'), pem(leaf));
    await writeFile(file('rest.pem'), pem(...rest));
    const told = execFileSync('openssl', [
      ...['verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', file('roots.pem')],
      ...['-untrusted', file('rest.pem'), file('leaf.pem')],
    ]);
    expect(told.toString()).toMatch(/leaf\.pem: OK/);
  });

  it('with an intermediate between: the chain holds it, the bundle holds the root', async () => {
    const root = await makeCa();
    const middle = await makeCa({ issuer: root });
    await place(middle);
    await writeFile(file('roots.pem'), pem(root.der));
    const ca = await open(files('roots.pem'));
    const { chain } = await sign(ca);
    expect(chain).toHaveLength(3);
    expect(verify(chain, ca.bundle.value.x509Authorities)).toBe(web.uri);

    // The root may also stand at the end of the certificate file.
    await place(middle, root);
    const same = await open(files());
    expect((await sign(same)).chain).toHaveLength(3);
    expect(same.bundle.value.x509Authorities).toHaveLength(1);
  });

  it('lives no longer than anything above it', async () => {
    const root = await makeCa({ days: 0.25 });
    const middle = await makeCa({ issuer: root, days: 0.25 });
    await place(middle);
    await writeFile(file('roots.pem'), pem(root.der));
    const ca = await open(files('roots.pem'));
    const [authority] = ca.authorities().filter(({ kind }) => kind === 'x509');
    expect(authority?.notAfter).toBe(clock.now() + DAY / 4);
    expect((await sign(ca)).notAfter).toBeLessThanOrEqual(clock.now() + DAY / 4);
  });

  it('rotates under the same root without a new bundle, and takes up a new root from the files', async () => {
    const root = await makeCa();
    await place(root);
    const ca = await open(files());
    const sequence = ca.bundle.value.sequence;
    const first = await sign(ca);
    await ca.rotate('x509');
    expect(ca.bundle.value.sequence).toBe(sequence);
    await ca.taint('x509', first.authorityId);
    await expect(ca.revoke('x509', first.authorityId)).rejects.toMatchObject({ code: 'AuthorityRootShared' });

    const other = await makeCa();
    await place(other);
    await ca.rotate('x509');
    expect(ca.bundle.value.x509Authorities).toHaveLength(2);
    const second = await sign(ca);
    expect(verify(second.chain, [other.der])).toBe(web.uri);
    expect(verify(first.chain, ca.bundle.value.x509Authorities)).toBe(web.uri);
  });

  it('says that the upstream ends, instead of rotating to what gains nothing', async () => {
    const root = await makeCa({ days: 1 });
    await place(root);
    const ca = await open(files(), 2 * 86_400);
    const stop = new AbortController();
    const loop = ca.run(stop.signal);
    await clock.armed();
    clock.jump(0.6 * DAY);
    // The files are read for real, so the fake clock alone does not tell when.
    const told = nextValue(ca.problem);
    await clock.advance(30_000);
    await told;
    expect(ca.problem.value).toMatchObject({
      code: 'UpstreamExpiring',
      message: expect.stringMatching(/disk upstream authority ends at 2026-01-02.*renew/),
    });
    expect(log.lines).toEqual(['error the CA could not do what is due']);
    await expect(sign(ca)).resolves.toBeDefined();
    await place(await makeCa());
    const recovered = nextValue(ca.problem);
    await clock.armed();
    await clock.advance(60_000);
    await recovered;
    expect(ca.problem.value).toBeUndefined();
    expect(ca.bundle.value.x509Authorities).toHaveLength(2);
    stop.abort();
    await loop;
  });

  it('goes on with its authority while the files are gone', async () => {
    await place(await makeCa());
    const ca = await open(files());
    const before = await sign(ca);
    await rm(file('ca.key'));
    await expect(ca.rotate('x509')).rejects.toMatchObject({
      code: 'UpstreamInvalid',
      message: expect.stringMatching(/ca\.key cannot be read: ENOENT/),
    });
    await expect(sign(ca)).resolves.toMatchObject({ authorityId: before.authorityId });
  });
});

describe('upstream files that do not fit', () => {
  const refused = async (message: RegExp, rootsFile?: string): Promise<void> => {
    await expect(open(files(rootsFile))).rejects.toMatchObject({
      code: 'UpstreamInvalid',
      message: expect.stringMatching(message),
    });
  };

  it('missing', async () => {
    await refused(/ca\.pem cannot be read: ENOENT/);
  });

  it('no PEM', async () => {
    await place(await makeCa());
    await writeFile(file('ca.pem'), 'hello');
    await refused(/ca\.pem cannot be used: .*CERTIFICATE/);
  });

  it('a damaged certificate', async () => {
    const root = await makeCa();
    await place({ ...root, der: root.der.subarray(0, 100) });
    await refused(/ca\.pem cannot be used/);
  });

  it('a key of another certificate', async () => {
    await place(await makeCa());
    await writeFile(file('ca.key'), keyPem(await generateKeyPair('ec-p256')));
    await refused(/ca\.key is not the key of the first certificate in .*ca\.pem/);
  });

  it('a key that is none, or encrypted; without a word of it', async () => {
    const root = await makeCa();
    await place(root);
    const secret = keyPem(root.pair).split('\n')[1] ?? '';
    await writeFile(file('ca.key'), `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----\n`);
    const error: unknown = await open(files()).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'UpstreamInvalid' });
    expect(String(error) + log.all.join()).not.toContain(secret.slice(0, 20));
    const text = root.pair.privateKey
      .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' })
      .toString();
    await writeFile(file('ca.key'), text);
    await refused(/ca\.key is encrypted; decrypt it/);
  });

  it('an intermediate without its root', async () => {
    const root = await makeCa();
    await place(await makeCa({ issuer: root }));
    await refused(/holds no root: .* is an intermediate; name the file with its root as rootsFile/);
  });

  it('a root that is another', async () => {
    const root = await makeCa();
    await place(await makeCa({ issuer: root }));
    await writeFile(file('roots.pem'), pem((await makeCa()).der));
    await refused(/ca\.pem does not lead to a root in .*roots\.pem/, 'roots.pem');
  });

  it('an authority that allows none below it', async () => {
    await place(await makeCa({ pathLength: 0 }));
    await refused(/path length of 0 allows no authority below it/);
  });

  it('a root above that allows no two levels', async () => {
    const root = await makeCa({ pathLength: 1 });
    const middle = await makeCa({ issuer: root, pathLength: 1 });
    await place(middle);
    await writeFile(file('roots.pem'), pem(root.der));
    await expect(open(files('roots.pem'))).rejects.toMatchObject({
      code: 'SelfCheckFailed',
      message: expect.stringMatching(/what it signs does not verify/),
    });
  });

  it('an expired one, and one that is not yet valid', async () => {
    await place(await makeCa({ fromDays: -10, days: -1 }));
    await refused(/expired at/);
    await place(await makeCa({ fromDays: 1, days: 10 }));
    await refused(/valid from .* only/);
  });

  it('another trust domain', async () => {
    await place(await makeCa({ trustDomain: 'other.org' }));
    await refused(/belongs to trust domain "other\.org", not "example\.org"/);
  });

  it('a leaf', async () => {
    const root = await makeCa();
    await place(root);
    const ca = await open(files());
    const [leaf = spki] = (await sign(ca)).chain;
    await writeFile(file('ca.pem'), pem(leaf));
    await refused(/ca\.key is not the key/);
  });
});

it('reads the key forms that openssl writes', async () => {
  clock = new FakeClock(Date.now() + 60_000);
  const run = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' });
  run('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', file('ca.key'));
  run(
    ...['req', '-x509', '-new', '-key', file('ca.key'), '-subj', '/O=Shop/CN=Shop root', '-days', '30'],
    ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign', '-out', file('ca.pem')],
  );
  await expect(readFile(file('ca.key'), 'utf8')).resolves.toContain('BEGIN EC PRIVATE KEY');
  const ca = await open(files());
  const [root = spki] = decodePem(await readFile(file('ca.pem'), 'utf8'), 'CERTIFICATE');
  expect(verify((await sign(ca)).chain, [root])).toBe(web.uri);
});
