// Builds the real parts ahead of the tests: `node test/rig/build.mjs [name…]`, all that tests need unless named.
import { spawnSync } from 'node:child_process';
import { fileURLToPath, URL } from 'node:url';

// The Node that `npm ci` brought runs TypeScript; the one on PATH may be older.
if (Number(process.versions.node.split('.')[0]) < 24) {
  const pinned = fileURLToPath(new URL('../../node_modules/node/bin/node', import.meta.url));
  const { status, error } = spawnSync(pinned, process.argv.slice(1), { stdio: 'inherit' });
  if (error) console.error(`rig: needs Node 24, this is ${process.versions.node}: run \`npm ci\` first`);
  process.exit(status ?? 78);
}
await import('../support/run-typescript.mjs');
const { built } = await import('./cache.ts');
const { nodeParts } = await import('./node-parts.ts');
const rig = await import('./rig.ts');
const { spireParts } = await import('./spire.ts');
const parts = { ...rig.parts, ...spireParts };

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !(name in parts));
if (unknown.length > 0) {
  console.error(`rig: no part ${unknown.join(', ')}; there are ${Object.keys(parts).join(', ')}`);
  process.exit(2);
}
for (const [name, part] of Object.entries(parts)) {
  // What only benchmarks need is built for who names it.
  if (wanted.length > 0 ? !wanted.includes(name) : name in spireParts) continue;
  // A node cannot be started, so what only a node runs would be built for nothing.
  if (wanted.length === 0 && name in nodeParts && process.getuid() !== 0) {
    console.error(`rig: ${name} is left out: a cluster with a node needs root`);
    continue;
  }
  try {
    console.log(`${name}\t${await built(part)}`);
  } catch (error) {
    console.error(`rig: ${name}: ${error.message}`);
    process.exitCode = 1;
  }
}
