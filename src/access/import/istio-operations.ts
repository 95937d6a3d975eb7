import type { OperationInput } from '../policy/input.js';
import { isMethod, normaliseHostPattern } from '../policy/http.js';
import { exactPattern, prefixPattern, templatePattern } from '../policy/path.js';
import { pieces, textsOf, valuePattern, type Bound, type Fields, type Reading } from './istio-reading.js';

type Http = NonNullable<OperationInput['http']>;
type PathInput = NonNullable<Http['paths']>[number];

const KNOWN = ['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths', 'ports', 'notPorts'];
const MAX_PATHS = 32;
const MAX_METHODS = 16;
const MAX_PORTS = 64;
/** Every path of HTTP; a request without HTTP has none. */
const ANY_PATH: PathInput = { prefix: '/' };

/**
 * Alternatives for one `operation`; an empty list matches nothing, and `{}` everything. `httpOnly`: Istio leaves a rule
 * that speaks of HTTP anywhere out on TCP ports.
 */
export function operationsOf(
  operation: Fields,
  bound: Bound,
  httpOnly: boolean,
  reading: Reading,
): readonly OperationInput[] {
  const strange = Object.keys(operation).filter((field) => !KNOWN.includes(field));
  const negative = KNOWN.filter((field) => field.startsWith('not') && textsOf(operation[field]).length > 0);
  for (const field of [...strange, ...negative]) {
    reading.at(`.${field}`).error(lost(bound, 'has no counterpart: an operation is said by what it is'));
  }
  if (bound === 'under' && strange.length + negative.length > 0) return [];
  const methods = methodsOf(textsOf(operation['methods']), bound, reading.at('.methods'));
  const paths = pathsOf(textsOf(operation['paths']), bound, reading.at('.paths'));
  const hosts = hostsOf(textsOf(operation['hosts']), bound, reading.at('.hosts'));
  const ports = portsOf(textsOf(operation['ports']), reading.at('.ports'));
  if ([methods, paths, hosts, ports].some((list) => list?.length === 0)) return [];
  const http = methods !== undefined || paths !== undefined || hosts !== undefined;
  const anyHttp = httpOnly && !http ? [ANY_PATH] : paths;
  return combine({ methods, paths: anyHttp, hosts, ports });
}

const lost = (bound: Bound, message: string): string =>
  `${message}; ${bound === 'under' ? 'so the alternative is left out' : 'so more is denied'}`;

interface Parts {
  readonly methods: readonly string[] | undefined;
  readonly paths: readonly PathInput[] | undefined;
  readonly hosts: readonly string[] | undefined;
  readonly ports: readonly number[] | undefined;
}

function cut<T>(list: readonly T[] | undefined, size: number): readonly (readonly T[] | undefined)[] {
  return list === undefined ? [undefined] : pieces(list, size);
}

function combine({ methods, paths, hosts, ports }: Parts): readonly OperationInput[] {
  return cut(ports, MAX_PORTS).flatMap((somePorts) =>
    cut(paths, MAX_PATHS).flatMap((somePaths) =>
      cut(hosts, MAX_PATHS).flatMap((someHosts) =>
        cut(methods, MAX_METHODS).map((someMethods): OperationInput => {
          const http: Http = {
            ...(someHosts === undefined ? {} : { hosts: someHosts }),
            ...(someMethods === undefined ? {} : { methods: someMethods }),
            ...(somePaths === undefined ? {} : { paths: somePaths }),
          };
          return {
            ...(somePorts === undefined ? {} : { ports: somePorts }),
            ...(Object.keys(http).length === 0 ? {} : { http }),
          };
        }),
      ),
    ),
  );
}

/** The methods that values name: undefined where they name any, an empty list where none that there is. */
function methodsOf(values: readonly string[], bound: Bound, reading: Reading): readonly string[] | undefined {
  if (values.length === 0) return undefined;
  const methods = new Set<string>();
  for (const value of values) {
    const pattern = valuePattern(value);
    if (pattern.kind === 'exact') {
      if (isMethod(value)) methods.add(value);
      else if (bound === 'under')
        reading.warn(`"${value}" is no method that a proxy takes, so it matches nothing`);
      else {
        // On TCP ports it denies all the same, so a Deny rule keeps something of it.
        const upper = value.toUpperCase();
        reading.error(`"${value}" is no method that a proxy takes; more is denied`);
        if (!isMethod(upper)) return undefined;
        methods.add(upper);
      }
    } else {
      reading.error(lost(bound, `"${value}" stands for methods that cannot be listed`));
      if (bound === 'over') return undefined;
    }
  }
  return [...methods];
}

/**
 * Istio compares the host as it was sent, with its port and a dot at the end: what matches a host here is more, so an
 * Allow rule cannot have it.
 */
function hostsOf(values: readonly string[], bound: Bound, reading: Reading): readonly string[] | undefined {
  if (values.length === 0) return undefined;
  reading.error(lost(bound, 'compare the host as it was sent, with its port; here it is compared without'));
  if (bound === 'under') return [];
  const hosts = new Set<string>();
  for (const value of values) {
    const pattern = valuePattern(value);
    if (pattern.kind === 'present') return undefined;
    const text = pattern.kind === 'suffix' ? `*${pattern.text}` : pattern.text;
    const withoutPort = text.replace(pattern.kind === 'prefix' ? /:\d*$/ : /:\d+$/, '');
    // A prefix says a whole host only where it ends in the colon of its port.
    const whole = pattern.kind !== 'prefix' || withoutPort !== text;
    const host = whole ? normaliseHostPattern(withoutPort) : undefined;
    if (host === undefined) return undefined;
    hosts.add(host);
  }
  return [...hosts];
}

function portsOf(values: readonly string[], reading: Reading): readonly number[] | undefined {
  if (values.length === 0) return undefined;
  const ports = new Set<number>();
  for (const value of values) {
    const port = Number(value);
    if (/^\d+$/.test(value) && port >= 1 && port <= 65_535) ports.add(port);
    else reading.warn(`"${value}" is no port that one can connect to`);
  }
  return [...ports];
}

function pathsOf(
  values: readonly string[],
  bound: Bound,
  reading: Reading,
): readonly PathInput[] | undefined {
  if (values.length === 0) return undefined;
  const paths = new Map<string, PathInput>();
  for (const value of values) {
    const list = pathOf(value, bound, reading);
    if (list === undefined) return undefined;
    for (const path of list) paths.set(JSON.stringify(path), path);
  }
  return [...paths.values()];
}

/** One pattern; undefined when a Deny rule has to do without all of them. */
function pathOf(value: string, bound: Bound, reading: Reading): readonly PathInput[] | undefined {
  const pattern = valuePattern(value);
  if (pattern.kind === 'present') return [ANY_PATH];
  if (/\{\*\*?\}/.test(value)) return unsayable(bound, reading, `"${value}" is a template`, template(value));
  if (pattern.kind === 'suffix') return unsayable(bound, reading, `"${value}" is the end of a path`);
  if (pattern.kind === 'exact') return exact(pattern.text, bound, reading);
  return prefix(pattern.text, bound, reading);
}

function unsayable(
  bound: Bound,
  reading: Reading,
  what: string,
  instead?: PathInput,
): readonly PathInput[] | undefined {
  reading.error(lost(bound, `${what}, which cannot be said exactly`));
  if (bound === 'under') return [];
  return instead === undefined ? undefined : [instead];
}

/** Whether Istio and we compare a text alike: in canonical form, and without letters in percent-encodings. */
function isAlike(text: string, canonical: string): boolean {
  return text === canonical && !/%(?:[A-F].|.[A-F])/.test(text);
}

function exact(text: string, bound: Bound, reading: Reading): readonly PathInput[] | undefined {
  const canonical = canonicalOf(text);
  if (canonical !== '' && isAlike(text, canonical)) return [{ exact: text }];
  if (canonical === '' && bound === 'under') {
    reading.warn(`"${text}" is a path that is refused always`);
    return [];
  }
  // What was meant, and what it denies on TCP ports, stays denied.
  const meant = text.replaceAll(/\/{2,}/g, '/');
  const instead = canonicalOf(meant) === '' ? undefined : { exact: meant };
  return unsayable(bound, reading, `"${text}" is compared byte for byte`, instead);
}

function prefix(text: string, bound: Bound, reading: Reading): readonly PathInput[] | undefined {
  const folder = text.slice(0, text.lastIndexOf('/') + 1);
  const below = belowFolder(folder);
  if (below === undefined)
    return unsayable(bound, reading, `"${text}*" is the beginning of no canonical path`);
  if (text === folder) {
    return isAlike(text, canonicalOf(text))
      ? [below]
      : unsayable(bound, reading, `"${text}*" is compared byte for byte`, below);
  }
  const parsed = prefixPattern(text);
  const narrower = parsed.ok && isAlike(text, canonicalOf(text)) ? [{ prefix: text }] : [];
  reading.error(`"${text}*" ends amid a name; ${bound === 'under' ? 'less is allowed' : 'more is denied'}`);
  return bound === 'under' ? narrower : [below];
}

function canonicalOf(text: string): string {
  const parsed = exactPattern(text);
  return parsed.ok && parsed.pattern.kind === 'exact' ? parsed.pattern.path : '';
}

/** Everything behind a slash, as a template: unlike a prefix it does not hold for the path without that slash. */
function belowFolder(folder: string): PathInput | undefined {
  if (folder === '/') return ANY_PATH;
  const text = `${folder}{rest=**}`;
  return folder !== '' && canonicalOf(folder) !== '' && templatePattern(text).ok
    ? { template: text }
    : undefined;
}

/** A template that matches at least as much: `{*}` is a segment there too, though without "*". */
function template(value: string): PathInput | undefined {
  let count = 0;
  const text = value
    .split('/')
    .map((segment, index, all) => {
      if (segment === '{*}') return `{s${count++}}`;
      return segment === '{**}' && index === all.length - 1 ? '{rest=**}' : segment;
    })
    .join('/');
  return templatePattern(text).ok ? { template: text } : undefined;
}
