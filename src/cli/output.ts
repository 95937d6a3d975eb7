import { Option } from 'commander';
import { stringify } from 'yaml';
import type { CliIo } from './io.js';

const FORMATS = ['text', 'json', 'yaml'] as const;
export type OutputFormat = (typeof FORMATS)[number];

/** `--output text|json|yaml`, the same for every command. */
export function outputOption(): Option {
  return new Option('-o, --output <format>', 'how the answer is written')
    .choices([...FORMATS])
    .default('text');
}

/** `--output yaml|json` of commands that print objects to be applied. */
export function objectsOption(): Option {
  return new Option('-o, --output <format>', 'how the objects are written')
    .choices(['yaml', 'json'])
    .default('yaml');
}

/** Objects as kubectl takes them: YAML documents, or one List in JSON. */
export function objectsText(format: 'yaml' | 'json', objects: readonly unknown[]): string {
  return format === 'yaml'
    ? objects.map((object) => `---\n${stringify(object)}`).join('')
    : `${JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects })}\n`;
}

/** Writes an answer: `value` for programs, `text` for people. One JSON document is one line, so streams can be read by line. */
export function answer(io: CliIo, format: OutputFormat, value: unknown, text: () => string): void {
  switch (format) {
    case 'json':
      io.stdout(`${JSON.stringify(value)}\n`);
      return;
    case 'yaml':
      // Without anchors, which many readers of YAML and all people trip over.
      io.stdout(`---\n${stringify(value, { aliasDuplicateObjects: false })}`);
      return;
    case 'text': {
      const lines = text();
      io.stdout(lines.endsWith('\n') ? lines : `${lines}\n`);
      return;
    }
  }
}

/** Text that others have chosen, as a terminal may be shown it: what would move its cursor is written out. */
export function printable(text: string): string {
  return text.replace(
    // eslint-disable-next-line no-control-regex -- control characters are what this is about
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Columns padded to their widest cell, two spaces between, as kubectl prints them. */
export function table(header: readonly string[], given: readonly (readonly string[])[]): string {
  const rows = given.map((cells) => cells.map(printable));
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return [header, ...rows].map(line).join('\n');
}

/** RFC 3339 without fractions, from milliseconds. */
export function time(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z');
}

/** "in 59m" or "12s ago": how kubectl tells a distance in time. */
export function distance(fromMs: number, toMs: number): string {
  const seconds = Math.round(Math.abs(toMs - fromMs) / 1000);
  const text =
    seconds < 120
      ? `${seconds}s`
      : seconds < 7200
        ? `${Math.round(seconds / 60)}m`
        : seconds < 172_800
          ? `${Math.round(seconds / 3600)}h`
          : `${Math.round(seconds / 86_400)}d`;
  return toMs >= fromMs ? `in ${text}` : `${text} ago`;
}
