import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, mkdir, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { writeImage, type ImageEntry } from '../../scripts/image/archive.mjs';
import { buildSources, HOME, labels, NODE, settings } from '../../scripts/image/files.mjs';

/* The image is what one list says, whoever makes it: the script that needs no container builder, or the Dockerfile. */

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const run = promisify(execFile);
let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'image-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Instruction {
  readonly name: string;
  readonly words: readonly string[];
  readonly text: string;
}

/** The instructions of the Dockerfile, stage by stage; the first stage is what stands before any FROM. */
async function stages(): Promise<readonly (readonly Instruction[])[]> {
  const text = await readFile(join(root, 'Dockerfile'), 'utf8');
  const lines = text
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll(/\\\n\s*/g, '')
    .split('\n');
  const all: Instruction[][] = [[]];
  for (const line of lines.filter((one) => one.trim() !== '')) {
    const [name = '', ...words] = line.split(/\s+/);
    if (name === 'FROM') all.push([]);
    all.at(-1)?.push({ name, words, text: line.slice(name.length + 1) });
  }
  return all;
}

const argumentsOf = (stage: readonly Instruction[], name: string): readonly string[] =>
  stage.filter((one) => one.name === name).map((one) => one.text);

describe('the Dockerfile', () => {
  it('takes from the checkout what the list names, and all of it is there', async () => {
    const copied = (await stages())
      .flat()
      .filter((one) => one.name === 'COPY' && !one.text.startsWith('--from='))
      .flatMap((one) => one.words.slice(0, -1));
    for (const path of copied) await stat(join(root, path));
    const missing = buildSources.filter(
      (path) => !copied.some((one) => path === one || path.startsWith(`${one}/`)),
    );
    const more = copied.filter(
      (one) => !buildSources.some((path) => path === one || path.startsWith(`${one}/`)),
    );
    expect({ missing, more }).toEqual({ missing: [], more: [] });
  });

  it('is shown no other file of the checkout', async () => {
    const lines = (await readFile(join(root, '.dockerignore'), 'utf8')).trim().split('\n');
    const rules = lines.filter((line) => !line.startsWith('#'));
    expect(rules).toEqual(['*', ...buildSources.map((path) => `!${path}`), '**/*.test.ts']);
  });

  it('names every base by a digest that the build is told', async () => {
    const [head = [], ...rest] = await stages();
    const bases = rest.flatMap((stage) => argumentsOf(stage, 'FROM'));
    expect(bases).toHaveLength(3);
    for (const base of bases) expect(base).toMatch(/@\$\{(?:NODE|RUNTIME)_DIGEST\}/);
    // Without a default: a build that is told none fails instead of taking whatever a tag says that day.
    expect(argumentsOf(head, 'ARG')).toEqual(['NODE_DIGEST', 'RUNTIME_DIGEST']);
  });

  it('makes the image that the script makes: the same files, user, entry and labels', async () => {
    const last = (await stages()).at(-1) ?? [];
    expect(argumentsOf(last, 'COPY')).toEqual([
      `--from=node /usr/local/bin/node /${NODE}`,
      `--from=build /image/${HOME} /${HOME}`,
    ]);
    expect(argumentsOf(last, 'USER')).toEqual([settings.User]);
    expect(argumentsOf(last, 'WORKDIR')).toEqual([settings.WorkingDir]);
    expect(JSON.parse(argumentsOf(last, 'ENTRYPOINT').join())).toEqual(settings.Entrypoint);
    // A shell, package manager or another user would come in by one of these.
    expect(argumentsOf(last, 'RUN')).toEqual([]);
    expect(argumentsOf(last, 'ADD')).toEqual([]);
  });

  it('labels it as the script does', async () => {
    const about = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as Parameters<
      typeof labels
    >[0];
    const last = (await stages()).at(-1) ?? [];
    const said = [
      ...argumentsOf(last, 'LABEL')
        .join(' ')
        .matchAll(/([\w.]+)="([^"]*)"/g),
    ];
    expect(Object.fromEntries(said.map(([, name, value]) => [name, value]))).toEqual({
      ...labels({ ...about, version: '${VERSION}' }),
      'org.opencontainers.image.revision': '${REVISION}',
    });
  });
});

describe('what goes into it', () => {
  it('runs alone: nothing that the program loads is left out', async () => {
    const tree = join(folder, 'tree');
    await run(process.execPath, [join(root, 'scripts', 'image.mjs'), '--tree', tree, '--root', root]);
    const signet = join(tree, HOME, 'bin', 'signet');
    for (const command of ['server', 'agent', 'dev']) {
      const { stdout } = await run(process.execPath, [signet, command, '--help'], { cwd: folder });
      expect(stdout).toContain(`Usage: signet ${command}`);
    }
    const packages = await readdir(join(tree, HOME, 'node_modules'));
    expect(packages).toContain('winston');
    for (const left of ['typescript', 'jest', 'node', '@types']) expect(packages).not.toContain(left);
  });

  it('is refused when dist/ is older than src/', async () => {
    const stale = join(folder, 'stale');
    await mkdir(join(stale, 'dist', 'main'), { recursive: true });
    await mkdir(join(stale, 'src'));
    await writeFile(join(stale, 'dist', 'main', 'signet.js'), '');
    const old = new Date(0);
    await utimes(join(stale, 'dist', 'main', 'signet.js'), old, old);
    await writeFile(join(stale, 'src', 'a.ts'), '');
    const script = join(root, 'scripts', 'image.mjs');
    const args = [script, '--tree', join(folder, 'none'), '--root', stale];
    await expect(run(process.execPath, args)).rejects.toThrow('dist/ is older than src/a.ts');
  });
});

describe('the archive', () => {
  const word = fc.stringMatching(/^[a-z0-9é._-]{1,90}$/).filter((name) => !/^\.+$/.test(name));
  const paths = fc.uniqueArray(fc.array(word, { minLength: 1, maxLength: 4 }), {
    selector: (steps) => steps.join('/'),
    maxLength: 6,
  });
  /** Those that are no folder of another. */
  const files = (all: readonly (readonly string[])[]): readonly string[] => {
    const names = all.map((steps) => steps.join('/'));
    return names.filter((name) => !names.some((other) => other.startsWith(`${name}/`)));
  };

  it('unpacks to its entries, names its layer by its digest, and has the same bytes in whatever order they come', async () => {
    let round = 0;
    await fc.assert(
      fc.asyncProperty(
        paths,
        fc.array(fc.uint8Array({ maxLength: 1500 }), { minLength: 6, maxLength: 6 }),
        async (all, bytes) => {
          const at = join(folder, `archive-${++round}`);
          await mkdir(at);
          const entries: ImageEntry[] = files(all).map((path, index) => ({
            path,
            mode: index % 2 === 0 ? 0o644 : 0o755,
            content: bytes[index] ?? new Uint8Array(),
          }));
          const image = { name: 'rig.local/x:1', architecture: 'amd64', config: {} };
          const { digest } = writeImage(join(at, 'a.tar'), { ...image, entries });
          writeImage(join(at, 'b.tar'), { ...image, entries: entries.toReversed() });
          expect(await readFile(join(at, 'b.tar'))).toEqual(await readFile(join(at, 'a.tar')));
          await run('tar', ['xf', 'a.tar'], { cwd: at });
          const layer = await readFile(join(at, 'layer.tar'));
          expect(digest).toBe(`sha256:${createHash('sha256').update(layer).digest('hex')}`);
          await mkdir(join(at, 'root'));
          await run('tar', ['xf', '../layer.tar'], { cwd: join(at, 'root') });
          for (const { path, mode, content = new Uint8Array() } of entries) {
            const unpacked = join(at, 'root', path);
            expect(new Uint8Array(await readFile(unpacked))).toEqual(content);
            expect((await stat(unpacked)).mode & 0o777).toBe(mode);
          }
          const found = await readdir(join(at, 'root'), { recursive: true, withFileTypes: true });
          expect(found.filter((one) => one.isFile())).toHaveLength(entries.length);
        },
      ),
      { numRuns: 40 },
    );
  });
});
