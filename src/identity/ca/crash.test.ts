import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../../test/support/fake-clock.js';
import type { CrashPlan } from '../../../test/support/faulty-files.js';
import { crashingFiles, fullableFiles, unsyncedFiles } from '../../../test/support/faulty-files.js';
import type { RecordingLogger } from '../../../test/support/recording-logger.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { systemRandom } from '../../lib/random.js';
import { fileKeyStore } from '../keys/file-key-store.js';
import type { FileOps } from '../keys/files.js';
import { diskFiles } from '../keys/files.js';
import { exportSpki, generateKeyPair } from '../pki/keys.js';
import { verifyX509Svid } from '../pki/svid.js';
import type { TrustBundle } from '../spiffe/bundle.js';
import { parseSpiffeId } from '../spiffe/id.js';
import { verifyJwtSvid } from '../spiffe/jwt-svid.js';
import type { AuthorityKind } from './authority-set.js';
import type { CertificateAuthority } from './certificate-authority.js';
import { openCertificateAuthority } from './certificate-authority.js';
import { openFileJournal } from './file-journal.js';
import type { ProcessTable } from './processes.js';

const web = parseSpiffeId('spiffe://example.org/ns/shop/sa/web');
const spki = exportSpki((await generateKeyPair('ec-p256')).publicKey);
const clock = new FakeClock();

let base = '';
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'signet-crash-'));
});
afterAll(() => rm(base, { recursive: true }));

/** Every opening is a process of its own, and all before it are dead. */
let pid = 0;
function processes(): ProcessTable {
  const own = ++pid;
  return {
    self: () => Promise.resolve({ pid: own, startTime: 's', bootId: 'b', pidNamespace: 'n' }),
    state: (other) => Promise.resolve(other.pid < pid ? 'dead' : 'alive'),
  };
}

async function open(
  directory: string,
  files: FileOps,
  log: RecordingLogger = recordingLogger(),
): Promise<CertificateAuthority> {
  const shared = { clock, random: systemRandom, logger: log };
  const journal = await openFileJournal({ directory, files, processes: processes(), ...shared });
  const keys = fileKeyStore({ directory: join(directory, 'keys'), random: systemRandom, files });
  return openCertificateAuthority({ trustDomain: 'example.org', keys, journal, config: {}, ...shared });
}

/** What the world saw of a process: all that it signed and published, and what it promised was done. */
interface Witness {
  readonly chains: { chain: readonly Uint8Array[]; authorityId: string }[];
  readonly tokens: { token: string; keyId: string }[];
  readonly bundles: TrustBundle[];
  readonly tainted: Set<string>;
  readonly revoked: Set<string>;
  activeAfterRotation: Record<AuthorityKind, string> | undefined;
}

const newWitness = (): Witness => ({
  chains: [],
  tokens: [],
  bundles: [],
  tainted: new Set(),
  revoked: new Set(),
  activeAfterRotation: undefined,
});

/** Signs both kinds, and checks against what had been published at that moment. */
async function sign(ca: CertificateAuthority, witness: Witness): Promise<void> {
  const bundle = witness.bundles.at(-1);
  const signed = await ca.signX509({ spki, spiffeId: web, dnsNames: [], ttlSeconds: 600 });
  const token = await ca.signJwt({ spiffeId: web, audience: ['db'], ttlSeconds: 600 });
  expect(bundle).toBeDefined();
  if (bundle !== undefined) {
    verify(signed.chain, bundle);
    await verifyToken(token.token, bundle);
  }
  witness.chains.push(signed);
  witness.tokens.push(token);
}
function verify(chain: readonly Uint8Array[], bundle: TrustBundle): void {
  expect(verifyX509Svid({ chain, bundles: () => bundle, now: clock.now() }).id.uri).toBe(web.uri);
}
async function verifyToken(token: string, bundle: TrustBundle): Promise<void> {
  await verifyJwtSvid({ token, audience: 'db', bundles: () => bundle, now: clock.now() });
}
function activeOf(ca: CertificateAuthority): Record<AuthorityKind, string> {
  const of = (kind: AuthorityKind): string =>
    ca.authorities().find((one) => one.kind === kind && one.slot === 'active')?.id ?? 'none';
  return { x509: of('x509'), jwt: of('jwt') };
}

/** A life of a CA, each step of which a crash may end. */
async function live(directory: string, files: FileOps, witness: Witness): Promise<void> {
  const ca = await open(directory, files);
  witness.bundles.push(ca.bundle.value);
  ca.bundle.watch((bundle) => witness.bundles.push(bundle));
  await sign(ca, witness);
  const first = activeOf(ca);
  await ca.prepare('x509');
  await sign(ca, witness);
  await ca.rotate();
  witness.activeAfterRotation = activeOf(ca);
  await sign(ca, witness);
  await ca.taint('x509', first.x509);
  witness.tainted.add(first.x509);
  await sign(ca, witness);
  await ca.revoke('x509', first.x509);
  witness.revoked.add(first.x509);
  await ca.taint('jwt', first.jwt);
  witness.tainted.add(first.jwt);
  await sign(ca, witness);
}

/** What must hold when the next process has started on what is on the disk. */
async function checkAfterRestart(directory: string, witness: Witness): Promise<CertificateAuthority> {
  const log = recordingLogger();
  const ca = await open(directory, unsyncedFiles, log);
  const bundle = ca.bundle.value;
  expect(log.lines).toEqual([]);

  const last = witness.bundles.at(-1);
  if (last !== undefined) {
    expect(bundle.sequence).toBeGreaterThanOrEqual(last.sequence);
    if (bundle.sequence === last.sequence) expect(bundle).toEqual(last);
  }
  // Nothing that was promised is lost, and nothing that was signed has lost its trust unless it was revoked.
  const known = new Map(ca.authorities().map((one) => [one.id, one]));
  for (const id of witness.tainted) expect(known.get(id)?.tainted).toBe(true);
  for (const id of witness.revoked) expect(known.get(id)?.revoked).toBe(true);
  for (const { chain, authorityId } of witness.chains)
    if (known.get(authorityId)?.revoked !== true) verify(chain, bundle);
  for (const { token } of witness.tokens) await verifyToken(token, bundle);
  if (witness.activeAfterRotation !== undefined) expect(activeOf(ca)).toEqual(witness.activeAfterRotation);

  // It works on, with a key for each authority that signs and no other.
  const after = newWitness();
  after.bundles.push(bundle);
  await sign(ca, after);
  const needed = ca.authorities().filter(({ slot }) => slot !== 'old').length;
  await expect(readdir(join(directory, 'keys'))).resolves.toHaveLength(needed);
  return ca;
}

describe('a process that is killed', () => {
  // The life above changes the disk about this often; far fewer would mean that it ended early.
  it.each([
    ['after any change of the disk', 'after', 110],
    ['in the midst of any file', 'torn', 30],
  ] as const)(
    '%s: loses nothing and signs nothing unpublished',
    async (_name, when, atLeast) => {
      let count = 0;
      for (let at = 0; ; at++) {
        const directory = join(base, `${when}-${at}`);
        const witness = newWitness();
        const files = crashingFiles({ at, when } satisfies CrashPlan);
        try {
          await live(directory, files, witness);
        } catch (error) {
          if (!files.crashed) throw error;
        }
        if (!files.crashed) break;
        count++;
        const ca = await checkAfterRestart(directory, witness);
        const before = activeOf(ca);
        await ca.rotate('x509');
        expect(activeOf(ca).x509).not.toBe(before.x509);
        await ca.close();
      }
      expect(count).toBeGreaterThanOrEqual(atLeast);
    },
    60_000,
  );
});

describe('a full disk', () => {
  it('is told, leaves the old authority signing, and is got over', async () => {
    const directory = join(base, 'full');
    const files = fullableFiles();
    const ca = await open(directory, files);
    const before = activeOf(ca);
    const sequence = ca.bundle.value.sequence;
    files.full = true;
    await expect(ca.rotate('x509')).rejects.toMatchObject({
      code: 'StateIo',
      message: expect.stringContaining('disk is full'),
    });
    await expect(ca.rotate('jwt')).rejects.toMatchObject({ code: 'StateIo' });
    expect(activeOf(ca)).toEqual(before);
    expect(ca.bundle.value.sequence).toBe(sequence);
    const signed = await ca.signX509({ spki, spiffeId: web, dnsNames: [], ttlSeconds: 60 });
    expect(signed.authorityId).toBe(before.x509);
    files.full = false;
    await ca.rotate();
    expect(activeOf(ca).x509).not.toBe(before.x509);
    await expect(readdir(join(directory, 'keys'))).resolves.toHaveLength(2);
  });

  it('between key and journal leaves no key behind', async () => {
    const directory = join(base, 'full-later');
    const files = fullableFiles();
    let creations = 0;
    const create = files.create.bind(files);
    const ca = await open(directory, files);
    const keys = await readdir(join(directory, 'keys'));
    files.create = async (path, data) => {
      files.full = ++creations > 1;
      return create(path, data);
    };
    await expect(ca.rotate('x509')).rejects.toMatchObject({
      code: 'JournalIo',
      message: expect.stringContaining('disk is full'),
    });
    await expect(readdir(join(directory, 'keys'))).resolves.toEqual(keys);
    files.create = create;
    files.full = false;
    await ca.rotate('x509');
    await ca.close();
    await (await open(directory, diskFiles)).close();
  });
});

it('takes a save that failed after it had taken hold for what it is', async () => {
  const directory = join(base, 'late-failure');
  let failing = false;
  const files: FileOps = {
    ...diskFiles,
    async syncDirectory(path) {
      await diskFiles.syncDirectory(path);
      if (failing && path === directory) throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
    },
  };
  const log = recordingLogger();
  const ca = await open(directory, files, log);
  failing = true;
  await ca.rotate('x509');
  failing = false;
  expect(log.lines).toContain('warn the CA journal reported a failure, but has the new state');
  const active = activeOf(ca);
  await ca.signX509({ spki, spiffeId: web, dnsNames: [], ttlSeconds: 60 });
  await ca.close();
  const again = await open(directory, diskFiles);
  expect(activeOf(again)).toEqual(active);
  await again.rotate();
});

it('two CAs never work on one state directory', async () => {
  const directory = join(base, 'two');
  const alive: ProcessTable = {
    self: () => Promise.resolve({ pid: 4711, startTime: 's', bootId: 'b', pidNamespace: 'n' }),
    state: () => Promise.resolve('alive'),
  };
  const shared = { clock, random: systemRandom, logger: recordingLogger() };
  const first = await openFileJournal({ directory, processes: alive, ...shared });
  await expect(openFileJournal({ directory, processes: alive, ...shared })).rejects.toMatchObject({
    code: 'StateLocked',
    message: expect.stringContaining('process 4711 uses it'),
  });
  await first.close();
  await (await openFileJournal({ directory, processes: alive, ...shared })).close();
});
