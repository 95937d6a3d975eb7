import { createHash } from 'node:crypto';
import {
  LineCounter,
  isCollection,
  isMap,
  isNode,
  isPair,
  isScalar,
  parseAllDocuments,
  parseDocument,
} from 'yaml';
import type { Document, Node } from 'yaml';
import { BEYOND_QUICK, parseQuickYaml } from './quick-yaml.js';

/** A place in a file; both count from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** The text between two `---` lines of a file. Documents are parsed one by one, and only when their text has changed. */
export interface Chunk {
  readonly text: string;
  /** Line of the file on which the text starts, from 1. */
  readonly startLine: number;
  /** Tells equal texts without keeping them. */
  readonly hash: string;
}

/** What a chunk holds, or why it cannot be read. */
export type ChunkContent =
  | { readonly ok: true; readonly values: readonly unknown[] }
  | { readonly ok: false; readonly position: Position; readonly message: string; readonly fix?: string };

/** A `---` at the start of a line begins a document whatever stands around it (YAML 1.2.2 §9.1.2). */
const MARKER = /^---(?=[ \t\r\n]|$)/gm;
const DOCUMENT_END = /^\.\.\.(?:[ \t\r\n]|$)/m;

/** Cuts a YAML file into its documents; documents of nothing but comments are left out. */
export function splitDocuments(text: string): Chunk[] {
  const body = text.startsWith('\ufeff') ? text.slice(1) : text;
  const chunks: Chunk[] = [];
  let start = 0;
  let line = 1;
  const add = (end: number): void => {
    const piece = body.slice(start, end);
    if (!isBlank(piece)) chunks.push({ text: piece, startLine: line, hash: hashOf(piece) });
    line += countLines(piece);
  };
  for (const marker of body.matchAll(MARKER)) {
    add(marker.index);
    start = marker.index + 3;
    // The rest of a bare marker's line is not worth a line of its own in positions.
    const bare = /^[ \t]*\r?\n/.exec(body.slice(start, start + 80));
    if (bare !== null) {
      start += bare[0].length;
      line++;
    }
  }
  add(body.length);
  return chunks;
}

/** A JSON file is one chunk. */
export function wholeFile(text: string): Chunk[] {
  return isBlank(text) ? [] : [{ text, startLine: 1, hash: hashOf(text) }];
}

/** Nothing but blanks, comments and directives. */
function isBlank(text: string): boolean {
  for (let at = 0; at < text.length;) {
    const end = text.indexOf('\n', at);
    const line = text.slice(at, end < 0 ? text.length : end).trim();
    if (line !== '' && !line.startsWith('#') && !text.startsWith('%', at)) return false;
    if (end < 0) break;
    at = end + 1;
  }
  return true;
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('base64').slice(0, 22);
}

function countLines(text: string): number {
  let count = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) count++;
  return count;
}

/** Reads a chunk: the quick way where it can, the full parser otherwise. Never throws for what the text says. */
export function readYaml(chunk: Chunk): ChunkContent {
  const quick = DOCUMENT_END.test(chunk.text) ? BEYOND_QUICK : parseQuickYaml(chunk.text);
  if (quick !== BEYOND_QUICK) return { ok: true, values: quick === undefined ? [] : [quick] };
  const lines = new LineCounter();
  try {
    const documents = parseAllDocuments(chunk.text, {
      lineCounter: lines,
      prettyErrors: false,
      logLevel: 'silent',
    });
    const values: unknown[] = [];
    for (const document of documents as Document.Parsed[]) {
      const error = document.errors[0];
      if (error !== undefined) {
        return {
          ok: false,
          position: placed(chunk, lines, error.pos[0]),
          ...explain(error.code, error.message),
        };
      }
      if (document.contents !== null) values.push(document.toJS({ maxAliasCount: 50 }));
    }
    return { ok: true, values };
  } catch (thrown) {
    // Alias bombs and nesting beyond the stack end here.
    const reason =
      thrown instanceof RangeError ? 'is nested too deeply' : `cannot be read: ${String(thrown)}`;
    return { ok: false, position: { line: chunk.startLine, column: 1 }, message: `the document ${reason}` };
  }
}

/** Reads a JSON file. */
export function readJson(chunk: Chunk): ChunkContent {
  try {
    return { ok: true, values: [JSON.parse(chunk.text) as unknown] };
  } catch (thrown) {
    // JSON is YAML, nearly: the YAML parser's place is better than none.
    const asYaml = readYaml(chunk);
    const message =
      thrown instanceof Error ? thrown.message.replace(/ in JSON at position.*$/, '') : 'no JSON';
    const at = /\(line (\d+) column (\d+)\)/.exec(thrown instanceof Error ? thrown.message : '');
    const position =
      at !== null
        ? { line: Number(at[1]), column: Number(at[2]) }
        : asYaml.ok
          ? { line: chunk.startLine, column: 1 }
          : asYaml.position;
    return { ok: false, position, message: `this is no valid JSON: ${message}` };
  }
}

function placed(chunk: Chunk, lines: LineCounter, offset: number): Position {
  const { line, col } = lines.linePos(offset);
  return { line: chunk.startLine + line - 1, column: col };
}

function explain(code: string, message: string): { message: string; fix?: string } {
  const plain = message.replace(/\s+/g, ' ').trim();
  switch (code) {
    case 'TAB_AS_INDENT':
      return { message: 'a tab is used to indent', fix: 'indent with spaces' };
    case 'DUPLICATE_KEY':
      return { message: 'this key is written twice in one map', fix: 'remove one of the two' };
    case 'BAD_INDENT':
      return {
        message: `the YAML cannot be read: ${plain}`,
        fix: 'look at the indentation, and for an open bracket above',
      };
    case 'MULTILINE_IMPLICIT_KEY':
    case 'MISSING_CHAR':
      return {
        message: `the YAML cannot be read: ${plain}`,
        fix: 'look for a missing ":", quote or bracket above',
      };
    default:
      return { message: `the YAML cannot be read: ${plain}` };
  }
}

/**
 * Where in the file a field of a chunk's n-th value stands; the nearest field above where it is missing. Parses the
 * chunk anew with positions: called only when there is something to report.
 */
export function locate(chunk: Chunk, value: number, path: readonly (string | number)[]): Position {
  const lines = new LineCounter();
  try {
    const documents = DOCUMENT_END.test(chunk.text)
      ? (parseAllDocuments(chunk.text, { lineCounter: lines }) as Document.Parsed[])
      : [parseDocument(chunk.text, { lineCounter: lines })];
    const root = documents.filter(({ contents }) => contents !== null)[value]?.contents;
    const offset = root === null || root === undefined ? undefined : offsetOf(root, path);
    return offset === undefined ? { line: chunk.startLine, column: 1 } : placed(chunk, lines, offset);
  } catch {
    return { line: chunk.startLine, column: 1 };
  }
}

function offsetOf(root: Node, path: readonly (string | number)[]): number | undefined {
  let node: unknown = root;
  let offset = root.range?.[0];
  for (const part of path) {
    if (!isCollection(node)) break;
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => (isScalar(key) ? String(key.value) : key) === String(part));
      if (pair === undefined) break;
      if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
      node = pair.value;
    } else {
      const item: unknown = node.items[Number(part)];
      if (!isNode(item) || isPair(item)) break;
      offset = item.range?.[0] ?? offset;
      node = item;
    }
  }
  return offset;
}
