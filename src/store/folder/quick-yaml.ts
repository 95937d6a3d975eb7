/*
 * A reader for the plain part of YAML that manifests are mostly written in: block maps and lists, one-line scalars.
 * Whatever it does not know for certain (anchors, tags, block scalars, flow style, escapes, many-line text, doubtful
 * numbers, any error) it leaves to the full parser, so it never decides what is wrong with a document. It exists
 * because the full parser needs 0.2 ms for each pod, and a folder may hold 100,000.
 */

/** Says that the full parser must read this text. */
export const BEYOND_QUICK = Symbol('beyond quick YAML');

interface Line {
  readonly indent: number;
  /** Without indent and trailing blanks. */
  readonly text: string;
}

/** Characters that end the plain part: tabs, carriage returns, controls, byte-order marks, lone surrogates. */
// eslint-disable-next-line no-control-regex -- they are what is looked for
const UNSAFE = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]|\p{Surrogate}/u;
const PLAIN_KEY = /^([A-Za-z][A-Za-z0-9_./-]*|"[^"\\]*"|'[^']*'):(?: +(.*))?$/;
/** Keys that are no strings to YAML, or not safe as names of properties. */
const ODD_KEY = /^(null|true|false|__proto__)$/i;
const QUOTED = /^(?:"([^"\\]*)"|'([^']*)')(?: +#.*)?$/;
const STRING_LIST = /^\[(?:"[^"\\]*"(?:, *"[^"\\]*")*)?\]$/;
const SMALL_INTEGER = /^(?:0|[1-9][0-9]{0,14})$/;
const DOTTED_DIGITS = /^[0-9]+(?:\.[0-9]+){2,}$/;
/** May be a number in some form: left to the full parser. */
const NUMBER_LIKE = /^[-+]?[.0-9][-+.0-9A-Fa-fox_]*$|^[-+]?\.(?:inf|nan)$/i;
const INDICATORS = new Set('&*!|>%@`?:,]}{[#"\'');

class Beyond extends Error {}
const beyond = new Beyond();

/** Reads one document. Returns the value, `undefined` for an empty document, or {@link BEYOND_QUICK}. */
export function parseQuickYaml(text: string): unknown {
  if (UNSAFE.test(text)) return BEYOND_QUICK;
  const lines: Line[] = [];
  for (const raw of text.split('\n')) {
    let indent = 0;
    while (raw.charCodeAt(indent) === 0x20) indent++;
    if (indent === raw.length || raw.charCodeAt(indent) === 0x23) continue;
    lines.push({ indent, text: raw.slice(indent).trimEnd() });
  }
  if (lines.length === 0) return undefined;
  try {
    const reader = new Reader(lines);
    const value = reader.block(0, 0);
    return reader.done ? value : BEYOND_QUICK;
  } catch (thrown) {
    if (thrown === beyond) return BEYOND_QUICK;
    throw thrown;
  }
}

class Reader {
  readonly #lines: Line[];
  #at = 0;

  constructor(lines: Line[]) {
    this.#lines = lines;
  }

  get done(): boolean {
    return this.#at === this.#lines.length;
  }

  /** The map or list that starts at the present line, which has this indent. */
  block(indent: number, depth: number): unknown {
    const line = this.#lines[this.#at];
    if (line === undefined || line.indent !== indent || depth > 64) throw beyond;
    return isItem(line.text) ? this.#list(indent, depth) : this.#map(indent, depth);
  }

  #map(indent: number, depth: number): Record<string, unknown> {
    const map: Record<string, unknown> = {};
    for (;;) {
      const line = this.#lines[this.#at];
      if (line === undefined || line.indent < indent || (line.indent === indent && isItem(line.text)))
        return map;
      if (line.indent > indent) throw beyond;
      const match = PLAIN_KEY.exec(line.text);
      if (match === null) throw beyond;
      const key = keyOf(match[1] ?? '');
      if (Object.hasOwn(map, key)) throw beyond;
      this.#at++;
      map[key] = this.#value(match[2] ?? '', indent, depth);
    }
  }

  /** What follows `key:` on its line, or below it. */
  #value(rest: string, indent: number, depth: number): unknown {
    const next = this.#lines[this.#at];
    if (rest !== '' && !rest.startsWith('#')) {
      // A deeper line would go on with this text.
      if (next !== undefined && next.indent > indent) throw beyond;
      return scalar(rest);
    }
    if (next === undefined || next.indent < indent) return null;
    if (next.indent > indent) return this.block(next.indent, depth + 1);
    return isItem(next.text) ? this.#list(indent, depth + 1) : null;
  }

  #list(indent: number, depth: number): unknown[] {
    const list: unknown[] = [];
    for (;;) {
      const line = this.#lines[this.#at];
      if (line === undefined || line.indent < indent || (line.indent === indent && !isItem(line.text)))
        return list;
      if (line.indent > indent) throw beyond;
      list.push(this.#item(line, indent, depth));
    }
  }

  #item(line: Line, indent: number, depth: number): unknown {
    const rest = line.text.slice(1).trimStart();
    if (rest === '' || rest.startsWith('#') || isItem(rest)) throw beyond;
    if (PLAIN_KEY.test(rest)) {
      // `- key: value` opens a map whose keys stand where this one does.
      const column = indent + line.text.length - rest.length;
      this.#lines[this.#at] = { indent: column, text: rest };
      return this.#map(column, depth + 1);
    }
    this.#at++;
    const next = this.#lines[this.#at];
    if (next !== undefined && next.indent > indent) throw beyond;
    return scalar(rest);
  }
}

function isItem(text: string): boolean {
  return text.charCodeAt(0) === 0x2d && (text.length === 1 || text.charCodeAt(1) === 0x20);
}

function keyOf(written: string): string {
  const first = written.charCodeAt(0);
  const key = first === 0x22 || first === 0x27 ? written.slice(1, -1) : written;
  if (ODD_KEY.test(key)) throw beyond;
  return key;
}

function scalar(rest: string): unknown {
  const first = rest.charAt(0);
  if (first === '"' || first === "'") {
    const quoted = QUOTED.exec(rest);
    if (quoted === null) throw beyond;
    return quoted[1] ?? quoted[2];
  }
  if (first === '[' && STRING_LIST.test(rest)) return JSON.parse(rest) as unknown;
  if (rest === '{}') return {};
  if (INDICATORS.has(first) || isItem(rest)) throw beyond;
  const comment = rest.indexOf(' #');
  return plain(comment < 0 ? rest : rest.slice(0, comment).trimEnd());
}

const WORDS: ReadonlyMap<string, boolean | null> = new Map([
  ...['true', 'True', 'TRUE'].map((word) => [word, true] as const),
  ...['false', 'False', 'FALSE'].map((word) => [word, false] as const),
  ...['null', 'Null', 'NULL', '~'].map((word) => [word, null] as const),
]);

function plain(text: string): unknown {
  const word = WORDS.get(text);
  if (word !== undefined) return word;
  if (SMALL_INTEGER.test(text)) return Number(text);
  if (text.endsWith(':') || text.includes(': ')) throw beyond;
  if (NUMBER_LIKE.test(text) && !DOTTED_DIGITS.test(text)) throw beyond;
  return text;
}
