import type { PathPattern, TemplateSegment } from './model.js';

/** The longest path that is looked at, in characters. */
export const MAX_PATH_LENGTH = 8192;

/** A path in its one canonical form, or why there is none. */
export type NormalPath = { readonly ok: true; readonly path: string } | PathRefusal;
export interface PathRefusal {
  readonly ok: false;
  readonly reason: string;
}

const refuse = (reason: string): PathRefusal => ({ ok: false, reason });

/** Most paths are of this shape and already canonical, so nothing is rewritten. */
const PLAIN = /^(?:\/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+\/?$/;
// pchar of RFC 3986 §3.3 without ";", plus "/" and "%"; a raw byte outside is no valid request target.
const ALLOWED = /^[A-Za-z0-9._~!$&'()*+,=:@/%-]*$/;
const UNRESERVED = /[A-Za-z0-9._~-]/;

/**
 * The canonical form of a request path: the query is cut off, percent-encoded unreserved characters are decoded
 * (RFC 3986 §6.2.2.2) and hex digits are upper case.
 *
 * Whatever two programs on the way could read differently is refused rather than guessed at: empty and dot segments,
 * encoded slashes, backslashes and NUL, path parameters (`;`), double encoding, control and non-ASCII characters.
 */
export function normalisePath(raw: string): NormalPath {
  if (raw.length > MAX_PATH_LENGTH) {
    return refuse(`the path has ${raw.length} characters; ${MAX_PATH_LENGTH} are allowed`);
  }
  const query = raw.indexOf('?');
  const path = query < 0 ? raw : raw.slice(0, query);
  if (path === '/' || PLAIN.test(path)) return { ok: true, path };
  if (!path.startsWith('/')) return refuse('the path does not start with "/"');
  if (path.includes(';'))
    return refuse('the path holds ";" (path parameters are read differently by servers)');
  if (path.includes('\\')) return refuse('the path holds a backslash');
  if (!ALLOWED.test(path)) return refuse('the path holds a character that must be percent-encoded');
  const decoded = decodeUnreserved(path);
  return decoded.ok ? checkSegments(decoded.path) : decoded;
}

function decodeUnreserved(path: string): NormalPath {
  if (!path.includes('%')) return { ok: true, path };
  let refusal: PathRefusal | undefined;
  const decoded = path.replace(/%(.{0,2})/g, (_, hex: string) => {
    if (!/^[0-9A-Fa-f]{2}$/.test(hex)) {
      refusal ??= refuse('the path holds "%" without two hex digits');
      return '';
    }
    const code = Number.parseInt(hex, 16);
    const character = String.fromCharCode(code);
    if (character === '/') refusal ??= refuse('the path holds an encoded slash (%2F)');
    else if (character === '\\') refusal ??= refuse('the path holds an encoded backslash (%5C)');
    else if (character === ';') refusal ??= refuse('the path holds an encoded ";" (%3B)');
    else if (code < 0x20 || code === 0x7f) refusal ??= refuse('the path holds an encoded control character');
    else if (UNRESERVED.test(character)) return character;
    return `%${hex.toUpperCase()}`;
  });
  if (refusal !== undefined) return refusal;
  // What is still an encoded "%" before two hex digits becomes another path when something decodes twice.
  if (/%25[0-9A-Fa-f]{2}/.test(decoded)) return refuse('the path is percent-encoded twice');
  return { ok: true, path: decoded };
}

function checkSegments(path: string): NormalPath {
  const segments = path.slice(1).split('/');
  for (const [index, segment] of segments.entries()) {
    if (segment === '.' || segment === '..') return refuse(`the path holds the segment "${segment}"`);
    // One slash at the end is a path of its own; an empty segment anywhere else is "//".
    if (segment === '' && index < segments.length - 1) return refuse('the path holds "//"');
  }
  return { ok: true, path };
}

/** A pattern that was understood, or why not. */
export type ParsedPattern =
  { readonly ok: true; readonly pattern: PathPattern } | { readonly ok: false; readonly reason: string };

/** An exact path: no pattern characters. */
export function exactPattern(text: string): ParsedPattern {
  const normal = literal(text);
  return normal.ok ? { ok: true, pattern: { kind: 'exact', path: normal.path } } : normal;
}

/** A segment prefix; `/api` and `/api/` mean the same: `/api` and everything below. */
export function prefixPattern(text: string): ParsedPattern {
  const normal = literal(text);
  if (!normal.ok) return normal;
  const path = normal.path.length > 1 && normal.path.endsWith('/') ? normal.path.slice(0, -1) : normal.path;
  return { ok: true, pattern: { kind: 'prefix', path } };
}

const VARIABLE = /^\{([A-Za-z_][A-Za-z0-9_]*)(=\*\*)?\}$/;

/** A template such as `/accounts/{id}/files/{path=**}`. */
export function templatePattern(text: string): ParsedPattern {
  if (!text.startsWith('/')) return refuse('a path template must start with "/"');
  if (text.length > MAX_PATH_LENGTH) return refuse(`a path template may have ${MAX_PATH_LENGTH} characters`);
  const parts = text.slice(1).split('/');
  const segments: TemplateSegment[] = [];
  const names = new Set<string>();
  for (const [index, part] of parts.entries()) {
    const variable = VARIABLE.exec(part);
    const name = variable?.[1];
    if (name === undefined) {
      if (part === '' && index === parts.length - 1) segments.push({ kind: 'literal', value: '' });
      else {
        const normal = literal(`/${part}`);
        if (!normal.ok) return refuse(`segment "${part}": ${normal.reason}`);
        if (part === '') return refuse('the template holds "//"');
        segments.push({ kind: 'literal', value: normal.path.slice(1) });
      }
      continue;
    }
    if (names.has(name)) return refuse(`the name {${name}} stands twice`);
    names.add(name);
    if (variable?.[2] === undefined) segments.push({ kind: 'one', name });
    else if (index < parts.length - 1) return refuse(`{${name}=**} may only be the last segment`);
    else segments.push({ kind: 'rest', name });
  }
  return { ok: true, pattern: { kind: 'template', text, segments } };
}

function literal(text: string): NormalPath {
  if (text.includes('?') || text.includes('#'))
    return refuse('a path pattern holds no query and no fragment');
  if (/[*{}]/.test(text)) {
    return refuse('"*", "{" and "}" have no meaning here; use a prefix or a template such as "/a/{name}"');
  }
  return normalisePath(text);
}

/** Whether a canonical path matches. */
export function matchesPath(pattern: PathPattern, path: string): boolean {
  switch (pattern.kind) {
    case 'exact':
      return path === pattern.path;
    case 'prefix':
      return underPrefix(pattern.path, path);
    case 'template':
      return matchesTemplate(pattern.segments, path);
  }
}

function underPrefix(prefix: string, path: string): boolean {
  if (prefix === '/') return true;
  return path.startsWith(prefix) && (path.length === prefix.length || path.charAt(prefix.length) === '/');
}

function matchesTemplate(segments: readonly TemplateSegment[], path: string): boolean {
  let at = 1;
  for (const [index, segment] of segments.entries()) {
    if (segment.kind === 'rest') return true;
    const slash = path.indexOf('/', at);
    const part = slash < 0 ? path.slice(at) : path.slice(at, slash);
    if (segment.kind === 'literal' ? part !== segment.value : part === '') return false;
    const last = index === segments.length - 1;
    if (slash < 0) return last;
    if (last) return false;
    at = slash + 1;
  }
  return false;
}

/** A pattern in words. */
export function describePath(pattern: PathPattern): string {
  switch (pattern.kind) {
    case 'exact':
      return pattern.path;
    case 'prefix':
      return `under ${pattern.path}`;
    case 'template':
      return pattern.text;
  }
}
