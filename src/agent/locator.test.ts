import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PeerCredentials } from '../rpc/service.js';
import { createLocator, sharedSocketProblem } from './locator.js';

const OWN = '0a1b2c3d-0000-4000-8000-00000000000a';
const OTHER = '0a1b2c3d-0000-4000-8000-00000000000b';
const CONTAINER = 'c'.repeat(64);

let proc: string;

beforeEach(async () => {
  proc = await mkdtemp(join(tmpdir(), 'signet-proc-'));
});
afterEach(() => rm(proc, { recursive: true, force: true }));

/** A process as procfs shows it. */
async function process(
  pid: string,
  cgroup: string,
  namespaces: Readonly<Record<string, string>> = {},
): Promise<void> {
  await mkdir(join(proc, pid, 'ns'), { recursive: true });
  await writeFile(join(proc, pid, 'cgroup'), `0::${cgroup}\n`);
  const all = { pid: 'pid:[1]', user: 'user:[1]', cgroup: 'cgroup:[4026531835]', ...namespaces };
  for (const [name, target] of Object.entries(all)) await symlink(target, join(proc, pid, 'ns', name));
}

const caller = (pid: number, isAlive = true): PeerCredentials => ({
  ...{ pid, uid: 1000, gid: 1000 },
  isAlive: () => isAlive,
});
const unclear = (why: RegExp): unknown =>
  expect.objectContaining({
    status: 'Unauthenticated',
    code: 'CallerUnclear',
    message: expect.stringMatching(why),
  });

describe('a caller of the shared socket', () => {
  beforeEach(() => process('self', `/rig0/kubepods/burstable/pod${OWN}/${'a'.repeat(64)}`));

  it('is of a pod by its cgroup, or of the machine', async () => {
    await process('7', `/rig0/kubepods/pod${OTHER}/${CONTAINER}`, { pid: 'pid:[7]', user: 'user:[7]' });
    await process('8', '/user.slice/user-1000.slice/session-1.scope');
    const locate = createLocator(proc, OWN);
    expect(locate(caller(7))).toEqual({ kind: 'pod', uid: OTHER, container: CONTAINER });
    expect(locate(caller(8))).toEqual({ kind: 'machine' });
  });

  it('is nobody in a container of no pod, told by its cgroup or by its namespaces', async () => {
    await process('7', `/docker/${CONTAINER}`);
    await process('8', '/jail', { pid: 'pid:[8]' });
    await process('9', '/', { user: 'user:[9]' });
    const locate = createLocator(proc, OWN);
    expect(() => locate(caller(7))).toThrow(unclear(/belongs to no pod/));
    expect(() => locate(caller(8))).toThrow(unclear(/another pid namespace/));
    expect(() => locate(caller(9))).toThrow(unclear(/another user namespace/));
    // Nor is one of whom nothing can be read.
    expect(() => locate(caller(10))).toThrow(unclear(/does not say/));
  });

  it('is nobody once the process has ended: what was read may be of another one', async () => {
    await process('7', `/rig0/kubepods/pod${OTHER}/${CONTAINER}`);
    const locate = createLocator(proc, OWN);
    let read = false;
    // Asked after the cgroup was read, never before.
    const credentials: PeerCredentials = {
      ...caller(7),
      isAlive: () => {
        read = true;
        return false;
      },
    };
    expect(() => locate(credentials)).toThrow('the calling process is gone');
    expect(read).toBe(true);
  });
});

describe('an agent without hostPID', () => {
  it('is told by the first process that it sees: one of its own pod', async () => {
    const own = `/kubepods/pod${OWN}/${'a'.repeat(64)}`;
    await process('self', own);
    await process('1', own);
    expect(sharedSocketProblem(OWN, proc)).toMatch(/without hostPID/);
    await writeFile(join(proc, '1/cgroup'), `0::/kubepods/pod${OWN}/${'b'.repeat(64)}\n`);
    expect(sharedSocketProblem(OWN, proc)).toMatch(/without hostPID/);
    await writeFile(join(proc, '1/cgroup'), '0::/init.scope\n');
    expect(sharedSocketProblem(OWN, proc)).toBeUndefined();
  });

  it('is told in a cgroup namespace of its own, too', async () => {
    await process('self', '/', { cgroup: 'cgroup:[4026532000]' });
    await process('1', '/');
    expect(sharedSocketProblem(OWN, proc)).toMatch(/without hostPID/);
    await writeFile(join(proc, '1/cgroup'), '0::/../../../init.scope\n');
    expect(sharedSocketProblem(OWN, proc)).toBeUndefined();
  });

  it('is none that runs on the machine itself', async () => {
    await process('self', '/');
    await process('1', '/');
    expect(sharedSocketProblem(OWN, proc)).toBeUndefined();
  });
});
