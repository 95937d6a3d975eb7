// Replaces the files of a volume for as long as it lives, and says each generation that is there: to be killed.
import { argv, stdout } from 'node:process';
import { SetDirectory } from '../../src/agent/files/set-directory.js';
import { systemClock } from '../../src/lib/clock.js';

const [, , path = '', from = '0'] = argv;
const directory = new SetDirectory(path, undefined, systemClock);
for (let generation = Number(from); ; generation++) {
  const content = Buffer.from(`${generation}`.repeat(2_000));
  const file = { version: `${generation}`, expiresAt: Infinity, endsAt: Infinity, mode: 0o400, content };
  directory.publish([
    { ...file, path: 'tls.crt' },
    { ...file, path: 'tls.key' },
    // A directory that comes and goes.
    { ...file, path: `${generation % 2 === 0 ? 'jwt' : 'bundles'}/x` },
  ]);
  stdout.write(`${generation}\n`);
  if (generation % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
}
