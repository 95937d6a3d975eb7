import type { PathPattern } from '../../policy/model.js';

/**
 * A regular expression (RE2, matched against the whole value) with an upper bound of the size of its program, as Envoy
 * counts it. Envoy refuses programs of more than 100 unless told otherwise, and then Cilium drops all policies of the
 * endpoint (cilium/cilium#41314), so ours are built to be small and counted.
 */
export interface Pattern {
  readonly text: string;
  readonly size: number;
}

const BASE = 5;

/** `.`, `..` and what Envoy and servers may read differently never match: empty segments, `;`, encoded slashes and dots. */
const NO_DOT = '[!$&-\\-0-:=@-Z_a-z~]';
const ANY = '[!$&-.0-:=@-Z_a-z~]';
/** Encoded as clients encode: capital digits, and none of the unreserved characters, "%", "/", ";" and "\". */
const ENCODED = '%(?:2[0-46-9A-D]|3[0-9AC-F]|[468-9A-F][0-9A-F])';

/** One segment. `encoded` also takes percent-encoded characters. */
const SEGMENT: Readonly<Record<'encoded' | 'plain', Pattern>> = {
  encoded: { text: `\\.?(?:${NO_DOT}|${ENCODED})(?:${ANY}|${ENCODED})*`, size: 54 },
  plain: { text: `\\.?${NO_DOT}${ANY}*`, size: 24 },
};
const QUERY: Pattern = { text: '(?:\\?[!-~]*)?', size: 7 };

/** Any path that is read in one way only, and its query. */
export function anyPath(): Pattern {
  return sum(tail('encoded'), QUERY);
}

/** The paths that a pattern takes, with any query; undefined when the program would be larger than `limit`. */
export function pathPattern(pattern: PathPattern, limit: number): Pattern | undefined {
  for (const kind of ['encoded', 'plain'] as const) {
    const built = sum(pathText(pattern, kind), QUERY);
    if (built.size <= limit) return built;
  }
  return undefined;
}

function pathText(pattern: PathPattern, kind: 'encoded' | 'plain'): Pattern {
  switch (pattern.kind) {
    case 'exact':
      return literal(pattern.path);
    case 'prefix':
      return pattern.path === '/' ? tail(kind) : sum(literal(pattern.path), below(kind));
    case 'template':
      return sum(
        ...pattern.segments.map((segment) => {
          switch (segment.kind) {
            case 'literal':
              return literal(`/${segment.value}`);
            case 'one':
              return { text: `/${SEGMENT[kind].text}`, size: SEGMENT[kind].size + 1 };
            case 'rest':
              return tail(kind);
          }
        }),
      );
  }
}

/** What may follow a prefix: nothing, a slash, or segments. */
function below(kind: 'encoded' | 'plain'): Pattern {
  return { text: `(?:/${SEGMENT[kind].text})*/?`, size: SEGMENT[kind].size + 5 };
}

/** A slash and what may follow it. */
function tail(kind: 'encoded' | 'plain'): Pattern {
  return { text: `(?:/|(?:/${SEGMENT[kind].text})+/?)`, size: SEGMENT[kind].size + 8 };
}

/** A canonical path, whose percent-encodings may come with small digits too. */
function literal(path: string): Pattern {
  const text = path.replaceAll(/%[0-9A-F]{2}|[^%]/g, (part) =>
    part.startsWith('%') ? `%${caseless(part.slice(1))}` : escape(part),
  );
  return { text, size: path.length };
}

/** One of several methods; undefined where that gets too large. */
export function methodPattern(methods: readonly string[] | undefined, limit: number): Pattern | undefined {
  // Any method of letters, as HTTP has them: one in small letters is refused whatever the policies say.
  if (methods === undefined) return { text: '[A-Z]{1,32}', size: 67 };
  const size = BASE + methods.reduce((total, method) => total + method.length + 1, 0);
  return size <= limit ? { text: methods.map(escape).join('|'), size } : undefined;
}

const PORT = '(?::[0-9]{1,5})?';
const HOST = '[0-9A-Z_a-z][-.0-9A-Z_a-z]*';

/** A host or host pattern, in any case, with or without a port and a last dot; undefined where that gets too large. */
export function hostPattern(host: string, limit: number): Pattern | undefined {
  const wildcard = host.startsWith('*.');
  const rest = wildcard ? host.slice(1) : host;
  const text = `${wildcard ? HOST : ''}${caseless(rest)}\\.?${PORT}`;
  const size = BASE + (wildcard ? 16 : 0) + 2 * rest.length + 14;
  return size <= limit ? { text, size } : undefined;
}

/** Any host that is one, or none. */
export function anyHost(): Pattern {
  return { text: `|${HOST}${PORT}|\\[[.0-:A-Fa-f]+\\]${PORT}`, size: 45 };
}

function sum(...parts: readonly Pattern[]): Pattern {
  return {
    text: parts.map(({ text }) => text).join(''),
    size: parts.reduce((total, { size }) => total + size, BASE),
  };
}

function escape(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

function caseless(text: string): string {
  return text.replaceAll(/./g, (character) =>
    /[A-Za-z]/.test(character) ? `[${character.toUpperCase()}${character.toLowerCase()}]` : escape(character),
  );
}
