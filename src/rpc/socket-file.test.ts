import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  link,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import type { Server } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rawConnection } from '../../test/support/sockets.js';
import { seededRandom } from '../../test/support/seeded-random.js';
import { listenAt } from './socket-file.js';

let directory: string;
const servers: Server[] = [];
const random = seededRandom(7);

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'signet-sock-'));
});

afterEach(async () => {
  for (const server of servers.splice(0)) server.close();
  await rm(directory, { recursive: true, force: true });
});

function server(): Server {
  const made = createServer((socket) => void socket.on('error', () => undefined));
  servers.push(made);
  return made;
}

/** What a process leaves that was killed: a socket file that nobody listens at. */
async function staleSocket(path: string): Promise<void> {
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await once(spawn(process.execPath, ['-e', script], { stdio: 'ignore' }), 'exit');
  await stat(path);
}

describe('listenAt', () => {
  it('makes the file with its mode, and the directories on the way with theirs', async () => {
    const path = join(directory, 'a', 'b', 'api.sock');
    const file = await listenAt(server(), { path, mode: 0o666, directoryMode: 0o710 }, random);
    expect((await stat(path)).mode & 0o7777).toBe(0o666);
    expect((await stat(path)).isSocket()).toBe(true);
    expect((await stat(join(directory, 'a'))).mode & 0o7777).toBe(0o710);
    expect(await readdir(join(directory, 'a', 'b'))).toEqual(['api.sock']);
    (await rawConnection(path)).destroy();
    await file.remove();
    expect(await readdir(join(directory, 'a', 'b'))).toEqual([]);
  });

  it('leaves the mode of a directory that was there', async () => {
    await mkdir(join(directory, 'a'));
    await chmod(join(directory, 'a'), 0o700);
    await listenAt(server(), { path: join(directory, 'a', 's'), mode: 0o600, directoryMode: 0o755 }, random);
    expect((await stat(join(directory, 'a'))).mode & 0o7777).toBe(0o700);
  });

  it('replaces what a dead process left', async () => {
    const path = join(directory, 'api.sock');
    await staleSocket(path);
    await listenAt(server(), { path, mode: 0o600 }, random);
    (await rawConnection(path)).destroy();
    expect(await readdir(directory)).toEqual(['api.sock']);
  });

  it('never takes the place of a socket that answers', async () => {
    const path = join(directory, 'api.sock');
    await listenAt(server(), { path, mode: 0o600 }, random);
    const before = await stat(path);
    await expect(listenAt(server(), { path, mode: 0o600 }, random)).rejects.toMatchObject({
      code: 'SocketInUse',
      message: expect.stringContaining(path),
    });
    expect((await stat(path)).ino).toBe(before.ino);
    expect(await readdir(directory)).toEqual(['api.sock']);
    (await rawConnection(path)).destroy();
  });

  it('lets one of two that start at once have the path, whatever was there', async () => {
    for (const stale of [false, true]) {
      const path = join(directory, `${stale ? 'stale' : 'fresh'}.sock`);
      if (stale) await staleSocket(path);
      const tries = Array.from({ length: 4 }, () => listenAt(server(), { path, mode: 0o600 }, random));
      const outcomes = await Promise.allSettled(tries);
      expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      for (const outcome of outcomes)
        if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'SocketInUse' });
      (await rawConnection(path)).destroy();
    }
    expect((await readdir(directory)).sort()).toEqual(['fresh.sock', 'stale.sock']);
  });

  it.each([false, true])(
    'never takes the place of a file that is no socket, nor follows a link (take over: %s)',
    async (takeOver) => {
      const path = join(directory, 'api.sock');
      await writeFile(path, 'precious');
      const target = join(directory, 'target.sock');
      await listenAt(server(), { path: target, mode: 0o600 }, random);
      const linked = join(directory, 'link.sock');
      await symlink(target, linked);
      await mkdir(join(directory, 'directory'));
      for (const taken of [path, linked, join(directory, 'directory')])
        await expect(
          listenAt(server(), { path: taken, mode: 0o600, takeOver }, random),
        ).rejects.toMatchObject({
          code: 'SocketPathTaken',
          message: expect.stringContaining(taken),
        });
      expect(await readFile(path, 'utf8')).toBe('precious');
      expect(await readlink(linked)).toBe(target);
      expect((await readdir(directory)).sort()).toEqual([
        'api.sock',
        'directory',
        'link.sock',
        'target.sock',
      ]);
    },
  );

  it('takes over a socket that answers when told to, with its own mode, and leaves it to the next', async () => {
    const path = join(directory, 'api.sock');
    const accepted: string[] = [];
    const named = (name: string): Server => {
      const made = server();
      made.on('connection', () => accepted.push(name));
      return made;
    };
    const options = { path, mode: 0o666, takeOver: true };
    const first = await listenAt(named('first'), { path, mode: 0o600 }, random);
    const second = await listenAt(named('second'), options, random);
    expect((await stat(path)).mode & 0o777).toBe(0o666);
    expect(await first.isCurrent()).toBe(false);
    expect(await second.isCurrent()).toBe(true);
    await first.remove();
    (await rawConnection(path)).destroy();
    const third = await listenAt(named('third'), options, random);
    await second.remove();
    await third.remove();
    (await rawConnection(path)).destroy();
    expect(await third.isCurrent()).toBe(true);
    expect(accepted).toEqual(['second', 'third']);
    expect(await readdir(directory)).toEqual(['api.sock']);
  });

  it('takes over from many that come at once: the last one has the path, and nothing is left beside it', async () => {
    const path = join(directory, 'api.sock');
    await staleSocket(path);
    const files = await Promise.all(
      Array.from({ length: 8 }, () => listenAt(server(), { path, mode: 0o600, takeOver: true }, random)),
    );
    const current = await Promise.all(files.map((file) => file.isCurrent()));
    expect(current.filter((is) => is)).toHaveLength(1);
    (await rawConnection(path)).destroy();
    expect(await readdir(directory)).toEqual(['api.sock']);
  });

  it('clears what a killed process left on the way to the path, when it takes it over, and nothing else', async () => {
    const at = (name: string): string => join(directory, name);
    const listening = server();
    await new Promise<void>((resolve) => listening.listen(at('.beef01'), resolve));
    for (const name of ['.a1b2c3d', '.0f0f', '.other']) await staleSocket(at(name));
    await writeFile(at('.cafe'), '');
    const past = new Date(Date.now() - 60_000);
    for (const name of ['.beef01', '.a1b2c3d', '.other', '.cafe']) await utimes(at(name), past, past);
    const young = ['.0f0f'];
    await listenAt(server(), { path: at('api.sock'), mode: 0o600, takeOver: true }, random);
    expect(await readdir(directory)).toEqual([...young, '.beef01', '.cafe', '.other', 'api.sock']);
  });

  it('says what to do when the path is too long or relative', async () => {
    const long = join(directory, 'x'.repeat(108 - directory.length), 's');
    await expect(listenAt(server(), { path: long, mode: 0o600 }, random)).rejects.toMatchObject({
      code: 'SocketPathTooLong',
      message: expect.stringMatching(/111 bytes.*107.*shorter directory/),
    });
    await expect(listenAt(server(), { path: 'api.sock', mode: 0o600 }, random)).rejects.toMatchObject({
      code: 'SocketPathInvalid',
    });
  });

  it('takes a path of just the length that the kernel takes', async () => {
    const path = join(directory, 'x'.repeat(107 - directory.length - 1));
    expect(path).toHaveLength(107);
    await listenAt(server(), { path, mode: 0o600 }, random);
    (await rawConnection(path)).destroy();
  });

  it('says so when the file system refuses', async () => {
    await writeFile(join(directory, 'file'), '');
    await expect(
      listenAt(server(), { path: join(directory, 'file', 'api.sock'), mode: 0o600 }, random),
    ).rejects.toMatchObject({ code: 'SocketFileFailed', message: expect.stringContaining('api.sock') });
  });

  it('leaves the file alone when it is not the one it made', async () => {
    const path = join(directory, 'api.sock');
    const first = await listenAt(server(), { path, mode: 0o600 }, random);
    await rename(path, join(directory, 'moved'));
    await listenAt(server(), { path, mode: 0o600 }, random);
    await first.remove();
    (await rawConnection(path)).destroy();
    // The same file under its own name again is its own.
    await rm(path);
    await link(join(directory, 'moved'), path);
    await first.remove();
    await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
    await first.remove();
  });
});
