// Builds what `kubectl krew` installs: an archive that holds the program with its Node, and the manifest that names it.
// Usage: node scripts/plugin.mjs --out DIR --url PREFIX [--architecture amd64|arm64 --node FILE]
// PREFIX is where the archive will be published; the manifest's address is PREFIX/<archive>. Needs dist/ (`npm run build`).
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { withFolders } from './image/archive.mjs';
import { applicationEntries, cpus, HOME, NODE } from './image/files.mjs';
import { header, padding } from './image/tar.mjs';

const { values } = parseArgs({
  options: {
    out: { type: 'string' },
    url: { type: 'string' },
    architecture: { type: 'string' },
    node: { type: 'string' },
  },
});
const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const own = Object.keys(cpus).find((one) => cpus[one] === process.arch);
const architecture = values.architecture ?? own;
if (values.out === undefined || values.url === undefined) fail('say --out DIR and --url PREFIX');
if (!(architecture in cpus)) fail(`no plugin for ${architecture}: one of ${Object.keys(cpus).join(', ')}`);
if (architecture !== own && values.node === undefined)
  fail(`this machine's Node is for ${own}: name one for ${architecture} with --node`);

/** What kubectl starts. */
const LAUNCHER = 'kubectl-signet';
const launcher = `#!/bin/sh
# Starts Signet as a plugin of kubectl, with the Node that came with it.
here=$(dirname "$(readlink -f "$0")")
SIGNET_KUBECTL_PLUGIN=1 exec "$here/${NODE}" "$here/${HOME}/bin/signet" "$@"
`;

const { version, license } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const archive = `kubectl-signet_linux_${architecture}.tar.gz`;
const bytes = gzipSync(
  tar([
    { path: LAUNCHER, mode: 0o755, content: Buffer.from(launcher) },
    { path: 'LICENSE', mode: 0o644, source: join(root, 'LICENSE') },
    { path: NODE, mode: 0o755, source: values.node ?? process.execPath },
    ...applicationEntries(root, architecture),
  ]),
);
const out = resolve(values.out);
mkdirSync(out, { recursive: true });
writeFileSync(join(out, archive), bytes);
writeFileSync(join(out, 'signet.yaml'), manifest(createHash('sha256').update(bytes).digest('hex')));
console.log(`${join(out, archive)}\t${(bytes.length / 1048576).toFixed(1)} MiB`);

/** One archive of the entries, in memory: a plugin is some 150 MB before it is compressed. */
function tar(entries) {
  const parts = [];
  for (const { path, mode, content, source } of withFolders(entries)) {
    if (content === undefined && source === undefined) {
      parts.push(header({ path, mode, folder: true }));
      continue;
    }
    const text = content ?? readFileSync(source);
    // What krew unpacks keeps its modes; a program must be one.
    const executable = content !== undefined || (statSync(source).mode & 0o111) !== 0;
    parts.push(
      header({ path, mode: executable ? 0o755 : mode, size: text.length }),
      text,
      padding(text.length),
    );
  }
  parts.push(Buffer.alloc(1024));
  return Buffer.concat(parts);
}

/** A Plugin of krew.googlecontainertools.github.com/v1alpha2. */
function manifest(sha256) {
  return `apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: signet
spec:
  version: v${version}
  shortDescription: Workload identities, and who may reach whom
  description: |
    Asks a cluster that runs Signet: how it is (status, agents), who may reach
    what and why (explain, graph, lint, diff), what was denied (logs), and
    which authorities sign (ca). License: ${license}.
  platforms:
    - selector:
        matchLabels:
          os: linux
          arch: ${architecture}
      uri: ${values.url.replace(/\/$/, '')}/${archive}
      sha256: ${sha256}
      bin: ${LAUNCHER}
      files:
        - from: '*'
          to: '.'
`;
}

function fail(why) {
  console.error(`plugin: ${why}`);
  process.exit(1);
}
