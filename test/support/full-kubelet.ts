// Sockets and mounts on a file system that is full, then read-only, then neither: started in a mount namespace of its own.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { argv, stdout } from 'node:process';
import { systemRandom } from '../../src/lib/random.js';
import { linuxMounts } from '../../src/rpc/mount/linux.js';
import { listenAt } from '../../src/rpc/socket-file.js';

const [, , root = '', source = ''] = argv;
const mounted = (...options: string[]): unknown => execFileSync('mount', [...options, root]);
mounted('-t', 'tmpfs', '-o', 'size=256k,nr_inodes=16', 'tmpfs');
mkdirSync(join(root, 'pods'));
mkdirSync(join(root, 'plugins'));
writeFileSync(join(source, 'file'), 'here');
const mounts = await linuxMounts();

const said = async (act: () => unknown): Promise<string> => {
  try {
    await act();
    return 'done';
  } catch (error) {
    const { code, message } = error as { readonly code: string; readonly message: string };
    return `${code}: ${message}`;
  }
};
const place = { root, path: 'pods/mount' };
const look = async (): Promise<unknown> => {
  const server = createServer();
  const options = { path: join(root, 'plugins', 'csi.sock'), mode: 0o600, takeOver: true };
  const listening = await said(() => listenAt(server, options, systemRandom));
  server.close();
  const mount = await said(() => mounts.bind(source, place));
  const left = ['pods', 'plugins', 'pods/mount'].map((name) => {
    try {
      return readdirSync(join(root, name));
    } catch {
      return 'absent';
    }
  });
  return { listening, mount, left };
};
const say = (what: string, value: unknown): boolean => stdout.write(`${JSON.stringify([what, value])}\n`);

for (let at = 0; ; at++)
  try {
    writeFileSync(join(root, `filler-${at}`), '');
  } catch {
    break;
  }
say('full', await look());
for (const name of readdirSync(root)) if (name.startsWith('filler')) rmSync(join(root, name));
mounted('-o', 'remount,ro');
say('read-only', await look());
mounted('-o', 'remount,rw');
say('well', await look());
mounts.unbind(place);
say('after', readdirSync(join(root, 'pods')));
