import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { systemClock } from '../../lib/clock.js';
import { systemRandom } from '../../lib/random.js';
import { fileKeyStore } from '../keys/file-key-store.js';
import { parseCertificate } from '../pki/certificate.js';
import { verifyX509Svid } from '../pki/svid.js';
import type { CertificateAuthority } from './certificate-authority.js';
import { openCertificateAuthority } from './certificate-authority.js';
import { openFileJournal } from './file-journal.js';

/** Node reads our TypeScript by itself; only the names of imports need a hint. */
const RESOLVE = `data:text/javascript,import { registerHooks } from 'node:module';
registerHooks({ resolve(name, context, next) {
  try { return next(name, context); }
  catch (error) { if (name.endsWith('.js')) return next(name.slice(0, -3) + '.ts', context); throw error; }
} });`;
const PROGRAM = join(import.meta.dirname, '../../../test/support/rotating-ca.ts');

interface Line {
  readonly sequence?: number;
  readonly roots?: readonly string[];
  readonly chain?: readonly string[];
  readonly revoked?: string;
  readonly error?: string;
}

let directory = '';
const children: ChildProcess[] = [];
beforeAll(async () => {
  directory = join(await mkdtemp(join(tmpdir(), 'signet-kill-')), 'state');
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await rm(join(directory, '..'), { recursive: true });
});

/** Runs the program, kills it after so many lines, wherever it is then, and returns all that it said. */
async function runUntilKilled(lines: number): Promise<Line[]> {
  const child = spawn(process.execPath, ['--import', RESOLVE, PROGRAM, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const said: Line[] = [];
  const ended = once(child, 'close');
  for await (const text of createInterface(child.stdout)) {
    // The last line may be cut where the process died.
    if (!text.endsWith('}')) continue;
    said.push(JSON.parse(text) as Line);
    if (said.length === lines) child.kill('SIGKILL');
  }
  await ended;
  return said;
}

async function openHere(): Promise<CertificateAuthority> {
  const shared = { clock: systemClock, random: systemRandom, logger: recordingLogger() };
  const ca = await openCertificateAuthority({
    trustDomain: 'example.org',
    keys: fileKeyStore({ directory: join(directory, 'keys'), random: systemRandom }),
    journal: await openFileJournal({ directory, ...shared }),
    config: {},
    ...shared,
  });
  expect(shared.logger.lines).toEqual([]);
  return ca;
}

describe('a CA that is killed with SIGKILL while it rotates', () => {
  it('comes back each time with all that it had promised', async () => {
    const revoked = new Set<string>();
    const chains: { chain: Uint8Array[]; authority: string }[] = [];
    let sequence = 0;
    for (const lines of [2, 5, 9, 14, 20, 33]) {
      const said = await runUntilKilled(lines);
      expect(said.length).toBeGreaterThanOrEqual(lines);
      let roots: readonly string[] = [];
      for (const line of said) {
        expect(line.error).toBeUndefined();
        if (line.revoked !== undefined) revoked.add(line.revoked);
        if (line.sequence !== undefined) sequence = Math.max(sequence, line.sequence);
        roots = line.roots ?? roots;
        if (line.chain === undefined) continue;
        // What it signed could be verified with what it had published before.
        const chain = line.chain.map((text) => Buffer.from(text, 'base64'));
        verify(
          chain,
          roots.map((text) => Buffer.from(text, 'base64')),
        );
        const leaf = parseCertificate(chain[0] ?? Buffer.alloc(0));
        chains.push({ chain, authority: leaf.authorityKeyId ?? '' });
      }

      const ca = await openHere();
      expect(ca.bundle.value.sequence).toBeGreaterThanOrEqual(sequence);
      const known = new Map(ca.authorities().map((one) => [one.id, one]));
      for (const id of revoked) expect(known.get(id)?.revoked).toBe(true);
      for (const { chain, authority } of chains) {
        expect(known.has(authority)).toBe(true);
        if (known.get(authority)?.revoked !== true) verify(chain, ca.bundle.value.x509Authorities);
      }
      await ca.close();
    }
    expect(chains.length).toBeGreaterThan(20);
    expect(revoked.size).toBeGreaterThan(0);
  }, 60_000);

  it('keeps a second one out while it lives', async () => {
    const ca = await openHere();
    const said = await runUntilKilled(1);
    expect(said).toEqual([{ error: expect.stringContaining(`process ${process.pid} uses it`) }]);
    await ca.close();
  });
});

function verify(chain: readonly Uint8Array[], roots: readonly Uint8Array[]): void {
  const bundle = { trustDomain: 'example.org', x509Authorities: roots, jwtAuthorities: [], sequence: 1 };
  const { id } = verifyX509Svid({ chain, bundles: () => bundle, now: systemClock.now() });
  expect(id.path).toBe('/ns/shop/sa/web');
}
