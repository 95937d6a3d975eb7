import { execFile } from 'node:child_process';
import { createHash, createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import forge from 'node-forge';
import { isSkipped } from '../../../../test/rig/rig.js';
import { makeCertificate, type TestCertificate } from '../../../../test/support/certificates.js';
import { seededRandom } from '../../../../test/support/seeded-random.js';
import { systemRandom } from '../../../lib/random.js';
import { exportPkcs8, generateKeyPair, type KeyPair, type KeyType } from '../keys.js';
import { decodePem } from '../pem.js';
import type { KeyEntry, TrustedEntry } from './entries.js';
import { encodeJksKeystore, encodeJksTruststore } from './jks.js';
import { encodePkcs12Keystore, encodePkcs12Truststore } from './pkcs12.js';

const run = promisify(execFile);
const JAVA = join(import.meta.dirname, '../../../../test/support/Keystores.java');
const javaIt = isSkipped('java') ? it.skip : it;

const PASSWORD = 'changeit';
const WEB = 'spiffe://example.org/ns/shop/sa/web';
const CREATED = Date.UTC(2026, 0, 2, 3, 4, 5);
const HOUR = 3_600_000;

let folder: string;
let pairs: Record<KeyType, KeyPair>;
let root: TestCertificate;
let middle: TestCertificate;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'signet-keystore-'));
  const [p256, p384, ed, rsa, rsa4096, rootPair, middlePair] = await Promise.all([
    generateKeyPair('ec-p256'),
    generateKeyPair('ec-p384'),
    generateKeyPair('ed25519'),
    generateKeyPair('rsa-2048'),
    generateKeyPair('rsa-4096'),
    generateKeyPair('ec-p256'),
    generateKeyPair('ec-p256'),
  ]);
  pairs = { 'ec-p256': p256, 'ec-p384': p384, ed25519: ed, 'rsa-2048': rsa, 'rsa-4096': rsa4096 };
  // Java and Node look at the machine's clock.
  const validity = { notBefore: Date.now() - HOUR, notAfter: Date.now() + HOUR };
  root = makeCertificate({
    subject: 'root',
    pair: rootPair,
    ca: true,
    keyUsage: ['keyCertSign'],
    ...validity,
  });
  middle = makeCertificate({
    subject: 'middle',
    pair: middlePair,
    issuer: root,
    ca: true,
    keyUsage: ['keyCertSign'],
    ...validity,
  });
}, 60_000);

afterAll(() => rmSync(folder, { recursive: true }));

function entryOf(type: KeyType, alias = 'svid'): KeyEntry {
  const leaf = makeCertificate({
    subject: 'leaf',
    pair: pairs[type],
    issuer: middle,
    uris: [WEB],
    keyUsage: ['digitalSignature'],
    notBefore: Date.now() - HOUR,
    notAfter: Date.now() + HOUR,
  });
  return { alias, pkcs8: exportPkcs8(pairs[type].privateKey), chain: [leaf.der, middle.der] };
}

const trusted = (alias = 'example.org'): TrustedEntry => ({ alias, certificate: root.der });

let files = 0;
function file(bytes: Uint8Array): string {
  const path = join(folder, `store-${++files}`);
  writeFileSync(path, bytes);
  return path;
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const sameBytes = (one: Uint8Array | undefined, other: Uint8Array | undefined): boolean =>
  Buffer.compare(one ?? new Uint8Array(), other ?? new Uint8Array()) === 0;

/** What the Java program says of stores. */
async function readByJava(
  stores: readonly { type: string; password: string; bytes: Uint8Array }[],
): Promise<string[][]> {
  const paths = stores.map(({ bytes }) => file(bytes));
  const manifest = file(
    Buffer.from(
      stores.map(({ type, password }, at) => `${type} ${btoa(password)} ${paths[at] ?? ''}`).join('\n'),
    ),
  );
  const { stdout } = await run('java', ['-XX:TieredStopAtLevel=1', JAVA, 'read', manifest]);
  const lines = stdout.trim().split('\n');
  return paths.map((path) =>
    lines.filter((line) => line.startsWith(`${path} `)).map((line) => line.slice(path.length + 1)),
  );
}

const keyLine = ({ alias, pkcs8, chain }: KeyEntry): string =>
  ['key', alias, digest(pkcs8), ...chain.map(digest)].join(' ');
const trustLine = ({ alias, certificate }: TrustedEntry): string => `trusted ${alias} ${digest(certificate)}`;

const passwords = fc.string({
  unit: fc.integer({ min: 0x20, max: 0x7e }).map((c) => String.fromCharCode(c)),
  minLength: 1,
  maxLength: 128,
});
const aliases = fc.stringMatching(/^[a-z0-9][a-z0-9.@_-]{0,60}$/);

describe('PKCS#12', () => {
  it.each(['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048', 'rsa-4096'] as const)(
    'OpenSSL takes key and chain of an %s identity out as they went in',
    async (type) => {
      const entry = entryOf(type);
      const path = file(await encodePkcs12Keystore(entry, PASSWORD, systemRandom));
      const { stdout } = await run('openssl', [
        'pkcs12',
        '-in',
        path,
        '-passin',
        `pass:${PASSWORD}`,
        '-nodes',
      ]);
      const taken = decodePem(stdout, 'CERTIFICATE');
      expect(taken.map(digest)).toEqual(entry.chain.map(digest));
      const key = decodePem(stdout, 'PRIVATE KEY')[0] ?? new Uint8Array();
      const canonical = createPrivateKey({ key: Buffer.from(key), format: 'der', type: 'pkcs8' });
      expect(sameBytes(exportPkcs8(canonical), entry.pkcs8)).toBe(true);
      expect(stdout).toContain('friendlyName: svid');
    },
  );

  it('uses PBES2 with AES-256 and a MAC with SHA-256 only', async () => {
    const path = file(await encodePkcs12Keystore(entryOf('ec-p256'), PASSWORD, systemRandom));
    const { stderr } = await run('openssl', [
      'pkcs12',
      '-in',
      path,
      '-passin',
      `pass:${PASSWORD}`,
      '-info',
      '-noout',
    ]);
    expect(stderr).toContain('MAC: sha256, Iteration 2048');
    expect(stderr.match(/PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256/g)).toHaveLength(2);
    expect(stderr).not.toMatch(/RC2|3DES|sha1/i);
  });

  it('is not opened with another password', async () => {
    const path = file(await encodePkcs12Keystore(entryOf('ec-p256'), PASSWORD, systemRandom));
    await expect(
      run('openssl', ['pkcs12', '-in', path, '-passin', 'pass:changeit2', '-noout']),
    ).rejects.toThrow(/invalid password/);
  });

  it('gives what node-forge reads, whatever alias, password and number of certificates', async () => {
    await fc.assert(
      fc.asyncProperty(
        aliases,
        passwords,
        fc.integer({ min: 1, max: 6 }),
        fc.integer(),
        async (alias, password, count, seed) => {
          const whole = entryOf('rsa-2048', alias);
          const chain = [...whole.chain.slice(0, 1), ...Array.from({ length: count - 1 }, () => middle.der)];
          const bytes = await encodePkcs12Keystore({ ...whole, chain }, password, seededRandom(seed));
          // forge checks the MAC.
          const read = forge.pkcs12.pkcs12FromAsn1(
            forge.asn1.fromDer(Buffer.from(bytes).toString('latin1')),
            true,
            password,
          );
          const bags = read.safeContents.flatMap(({ safeBags }) => safeBags);
          expect(bags.filter(({ cert }) => cert !== undefined)).toHaveLength(count);
          const key = bags.find(({ type }) => type === forge.pki.oids['pkcs8ShroudedKeyBag']);
          expect(key?.attributes).toMatchObject({ friendlyName: [alias] });
          const plain = forge.asn1
            .toDer(forge.pki.wrapRsaPrivateKey(forge.pki.privateKeyToAsn1(key?.key as forge.pki.PrivateKey)))
            .getBytes();
          expect(digest(Buffer.from(plain, 'latin1'))).toBe(digest(whole.pkcs8));
        },
      ),
      { numRuns: 15 },
    );
  }, 60_000);

  it('serves a Node TLS server and client as pfx', async () => {
    const pfx = Buffer.from(await encodePkcs12Keystore(entryOf('ec-p256'), PASSWORD, systemRandom));
    const ca = `-----BEGIN CERTIFICATE-----\n${Buffer.from(root.der).toString('base64')}\n-----END CERTIFICATE-----\n`;
    const options = { pfx, passphrase: PASSWORD, ca, minVersion: 'TLSv1.3' as const };
    let seen = '';
    const server = createServer(
      { ...options, requestCert: true, rejectUnauthorized: true },
      (socket: TLSSocket) => {
        seen = socket.getPeerCertificate().subjectaltname ?? '';
        socket.end('hello');
      },
    );
    server.listen(0);
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const client = connect({ ...options, port, checkServerIdentity: () => undefined });
    let answer = '';
    client.on('data', (data: Buffer) => (answer += data.toString()));
    await once(client, 'close');
    server.close();
    expect(answer).toBe('hello');
    expect(seen).toBe(`URI:${WEB}`);
  });

  it('lets the event loop turn while it derives keys', async () => {
    let turns = 0;
    let done = false;
    const count = (): void => {
      turns++;
      if (!done) setImmediate(count);
    };
    setImmediate(count);
    await encodePkcs12Keystore(entryOf('ec-p256'), PASSWORD, systemRandom);
    done = true;
    expect(turns).toBeGreaterThan(7);
  });
});

describe('Java', () => {
  javaIt(
    'reads stores of all kinds, passwords and key types as they were written',
    async () => {
      const random = seededRandom(7);
      const sampled = fc.sample(fc.tuple(aliases, passwords), { numRuns: 40, seed: 7 });
      const types = ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048', 'rsa-4096'] as const;
      const stores = [];
      for (const [at, [alias, password]] of sampled.entries()) {
        const entry = entryOf(types[at % types.length] ?? 'ec-p256', alias);
        const authorities = Array.from({ length: at % 4 }, (_, index) => trusted(`${alias}-${index}`));
        stores.push(
          {
            type: 'PKCS12',
            password,
            bytes: await encodePkcs12Keystore(entry, password, random),
            lines: [keyLine(entry)],
          },
          {
            type: 'JKS',
            password,
            bytes: encodeJksKeystore(entry, password, CREATED, random),
            lines: [keyLine(entry)],
          },
          {
            type: 'PKCS12',
            password,
            bytes: await encodePkcs12Truststore(authorities, password, random),
            lines: authorities.map(trustLine),
          },
          {
            type: 'JKS',
            password,
            bytes: encodeJksTruststore(authorities, password, CREATED),
            lines: authorities.map(trustLine),
          },
        );
      }
      const read = await readByJava(stores);
      for (const [at, { lines }] of stores.entries())
        expect([...(read[at] ?? [])].sort()).toEqual([...lines].sort());
    },
    120_000,
  );

  javaIt.each(['PKCS12', 'JKS'] as const)(
    'keytool lists a %s keystore and truststore',
    async (type) => {
      const entry = entryOf('ec-p256');
      const random = systemRandom;
      const [keystore, truststore] =
        type === 'JKS'
          ? [
              encodeJksKeystore(entry, PASSWORD, CREATED, random),
              encodeJksTruststore([trusted()], PASSWORD, CREATED),
            ]
          : [
              await encodePkcs12Keystore(entry, PASSWORD, random),
              await encodePkcs12Truststore([trusted()], PASSWORD, random),
            ];
      const list = async (bytes: Uint8Array): Promise<string> =>
        (
          await run('keytool', [
            '-J-Duser.language=en',
            '-list',
            '-v',
            '-storetype',
            type,
            '-storepass',
            PASSWORD,
            '-keystore',
            file(bytes),
          ])
        ).stdout;
      const keys = await list(keystore);
      expect(keys).toContain('Alias name: svid');
      expect(keys).toContain('Entry type: PrivateKeyEntry');
      expect(keys).toContain('Certificate chain length: 2');
      expect(keys).toContain(`URIName: ${WEB}`);
      const roots = await list(truststore);
      expect(roots).toContain('Alias name: example.org');
      expect(roots).toContain('Entry type: trustedCertEntry');
    },
    60_000,
  );

  javaIt.each(['PKCS12', 'JKS'] as const)(
    'speaks mutual TLS with %s stores',
    async (type) => {
      const entry = entryOf('ec-p256');
      const [keystore, truststore] =
        type === 'JKS'
          ? [
              encodeJksKeystore(entry, PASSWORD, CREATED, systemRandom),
              encodeJksTruststore([trusted()], PASSWORD, CREATED),
            ]
          : [
              await encodePkcs12Keystore(entry, PASSWORD, systemRandom),
              await encodePkcs12Truststore([trusted()], PASSWORD, systemRandom),
            ];
      const { stdout } = await run('java', [
        '-XX:TieredStopAtLevel=1',
        JAVA,
        'tls',
        type,
        PASSWORD,
        file(keystore),
        file(truststore),
      ]);
      expect(stdout.trim().split('\n').sort()).toEqual([
        `client sees ${WEB}, answer hello`,
        `server sees ${WEB}`,
      ]);
    },
    60_000,
  );

  javaIt(
    'refuses a JKS with another password',
    async () => {
      const path = file(encodeJksTruststore([trusted()], PASSWORD, CREATED));
      await expect(
        run('keytool', ['-list', '-storetype', 'JKS', '-storepass', 'changeit2', '-keystore', path]),
      ).rejects.toThrow();
    },
    60_000,
  );
});

describe('what is refused', () => {
  it.each(['', 'geheimß', 'a\u0000b', 'x'.repeat(129)])(
    'password %j, without showing it',
    async (password) => {
      await expect(encodePkcs12Truststore([trusted()], password, systemRandom)).rejects.toMatchObject({
        code: 'KeystoreInvalid',
        message: 'the password of a keystore must be 1 to 128 printable ASCII characters',
      });
      expect(() => encodeJksTruststore([trusted()], password, CREATED)).toThrow('printable ASCII');
    },
  );

  it('aliases that are taken, empty or in capitals, and a key without certificate', async () => {
    expect(() => encodeJksTruststore([trusted('a'), trusted('a')], PASSWORD, CREATED)).toThrow(
      '"a" is there twice',
    );
    expect(() => encodeJksTruststore([trusted('')], PASSWORD, CREATED)).toThrow('alias');
    expect(() => encodeJksTruststore([trusted('A')], PASSWORD, CREATED)).toThrow('capitals');
    const entry = { ...entryOf('ec-p256'), chain: [] };
    expect(() => encodeJksKeystore(entry, PASSWORD, CREATED, systemRandom)).toThrow('needs its certificate');
    await expect(encodePkcs12Keystore(entry, PASSWORD, systemRandom)).rejects.toThrow(
      'needs its certificate',
    );
  });
});
