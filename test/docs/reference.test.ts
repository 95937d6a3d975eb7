import { describe, expect, it } from '@jest/globals';
import type { Command } from 'commander';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { buildProgram } from '../../src/cli/program.js';
import type { CliIo } from '../../src/cli/io.js';
import { systemClock } from '../../src/lib/clock.js';
import { servingCommands } from '../../src/main/commands.js';
import { METRICS } from '../../src/operate/metrics/catalogue.js';

/* Nothing is left out of the reference, and a reader who begins at README.md comes to every page. */

const root = join(import.meta.dirname, '..', '..');
const read = (...path: readonly string[]): string => readFileSync(join(root, ...path), 'utf8');
const filesBelow = (folder: string, end: string): readonly string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith(end))
    .map((file) => join(folder, file));

/** Names of all commands, as a user types them. */
function commandNames(): readonly string[] {
  const ignore = (): void => undefined;
  const io: CliIo = {
    ...{ clock: systemClock, environment: {}, stdout: ignore, stderr: ignore },
    signal: new AbortController().signal,
  };
  const namesBelow = (command: Command, name: string): readonly string[] => [
    name,
    ...command.commands.flatMap((child) => namesBelow(child, `${name} ${child.name()}`)),
  ];
  return namesBelow(buildProgram(io, '', servingCommands(io, '')), 'signet');
}

/** Codes that the source raises literally: `new SomeError('Code', …`. */
function errorCodes(): readonly string[] {
  const texts = filesBelow('src', '.ts')
    .filter((file) => !file.endsWith('.test.ts'))
    .map((file) => read(file));
  const found = texts.flatMap((text) => [...text.matchAll(/new \w+Error\(\s*'([A-Z][A-Za-z0-9]+)'/g)]);
  return [...new Set(found.map(([, code = '']) => code))].sort();
}

describe('the reference', () => {
  it.each(filesBelow('crds', '.yaml'))('has a page of %s, and names it in its index', (file) => {
    const page = file.replace(/^crds\/(.*)\.yaml$/, '$1.md');
    expect(existsSync(join(root, 'docs/reference/crds', page))).toBe(true);
    expect(read('docs/reference/crds/README.md')).toContain(`](${page})`);
  });

  it('has a section of each command', () => {
    const names = commandNames();
    expect(names.length).toBeGreaterThan(30);
    const headings = [...read('docs/reference/cli.md').matchAll(/^## (.*)$/gm)].map(([, title]) => title);
    expect(headings).toEqual(names);
  });

  it('has a line of each error code', () => {
    const codes = errorCodes();
    expect(codes.length).toBeGreaterThan(100);
    const page = read('docs/reference/errors.md');
    expect(codes.filter((code) => !page.includes(`\n| \`${code}\` |`))).toEqual([]);
    // And it says something of each.
    expect(page.match(/^\| `\w+` \|[^|]*\| *\|$/gm)).toBeNull();
  });

  it('has a line of each metric', () => {
    const names = Object.values(METRICS).map(({ name }) => name);
    expect(names.length).toBeGreaterThan(20);
    const page = read('docs/reference/metrics.md');
    expect(names.filter((name) => !page.includes(`| \`${name}\` |`))).toEqual([]);
  });
});

describe('a reader of README.md', () => {
  it('comes to every page', () => {
    const seen = new Set<string>();
    const visit = (page: string): void => {
      if (seen.has(page)) return;
      seen.add(page);
      for (const [, target = ''] of read(page).matchAll(/\]\(([^)\s#]+\.md)(?:#[^)\s]*)?\)/g))
        if (!/^[a-z]+:/.test(target)) visit(normalize(join(dirname(page), target)));
    };
    visit('README.md');
    expect(filesBelow('docs', '.md').filter((page) => !seen.has(page))).toEqual([]);
    expect([...seen]).toEqual(expect.arrayContaining(['ARCHITECTURE.md', 'CONTRIBUTING.md']));
  });
});
