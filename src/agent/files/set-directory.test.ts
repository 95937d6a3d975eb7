import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { type NewFile, SetDirectory } from './set-directory.js';

const support = join(import.meta.dirname, '../../../test/support');
const RUN = ['--disable-warning=ExperimentalWarning', '--import', join(support, 'run-typescript.mjs')];

let path: string;
let clock: FakeClock;
beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), 'signet-set-'));
  clock = new FakeClock();
});
afterEach(() => rmSync(path, { recursive: true, force: true }));

const file = (name: string, version: string, changes: Partial<NewFile> = {}): NewFile => ({
  path: name,
  version,
  expiresAt: Infinity,
  endsAt: Infinity,
  mode: 0o444,
  content: Buffer.from(`${name} ${version}`),
  ...changes,
});
const open = (): SetDirectory => new SetDirectory(path, undefined, clock);
const read = (name: string): string => readFileSync(join(path, name), 'utf8');
const names = (): string[] => readdirSync(path).sort();
const sets = (): string[] => names().filter((name) => name.startsWith('..') && name !== '..data');

/** Everything that can be read by name. */
function contents(): Record<string, string> {
  const found: Record<string, string> = {};
  const walk = (below: string): void => {
    for (const name of readdirSync(join(path, below))) {
      if (name.startsWith('..')) continue;
      const at = below === '' ? name : `${below}/${name}`;
      if (statSync(join(path, at)).isDirectory()) walk(at);
      else found[at] = read(at);
    }
  };
  walk('');
  return found;
}

describe('SetDirectory', () => {
  it('has exactly the files of the last set, whatever sets came before, and at most one set besides', () => {
    const paths = ['tls.crt', 'tls.key', 'jwt/a', 'jwt/b', 'x/jwt/a', 'x/tls.key'];
    const set = fc.dictionary(fc.constantFrom(...paths), fc.constantFrom('1', '2', '3'));
    fc.assert(
      fc.property(fc.array(fc.tuple(set, fc.boolean()), { maxLength: 8 }), (steps) => {
        const directory = open();
        for (const [files, isReopened] of steps) {
          const now = isReopened ? open() : directory;
          now.publish(
            Object.entries(files).map(([name, version]) => {
              const { content, ...rest } = file(name, version);
              return now.has(name, version)
                ? rest
                : { ...rest, ...(content === undefined ? {} : { content }) };
            }),
          );
          expect(contents()).toEqual(
            Object.fromEntries(Object.entries(files).map(([name, version]) => [name, `${name} ${version}`])),
          );
          expect(sets().length).toBeLessThanOrEqual(2);
        }
        open().clear();
        expect(names()).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  it('lets a reader that resolved ..data read a whole set to its end', async () => {
    const directory = open();
    directory.publish([file('tls.crt', '1'), file('tls.key', '1')]);
    const resolved = realpathSync(join(path, '..data'));
    const handle = openSync(join(path, 'tls.crt'), 'r');
    directory.publish([file('tls.crt', '2'), file('tls.key', '2')]);
    expect(readFileSync(join(resolved, 'tls.key'), 'utf8')).toBe('tls.key 1');
    expect(readFileSync(handle, 'utf8')).toBe('tls.crt 1');
    closeSync(handle);
    await clock.advance(10_000);
    expect(existsSync(resolved)).toBe(false);
    expect(read('tls.key')).toBe('tls.key 2');
  });

  it('withdraws files at once, from the set before too', () => {
    const directory = open();
    directory.publish([file('tls.key', '1'), file('ca.crt', '1')]);
    directory.publish([file('tls.key', '2'), file('ca.crt', '1')]);
    const key = openSync(join(path, 'tls.key'), 'r');
    expect(directory.withdraw((name) => name === 'tls.key')).toEqual(['tls.key']);
    closeSync(key);
    expect(sets()).toHaveLength(1);
    expect(contents()).toEqual({ 'ca.crt': 'ca.crt 1' });
    expect(names()).toEqual([...sets(), '..data', 'ca.crt'].sort());
    expect(directory.withdraw(() => true)).toEqual(['ca.crt']);
    expect(names()).toEqual([]);
  });

  it('knows after a restart when what it finds expires, and what it cannot tell has expired', () => {
    open().publish([file('tls.key', '1', { expiresAt: 1_000 }), file('ca.crt', '1')]);
    const later = open();
    expect([...later.live].map(([name, { expiresAt }]) => [name, expiresAt])).toEqual([
      ['tls.key', 1_000],
      ['ca.crt', Infinity],
    ]);
    // Another process's content is not known.
    expect(later.has('tls.key', '1')).toBe(false);
    rmSync(join(path, '..data', '.expires'));
    const damaged = open();
    expect(damaged.withdraw((_name, { expiresAt }) => expiresAt <= 0)).toHaveLength(1);
    expect(names()).toEqual([]);
  });

  it('gives way to another process in the same volume, and takes over again', () => {
    const one = open();
    one.publish([file('tls.key', '1'), file('ca.crt', '1')]);
    const other = open();
    other.publish([file('tls.key', '2'), file('ca.crt', '2')]);
    expect(one.has('ca.crt', '1')).toBe(false);
    one.publish([file('tls.key', '3'), file('ca.crt', '3')]);
    expect(contents()).toEqual({ 'tls.key': 'tls.key 3', 'ca.crt': 'ca.crt 3' });
    other.clear();
    expect(names()).toEqual([]);
  });

  it('touches nothing that is not its own, and follows no link out of the volume', () => {
    writeFileSync(join(path, 'api.sock'), '');
    symlinkSync('/etc/passwd', join(path, 'tls.crt'));
    const outside = mkdtempSync(join(tmpdir(), 'signet-outside-'));
    symlinkSync(outside, join(path, '..data'));
    const directory = open();
    expect(directory.live.size).toBe(0);
    expect(() => directory.publish([file('tls.crt', '1')])).toThrow('tls.crt is there already');
    expect(() => directory.publish([file('api.sock', '1')])).toThrow('api.sock is there already');
    expect(names()).toEqual(['..data', 'api.sock', 'tls.crt']);
    directory.publish([file('tls.key', '1')]);
    expect(readlinkSync(join(path, '..data'))).toMatch(/^\.\.\d{4}_/);
    expect(existsSync(outside)).toBe(true);
    rmSync(outside, { recursive: true });
  });

  it('leaves the old set when the new one cannot be made', () => {
    const directory = open();
    directory.publish([file('tls.crt', '1')]);
    const before = names();
    expect(() => directory.publish([file('tls.crt', '2'), file('x'.repeat(300), '2')])).toThrow(
      'ENAMETOOLONG',
    );
    expect(names()).toEqual(before);
    expect(contents()).toEqual({ 'tls.crt': 'tls.crt 1' });
    expect(directory.has('tls.crt', '1')).toBe(true);
  });

  it('opens directories to readers whatever the umask is', () => {
    const umask = process.umask(0o077);
    try {
      open().publish([file('x/jwt/a', '1')]);
    } finally {
      process.umask(umask);
    }
    for (const name of ['..data', 'x', 'x/jwt']) expect(statSync(join(path, name)).mode & 0o777).toBe(0o755);
    expect(statSync(join(path, 'x/jwt/a')).mode & 0o777).toBe(0o444);
  });
});

describe('a process that is killed while it writes', () => {
  it('leaves a whole set, the last that it told of or the next, and the next process leaves no litter', async () => {
    const volume = join(path, 'volume');
    mkdirSync(volume);
    let generation = 0;
    for (let round = 0; round < 12; round++) {
      const child = spawn(
        process.execPath,
        [...RUN, join(support, 'set-writer.ts'), volume, String(generation + 1)],
        {
          stdio: ['ignore', 'pipe', 'inherit'],
        },
      );
      const ended = once(child, 'close');
      let told = 0;
      let lines = 0;
      for await (const line of createInterface(child.stdout)) {
        told = Math.max(told, Number(line));
        if (++lines === 5 + round * 7) child.kill('SIGKILL');
      }
      await ended;
      const content = (name: string): string => readFileSync(join(volume, name), 'utf8');
      const certificate = content('tls.crt');
      expect(content('tls.key')).toBe(certificate);
      generation = Number(certificate.slice(0, certificate.length / 2_000));
      expect(certificate).toBe(`${generation}`.repeat(2_000));
      expect(generation).toBeGreaterThanOrEqual(told);
    }
    const directory = new SetDirectory(volume, undefined, clock);
    directory.publish([file('tls.crt', 'end')]);
    directory.close();
    expect(readdirSync(volume).sort()).toEqual(
      [readlinkSync(join(volume, '..data')), '..data', 'tls.crt'].sort(),
    );
    expect(readFileSync(join(volume, 'tls.crt'), 'utf8')).toBe('tls.crt end');
  }, 60_000);
});

const rootIt = process.getuid?.() === 0 ? it : it.skip;

describe('a volume without room', () => {
  rootIt('keeps the old set, says so once, and goes on when there is room; what must go, goes', () => {
    const output = execFileSync(
      'unshare',
      ['-m', process.execPath, ...RUN, join(support, 'full-volume.ts'), path],
      { encoding: 'utf8' },
    );
    const said = new Map(
      output
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { what: string; value: unknown })
        .map(({ what, value }) => [what, value]),
    );
    const full = expect.stringContaining('there is no room for the files of the volume (ENOSPC)');
    expect(Object.fromEntries(said)).toEqual({
      full: { kind: 'failing', reason: full },
      'old set is whole': true,
      sets: 1,
      warnings: 1,
      'new set': true,
      'token before and after its life': [true, false],
      'left when full': [],
      'key there': false,
      unwritten: expect.any(String),
    });
    expect(said.get('unwritten')).not.toBe('written');
  });
});
