// Which packages of node_modules the program needs when it runs, and which of their files.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, relative } from 'node:path';

/** Files that say something to people and compilers, not to Node. Licences stay. */
const LEFT_OUT_FILES = /\.(?:d\.[cm]?ts|[cm]?ts|tsx|map|md|markdown|flow|tsbuildinfo)$/;
const KEPT_FILES = /^(?:licen[cs]e|notice|copying)/i;
/** Folders at the top of a package that its program does not use. */
const LEFT_OUT_FOLDERS = new Set([
  'test',
  'tests',
  '__tests__',
  'docs',
  'doc',
  'example',
  'examples',
  'man',
  '.github',
]);

/**
 * The folders of the packages that the program needs on this kind of machine, as they are installed: those that Node finds
 * from `root` on, by each package.json. Without those that hold types only.
 */
export function productionPackages(root, { os, cpu, libc }) {
  const found = new Set();
  const visit = (folder) => {
    const about = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
    const optional = new Set([
      ...Object.keys(about.optionalDependencies ?? {}),
      ...Object.keys(about.peerDependencies ?? {}),
    ]);
    for (const name of new Set([...Object.keys(about.dependencies ?? {}), ...optional])) {
      if (name.startsWith('@types/')) continue;
      const path = resolvePackage(root, folder, name);
      if (path === undefined && optional.has(name)) continue;
      if (path === undefined)
        throw new Error(`${folder || 'the program'} needs ${name}, which is not installed: run \`npm ci\``);
      if (found.has(path)) continue;
      const needs = JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8'));
      if (!fits(needs.os, os) || !fits(needs.cpu, cpu) || !fits(needs.libc, libc)) continue;
      found.add(path);
      visit(path);
    }
  };
  visit('');
  return [...found].sort();
}

/** Where Node finds `name` from a package in `folder` (empty: the root): the nearest node_modules on the way up. */
function resolvePackage(root, folder, name) {
  const steps = folder === '' ? [] : folder.split(/(?:^|\/)node_modules\//).slice(1);
  for (let depth = steps.length; depth >= 0; depth--) {
    const path = [...steps.slice(0, depth), name].map((step) => `node_modules/${step}`).join('/');
    if (existsSync(join(root, path, 'package.json'))) return path;
  }
  return undefined;
}

function fits(wanted, value) {
  if (wanted === undefined) return true;
  return (
    wanted.includes(value) || (wanted.some((one) => one.startsWith('!')) && !wanted.includes(`!${value}`))
  );
}

/** The files of one package that the image has, relative to it. Packages inside it are listed for themselves. */
export function packageFiles(folder) {
  return walk(folder, (path) => {
    const top = path.split('/')[0];
    return top === 'node_modules' || (path === top && LEFT_OUT_FOLDERS.has(top));
  }).filter((path) => KEPT_FILES.test(basename(path)) || !LEFT_OUT_FILES.test(path));
}

/** All files below a folder, in the order of their names, but for the folders that `isLeftOut` names by their relative path. */
export function walk(folder, isLeftOut = () => false, at = folder) {
  const files = [];
  for (const entry of readdirSync(at, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(at, entry.name);
    const isFolder = entry.isSymbolicLink() ? statSync(path).isDirectory() : entry.isDirectory();
    if (!isFolder) files.push(relative(folder, path));
    else if (!isLeftOut(relative(folder, path))) files.push(...walk(folder, isLeftOut, path));
  }
  return files;
}
