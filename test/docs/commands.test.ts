import { describe, expect, it } from '@jest/globals';
import type { Command } from 'commander';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildProgram, runProgram } from '../../src/cli/program.js';
import type { CliIo } from '../../src/cli/io.js';
import { systemClock } from '../../src/lib/clock.js';
import { servingCommands } from '../../src/main/commands.js';

/* The commands that the pages show are the program's, with its options; what they are shown to print they print. */

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md') && !file.startsWith('reference'))
    .map((file) => join('docs', file)),
];

/** A page whose commands go over several lines has them on one. */
const read = (page: string): string => readFileSync(join(root, page), 'utf8').replaceAll(/\\\n\s*/g, '');

function ioTo(write: (text: string) => void, complain: (text: string) => void = () => undefined): CliIo {
  return {
    clock: systemClock,
    environment: {},
    stdout: write,
    stderr: complain,
    signal: new AbortController().signal,
  };
}

/** Every command line of a page, in blocks and in running text. */
function commandLines(page: string): readonly string[] {
  const text = read(page);
  const blocks = [...text.matchAll(/^ *```(?:sh|console|text)?\n([\s\S]*?)^ *```$/gm)].flatMap(
    ([, block = '']) => block.split('\n').map((line) => line.trim().replace(/^\$ /, '')),
  );
  const inline = [...text.replaceAll(/^ *```[\s\S]*?^ *```$/gm, '').matchAll(/`([^`\n]+)`/g)].map(
    ([, code = '']) => code,
  );
  return [...blocks, ...inline]
    .map((line) => line.replace(/^([A-Z_]+=\S+ )*/, '').replace(/ [#&|>] ?.*$/, ''))
    .filter((line) => /^(bin\/)?signet [a-z]/.test(line));
}

/** What the program does not know of a command line. */
function unknownIn(line: string): readonly string[] {
  let command: Command = buildProgram(
    ioTo(() => undefined),
    '',
    servingCommands(
      ioTo(() => undefined),
      '0.0.0',
    ),
  );
  const known = new Set(['--help', '--version']);
  const unknown: string[] = [];
  for (const [index, word] of line.split(/\s+/).slice(1).entries()) {
    const below = command.commands.find((one) => one.name() === word);
    if (below !== undefined) command = below;
    else if (index === 0) return [word];
    else if (/^--?[a-z]/.test(word)) {
      for (const { long, short } of command.options)
        for (const name of [long, short]) if (name !== undefined && name !== null) known.add(name);
      const name = word.replace(/=.*$/, '');
      if (!known.has(name)) unknown.push(name);
    }
  }
  return unknown;
}

const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');

describe('the commands of the pages', () => {
  const shown = pages.flatMap((page) => commandLines(page).map((line) => ({ page, line })));

  it('are many', () => {
    expect(shown.length).toBeGreaterThan(40);
  });

  it('and their options are those of the program', () => {
    const wrong = shown.flatMap(({ page, line }) =>
      unknownIn(line).map((word) => `${page}: "${line}": ${word} is not known`),
    );
    expect(wrong).toEqual([]);
  });

  it('are found wrong where they are', () => {
    expect(unknownIn('signet draw x')).toEqual(['draw']);
    expect(unknownIn('signet render x --mesh istio --fast')).toEqual(['--fast']);
    expect(unknownIn('bin/signet svid fetch --write /tmp/x')).toEqual([]);
  });

  const printed = pages.flatMap((page) =>
    [...read(page).matchAll(/^ *```[a-z]*\n\$ (?:bin\/)?signet (.*)\n([\s\S]*?)^ *```$/gm)].map(
      ([, argv = '', output = '']) => [page, argv, output] as const,
    ),
  );

  it('whose output is shown are some', () => {
    expect(printed.length).toBeGreaterThan(0);
  });

  it.each(printed)('%s: signet %s prints what is shown', async (_, argv, output) => {
    let out = '';
    let err = '';
    const io = ioTo(
      (text) => (out += text),
      (text) => (err += text),
    );
    await runProgram(buildProgram(io, ''), argv.split(/\s+/), io);
    // "…" stands for what is left out of a line; lines may be left out, but not be in another order.
    const lines = output.split('\n').filter((line) => line.trim() !== '');
    const text = lines.map((line) => line.split('…').map(escaped).join('.*'));
    expect(out === '' ? `nothing; to stderr: ${err}` : out).toMatch(
      new RegExp(`^${text.join('$[^]*?^')}$`, 'm'),
    );
  });
});
