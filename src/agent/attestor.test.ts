import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, readFileSync, realpathSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PeerCredentials } from '../rpc/service.js';
import { createProcAttestor } from './attestor.js';

let directory: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  directory = realpathSync(await mkdtemp(join(tmpdir(), 'signet-attest-')));
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await rm(directory, { recursive: true, force: true });
});

const credentials = (pid: number, isAlive: () => boolean = () => true): PeerCredentials => ({
  pid,
  uid: 1234,
  gid: 5678,
  isAlive,
});

/** A process that runs from `path` until the test ends. */
async function runFrom(path: string): Promise<number> {
  copyFileSync('/bin/sleep', path);
  await chmod(path, 0o755);
  const child = spawn(path, ['1000'], { stdio: 'ignore', argv0: 'sleep' });
  children.push(child);
  await once(child, 'spawn');
  return child.pid ?? 0;
}

const attestor = createProcAttestor({ maxDigestBytes: 64 * 1024 * 1024 });
const digestOf = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

describe('the procfs attestor', () => {
  it('takes uid and gid from the kernel’s word, the rest from procfs', async () => {
    const path = join(directory, 'workload');
    const pid = await runFrom(path);
    const facts = await attestor.attest(credentials(pid), 'digest');
    expect(facts).toMatchObject({ uid: 1234, gid: 5678, path, sha256: digestOf(path) });
    // Node adds the effective gid to the supplementary ones.
    const others = (gids: readonly number[]): number[] =>
      gids.filter((gid) => gid !== process.getegid?.()).sort();
    expect(others(facts.supplementaryGids)).toEqual(others(process.getgroups?.() ?? []));
  });

  it('computes a digest only when asked', async () => {
    const facts = await attestor.attest(credentials(await runFrom(join(directory, 'workload'))), 'path');
    expect(facts.sha256).toBeUndefined();
    expect(facts.path).toBeDefined();
  });

  it('refuses a caller that is gone by the time its facts are read', async () => {
    const pid = await runFrom(join(directory, 'workload'));
    await expect(
      attestor.attest(
        credentials(pid, () => false),
        'ids',
      ),
    ).rejects.toMatchObject({
      status: 'Unauthenticated',
    });
  });

  it('does not take the path of a file that was replaced for that of the running one', async () => {
    const path = join(directory, 'workload');
    const pid = await runFrom(path);
    const running = digestOf(path);
    await writeFile(join(directory, 'other'), 'something else');
    await rename(join(directory, 'other'), path);
    const facts = await attestor.attest(credentials(pid), 'digest');
    expect(facts.path).toBeUndefined();
    expect(facts.sha256).toBe(running);
  });

  it('is not led astray by a file that is named as the kernel names a deleted one', async () => {
    const path = join(directory, 'workload');
    const pid = await runFrom(path);
    await rm(path);
    await writeFile(`${path} (deleted)`, 'something else');
    expect((await attestor.attest(credentials(pid), 'path')).path).toBeUndefined();
  });

  it('knows only uid and gid of a process that it may not look at', async () => {
    const facts = await attestor.attest(credentials(2 ** 30), 'digest');
    expect(facts).toEqual({ uid: 1234, gid: 5678, supplementaryGids: [] });
  });

  it('has no digest of an executable that is too large', async () => {
    const path = join(directory, 'workload');
    const pid = await runFrom(path);
    const facts = await createProcAttestor({ maxDigestBytes: 1_000 }).attest(credentials(pid), 'digest');
    expect(facts.sha256).toBeUndefined();
    expect(facts.path).toBe(path);
  });

  describe('on a made-up procfs', () => {
    async function procfs(): Promise<string> {
      const file = join(directory, 'binary');
      await writeFile(file, 'aaaa');
      await mkdir(join(directory, 'proc', '7'), { recursive: true });
      await writeFile(join(directory, 'proc', '7', 'status'), 'Name:\tx\nGroups:\t4 24 1000 \nNStgid:\t7\n');
      await symlink(file, join(directory, 'proc', '7', 'exe'));
      return file;
    }

    it('reads supplementary groups', async () => {
      await procfs();
      const fake = createProcAttestor({ proc: join(directory, 'proc'), maxDigestBytes: 1_000 });
      expect((await fake.attest(credentials(7), 'path')).supplementaryGids).toEqual([4, 24, 1000]);
    });

    it('sees a file that was changed under the same size and modification time', async () => {
      const file = await procfs();
      const fake = createProcAttestor({ proc: join(directory, 'proc'), maxDigestBytes: 1_000 });
      const time = new Date(1_700_000_000_000);
      await utimes(file, time, time);
      expect((await fake.attest(credentials(7), 'digest')).sha256).toBe(digestOf(file));
      await writeFile(file, 'bbbb');
      await utimes(file, time, time);
      const changed = await fake.attest(credentials(7), 'digest');
      expect(changed.sha256).toBe(createHash('sha256').update('bbbb').digest('hex'));
    });
  });
});
