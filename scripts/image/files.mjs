// What the image is made of. The one list: scripts/image.mjs follows it, the Dockerfile runs that script, and
// test/image/image.test.ts holds the rest of the Dockerfile, and .dockerignore, against it.
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { packageFiles, productionPackages, walk } from './modules.mjs';

/** Where the program lies in the image. */
export const HOME = 'opt/signet';

/** What a clean checkout needs to become the image: the build context. */
export const buildSources = [
  'LICENSE',
  'bin',
  'package-lock.json',
  'package.json',
  'scripts/build.mjs',
  'scripts/image',
  'scripts/image.mjs',
  'src',
  'tsconfig.build.json',
  'tsconfig.json',
];

/** What stands in the image's configuration. 65532 is the `nonroot` of distroless images. */
export const settings = {
  User: '65532:65532',
  Entrypoint: ['/usr/bin/node', `/${HOME}/bin/signet`],
  WorkingDir: '/',
};

/** Where the Node of the image lies. */
export const NODE = 'usr/bin/node';

/** The image's kinds of machine: what Node calls what OCI calls so. */
export const cpus = { amd64: 'x64', arm64: 'arm64' };

/** The labels (OCI image annotations) that do not depend on where it is built. */
export function labels({ description, license, version }) {
  return {
    'org.opencontainers.image.title': 'signet',
    'org.opencontainers.image.description': description,
    'org.opencontainers.image.licenses': license,
    'org.opencontainers.image.version': version,
  };
}

/** The program itself: compiled code and the packages it needs, for one kind of machine (`amd64`, `arm64`). */
export function applicationEntries(root, architecture) {
  const entries = [];
  const add = (path) => {
    const source = join(root, path);
    const mode = (statSync(source).mode & 0o111) === 0 ? 0o644 : 0o755;
    entries.push({ path: `${HOME}/${path}`, mode, source });
  };
  add('LICENSE');
  add('package.json');
  for (const file of ['package.json', 'signet']) add(`bin/${file}`);
  for (const file of walk(join(root, 'dist'))) {
    if (!/\.(?:d\.ts|map)$/.test(file)) add(`dist/${file}`);
  }
  const platform = { os: 'linux', cpu: cpus[architecture], libc: 'glibc' };
  for (const folder of productionPackages(root, platform)) {
    for (const file of packageFiles(join(root, folder))) add(`${folder}/${file}`);
  }
  return entries;
}
