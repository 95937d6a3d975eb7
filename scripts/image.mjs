// Builds the container image, or the part of it that the Dockerfile takes, without a container builder.
// Usage: node scripts/image.mjs --out FILE.tar [--name NAME:TAG] [--root DIR] [--node FILE]
//        node scripts/image.mjs --tree DIR [--architecture amd64|arm64] [--root DIR]
// The first needs dist/ of the present src/ (`npm run build`), and Linux with the C library that the image shall have.
import { chmodSync, cpSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeImage } from './image/archive.mjs';
import { baseEntries, libraryEntries } from './image/base.mjs';
import { applicationEntries, cpus, labels, NODE, settings } from './image/files.mjs';
import { walk } from './image/modules.mjs';

const { values } = parseArgs({
  options: {
    out: { type: 'string' },
    tree: { type: 'string' },
    name: { type: 'string' },
    root: { type: 'string' },
    node: { type: 'string' },
    architecture: { type: 'string' },
  },
});
const root = resolve(values.root ?? join(dirname(fileURLToPath(import.meta.url)), '..'));
const own = Object.keys(cpus).find((one) => cpus[one] === process.arch);
const architecture = values.architecture ?? own;
if ((values.out === undefined) === (values.tree === undefined))
  fail('say either --out FILE.tar or --tree DIR');
if (!(architecture in cpus)) fail(`no image for ${architecture}: one of ${Object.keys(cpus).join(', ')}`);
checkFresh();
const application = applicationEntries(root, architecture);
if (values.tree !== undefined) writeTree(resolve(values.tree));
else writeArchive(resolve(values.out));

/** An image of yesterday's code would make every test of it worthless. */
function checkFresh() {
  const built = statSync(join(root, 'dist', 'main', 'signet.js'), { throwIfNoEntry: false });
  if (built === undefined) fail('there is no dist/: run `npm run build`');
  const source = join(root, 'src');
  const newer = walk(source).find(
    (file) => /(?<!\.test)\.ts$/.test(file) && statSync(join(source, file)).mtimeMs > built.mtimeMs,
  );
  if (newer !== undefined) fail(`dist/ is older than src/${newer}: run \`npm run build\``);
}

function writeTree(folder) {
  for (const { path, mode, source } of application) {
    const target = join(folder, path);
    mkdirSync(dirname(target), { recursive: true });
    cpSync(source, target, { dereference: true });
    chmodSync(target, mode);
  }
}

function writeArchive(file) {
  if (architecture !== own)
    fail(`the libraries of this machine are ${own}'s: only --tree is possible for ${architecture}`);
  const about = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const name = values.name ?? `signet:${about.version}`;
  const node = values.node ?? process.execPath;
  if (values.node === undefined && Number(process.versions.node.split('.')[0]) < 24) {
    fail(
      `the image has Node 24 or newer, this is ${process.versions.node}: run it by node_modules/.bin/node`,
    );
  }
  const addons = application.filter(({ path }) => path.endsWith('.node')).map(({ source }) => source);
  const entries = [
    ...baseEntries(),
    { path: NODE, mode: 0o755, source: node },
    ...libraryEntries([node, ...addons]),
    ...application,
  ];
  mkdirSync(dirname(file), { recursive: true });
  const config = {
    ...settings,
    Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    Labels: labels(about),
  };
  const { digest, size } = writeImage(file, { name, architecture, config, entries });
  console.log(`${name}\t${digest}\t${(size / 1048576).toFixed(1)} MiB\t${file}`);
}

function fail(why) {
  console.error(`image: ${why}`);
  process.exit(1);
}
