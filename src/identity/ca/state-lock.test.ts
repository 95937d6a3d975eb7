import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { unsyncedFiles } from '../../../test/support/faulty-files.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import type { Clock } from '../../lib/clock.js';
import { systemRandom } from '../../lib/random.js';
import { diskFiles } from '../keys/files.js';
import type { ProcessTable } from './processes.js';
import { linuxProcesses } from './processes.js';
import type { StateLock } from './state-lock.js';
import { lockState } from './state-lock.js';

/** Timers that fire as soon as others have had their turn, so that waiting costs nothing. */
const eager: Clock = {
  now: () => 0,
  monotonic: () => 0,
  after(_delay, fire) {
    const handle = setImmediate(fire);
    return { cancel: () => clearImmediate(handle) };
  },
};

let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'signet-lock-'));
});

const dead = new Set<number>();
function processTable(pid: number): ProcessTable {
  return {
    self: () => Promise.resolve({ pid, startTime: `s${pid}`, bootId: 'boot', pidNamespace: 'ns' }),
    state: (process) => {
      if (process.pidNamespace !== 'ns') return Promise.resolve('unknown');
      return Promise.resolve(dead.has(process.pid) ? 'dead' : 'alive');
    },
  };
}
const lock = (pid: number): Promise<StateLock> =>
  lockState({
    directory,
    files: unsyncedFiles,
    clock: eager,
    random: systemRandom,
    processes: processTable(pid),
  });

describe('a locked state directory', () => {
  it('refuses the second, names the first, and opens when the first lets go', async () => {
    const first = await lock(11);
    await expect(lock(12)).rejects.toMatchObject({
      code: 'StateLocked',
      message: expect.stringMatching(/in use: process 11 uses it.*--state/),
    });
    await expect(readdir(directory)).resolves.toHaveLength(1);
    await first.release();
    const second = await lock(12);
    await second.release();
    await expect(readdir(directory)).resolves.toEqual([]);
  });

  it('refuses a second claim of the same process', async () => {
    await lock(13);
    await expect(lock(13)).rejects.toMatchObject({ code: 'StateLocked' });
  });

  it('is taken over from the dead, and cleaned of them', async () => {
    await lock(14);
    dead.add(14);
    // And from one that died before it had even claimed.
    const claim = { pid: 14, startTime: 's', bootId: 'boot', pidNamespace: 'ns', nonce: 'ab', phase: 'held' };
    await writeFile(join(directory, '.lock.00000000000000ab.tmp'), JSON.stringify(claim), { mode: 0o600 });
    await lock(15);
    await expect(readdir(directory)).resolves.toHaveLength(1);
    await expect(lock(16)).rejects.toMatchObject({ message: expect.stringContaining('process 15') });
  });

  it('is not taken from a process that cannot be seen, and the message says what to do', async () => {
    const foreign: ProcessTable = {
      ...processTable(17),
      self: () => Promise.resolve({ pid: 17, startTime: 's', bootId: 'boot', pidNamespace: 'other' }),
    };
    await lockState({ directory, files: diskFiles, clock: eager, random: systemRandom, processes: foreign });
    await expect(lock(18)).rejects.toMatchObject({
      code: 'StateLocked',
      message: expect.stringMatching(/another container.*remove lock\.[0-9a-f]{16}/),
    });
  });

  it('is not taken over a claim that cannot be read', async () => {
    await writeFile(join(directory, 'lock.0123456789abcdef'), '{"pid":', { mode: 0o600 });
    await expect(lock(19)).rejects.toMatchObject({
      code: 'StateLocked',
      message: expect.stringContaining('lock.0123456789abcdef cannot be read'),
    });
  });
});

describe('claims at the same moment', () => {
  it('give the directory to exactly one, also when a dead one lies there', async () => {
    for (let round = 0; round < 30; round++) {
      if (round % 2 === 1) {
        const left = await lock(1000 + round);
        expect(left).toBeDefined();
        dead.add(1000 + round);
      }
      const claims = await Promise.allSettled([21, 22, 23, 24].map((pid) => lock(pid)));
      const won = claims.filter((claim) => claim.status === 'fulfilled');
      const lost = claims.filter((claim) => claim.status === 'rejected').map(({ reason }) => String(reason));
      expect({ won: won.length, lost }).toEqual({
        won: 1,
        lost: Array(3).fill(expect.stringContaining('is in use')),
      });
      await won[0]?.value.release();
      await expect(readdir(directory)).resolves.toEqual([]);
    }
  });

  it('do not wait for ever for one that stops in the midst of its claim', async () => {
    const clock = new FakeClock();
    const claim = { pid: 31, startTime: 's', bootId: 'boot', pidNamespace: 'ns', phase: 'claiming' };
    const name = 'ffffffffffffffff';
    const text = JSON.stringify({ ...claim, nonce: name });
    await writeFile(join(directory, `lock.${name}`), text, { mode: 0o600 });
    const options = { directory, files: diskFiles, random: seededRandom(1), processes: processTable(32) };
    let waits = 0;
    const counting: Clock = {
      ...eager,
      after: (delay, fire) => {
        waits += delay;
        return eager.after(delay, fire);
      },
    };
    await expect(lockState({ ...options, clock: counting })).rejects.toMatchObject({
      message: expect.stringContaining('process 31 is about to use it'),
    });
    expect(waits).toBeLessThanOrEqual(5000);
    expect(clock.timers).toBe(0);
  });
});

describe('processes on Linux', () => {
  it('know themselves', async () => {
    const self = await linuxProcesses.self();
    expect(self.pid).toBe(process.pid);
    await expect(linuxProcesses.state(self)).resolves.toBe('alive');
    await expect(linuxProcesses.state({ ...self, startTime: '1' })).resolves.toBe('dead');
    await expect(linuxProcesses.state({ ...self, bootId: 'other' })).resolves.toBe('dead');
    await expect(linuxProcesses.state({ ...self, pidNamespace: 'other' })).resolves.toBe('unknown');
  });

  it('see another die, even while nobody has reaped it', async () => {
    const child = spawn('sleep', ['60']);
    const pid = child.pid ?? 0;
    const self = await linuxProcesses.self();
    const stat = await diskFiles.list(`/proc/${pid}`);
    expect(stat).toContain('stat');
    const { readFile } = await import('node:fs/promises');
    const startTime = (await readFile(`/proc/${pid}/stat`, 'latin1')).split(') ')[1]?.split(' ')[19] ?? '';
    const other = { ...self, pid, startTime };
    await expect(linuxProcesses.state(other)).resolves.toBe('alive');
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
    await expect(linuxProcesses.state(other)).resolves.toBe('dead');
  });
});
