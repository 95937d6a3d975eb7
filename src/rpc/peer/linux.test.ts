import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readlink, rm, writeFile } from 'node:fs/promises';
import type { Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linuxPeerCredentials, peerCredentialsReader, startTime } from './linux.js';

let directory: string;
let path: string;
let server: Server;
const children: ChildProcess[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'signet-peer-'));
  path = join(directory, 's.sock');
  server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  server.close();
  await rm(directory, { recursive: true, force: true });
});

/** A process that connects and stays until it is killed. */
async function childConnection(): Promise<{ child: ChildProcess; socket: Socket }> {
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const script = `require('node:net').connect(${JSON.stringify(path)}); setInterval(() => {}, 1000)`;
  const child = spawn(process.execPath, ['-e', script], { stdio: 'ignore' });
  children.push(child);
  const [socket] = await accepted;
  socket.on('error', () => undefined);
  return { child, socket };
}

/** The pidfds that this process holds. */
async function openPidfds(): Promise<number> {
  const names = await readdir('/proc/self/fd');
  const targets = await Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')));
  return targets.filter((target) => target.includes('pidfd')).length;
}

/** System calls of a kernel before 6.5, or of one that answers with other errors. */
function scripted(options: { pid: number; pidfdError: string }) {
  return {
    getsockopt(_fd: number, _level: number, name: number, value: Buffer): number {
      if (name !== 17) return -1;
      value.writeInt32LE(options.pid, 0);
      value.writeUInt32LE(1000, 4);
      value.writeUInt32LE(2000, 8);
      return 0;
    },
    poll: () => 0,
    errno: () => 1,
    errnoName: () => options.pidfdError,
  };
}

const openSocket = { _handle: { fd: 5 } } as unknown as Socket;

describe('the credentials of a peer', () => {
  it('are those of the process that connected, and end with it', async () => {
    const reader = await linuxPeerCredentials();
    const { child, socket } = await childConnection();
    expect(await openPidfds()).toBe(0);
    const credentials = reader.read(socket);
    expect(credentials).toMatchObject({
      pid: child.pid,
      uid: process.getuid?.(),
      gid: process.getgid?.(),
    });
    expect(credentials.isAlive()).toBe(true);
    expect(await openPidfds()).toBe(1);
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
    expect(credentials.isAlive()).toBe(false);
    credentials.close();
    credentials.close();
    expect(credentials.isAlive()).toBe(false);
    expect(await openPidfds()).toBe(0);
    socket.destroy();
  });

  it('count a process that ended before it was waited for as dead', async () => {
    const reader = await linuxPeerCredentials();
    // The shell starts the client, which it never waits for: it stays a zombie.
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const client = `require('node:net').connect(${JSON.stringify(path)}).on('data', () => process.exit())`;
    const parent = spawn('/bin/sh', ['-c', '"$NODE" -e "$SCRIPT" & exec sleep 60'], {
      stdio: 'ignore',
      env: { NODE: process.execPath, SCRIPT: client },
    });
    children.push(parent);
    const [socket] = await accepted;
    socket.on('error', () => undefined);
    const credentials = reader.read(socket);
    expect(credentials.isAlive()).toBe(true);
    const closed = once(socket, 'close');
    socket.resume();
    socket.write('x');
    await closed;
    while (credentials.isAlive()) await new Promise((resolve) => setImmediate(resolve));
    expect(startTime('/proc', credentials.pid)).toBeUndefined();
    credentials.close();
  });

  it('are refused for a socket that is closed', async () => {
    const reader = await linuxPeerCredentials();
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const client = connect(path);
    const [socket] = await accepted;
    socket.destroy();
    expect(() => reader.read(socket)).toThrow(expect.objectContaining({ code: 'PeerUnreadable' }));
    client.destroy();
  });

  it('are refused for a peer outside the pid namespace', () => {
    const reader = peerCredentialsReader(scripted({ pid: 0, pidfdError: 'ENOPROTOOPT' }));
    expect(() => reader.read(openSocket)).toThrow(expect.objectContaining({ code: 'PeerUnknown' }));
  });

  it('are refused when the kernel says that the peer has ended', () => {
    const reader = peerCredentialsReader(scripted({ pid: 7, pidfdError: 'ESRCH' }));
    expect(() => reader.read(openSocket)).toThrow(expect.objectContaining({ code: 'PeerGone' }));
  });

  it.each([
    ['EINTR', [-1, -1, 0], true],
    ['EINTR', [-1, 1], false],
    ['EINVAL', [-1, 0], false],
  ])('outlive a signal to us, and nothing else: %s, then %j', (error, answers, alive) => {
    const answer = [...answers];
    const reader = peerCredentialsReader({
      ...scripted({ pid: 7, pidfdError: error }),
      getsockopt(_fd, _level, name, value): number {
        value.writeInt32LE(name === 17 ? 7 : openSync('/dev/null', 'r'), 0);
        return 0;
      },
      poll: () => answer.shift() ?? 0,
    });
    const credentials = reader.read(openSocket);
    expect(credentials.isAlive()).toBe(alive);
    credentials.close();
  });

  it('fail closed on an error nobody expects', () => {
    const reader = peerCredentialsReader(scripted({ pid: 7, pidfdError: 'EPERM' }));
    expect(() => reader.read(openSocket)).toThrow(expect.objectContaining({ code: 'PeerUnreadable' }));
  });
});

describe('without pidfds', () => {
  const stat = (name: string, state: string, started: number) =>
    `77 (${name}) ${state} 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 ${started} 10 10 18446744073709551615\n`;

  async function proc(content: string): Promise<string> {
    await mkdir(join(directory, '77'), { recursive: true });
    await writeFile(join(directory, '77', 'stat'), content);
    return directory;
  }

  it('a process is known by its start time, so a reused number is another process', async () => {
    const reader = peerCredentialsReader(
      scripted({ pid: 77, pidfdError: 'ENOPROTOOPT' }),
      await proc(stat('a) S 1 (b', 'S', 4711)),
    );
    const credentials = reader.read(openSocket);
    expect(credentials).toMatchObject({ pid: 77, uid: 1000, gid: 2000 });
    expect(credentials.isAlive()).toBe(true);
    await proc(stat('a) S 1 (b', 'S', 4712));
    expect(credentials.isAlive()).toBe(false);
    await proc(stat('a', 'Z', 4711));
    expect(credentials.isAlive()).toBe(false);
    await rm(join(directory, '77'), { recursive: true });
    expect(credentials.isAlive()).toBe(false);
  });

  it('a process that is gone is refused', async () => {
    const reader = peerCredentialsReader(scripted({ pid: 77, pidfdError: 'ENOPROTOOPT' }), directory);
    expect(() => reader.read(openSocket)).toThrow(expect.objectContaining({ code: 'PeerGone' }));
  });

  it('reads the start time of this very process', () => {
    expect(startTime('/proc', process.pid)).toMatch(/^\d+$/);
  });
});
