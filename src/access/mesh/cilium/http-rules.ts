import type { EffectiveRule } from '../../policy/effective.js';
import type { PathPattern, ValueMatch } from '../../policy/model.js';
import { describePath } from '../../policy/path.js';
import { anyHost, anyPath, hostPattern, methodPattern, pathPattern } from './patterns.js';

/** A rule of `toPorts[].rules.http`. */
export interface CiliumHttpRule {
  readonly path: string;
  readonly method: string;
  readonly host: string;
  readonly headerMatches?: readonly { readonly name: string; readonly value?: string }[];
}

export interface HttpRules {
  readonly rules: readonly CiliumHttpRule[];
  /** What could not be said, and why. */
  readonly reasons: readonly string[];
}

type Operation = NonNullable<EffectiveRule['to']>[number];
type HeaderMatches = NonNullable<CiliumHttpRule['headerMatches']>;

/** The most rules that one operation may become: each path, host and set of header values is one. */
const MAX_RULES = 200;

/** The HTTP requests that a rule permits. What cannot be said is left out, never said wider. */
export function httpRules(rule: EffectiveRule, maxProgramSize: number): HttpRules {
  const rules: CiliumHttpRule[] = [];
  const reasons: string[] = [];
  for (const operation of rule.to ?? []) {
    const said = operationRules(operation, maxProgramSize, reasons);
    if (said.length > MAX_RULES) {
      reasons.push(
        `to.http: would become ${said.length} rules, more than ${MAX_RULES}; name fewer paths, hosts or header values`,
      );
    } else rules.push(...said);
  }
  return { rules, reasons: [...new Set(reasons)] };
}

function operationRules(operation: Operation, limit: number, reasons: string[]): readonly CiliumHttpRule[] {
  const { methods, hosts, paths, headers, query, grantedBy } = operation;
  if (grantedBy?.claim !== undefined) {
    reasons.push('roles.claim: Cilium does not see tokens, so what the role permits is left out');
    return [];
  }
  if (query !== undefined) {
    reasons.push('to.http.query: Cilium does not compare query parameters, so the operation is left out');
    return [];
  }
  const method = methodPattern(methods, limit);
  const matches = headerMatches(headers ?? [], reasons);
  if (matches === undefined) return [];
  if (method === undefined) {
    reasons.push('to.http.methods: the regular expression would be too large for Envoy; name fewer methods');
    return [];
  }
  const hostTexts = hosts?.flatMap(
    (host) => hostPattern(host, limit)?.text ?? tooLarge('hosts', host, reasons),
  ) ?? [anyHost().text];
  const pathTexts = paths?.flatMap((path) => pathTextOf(path, limit, reasons)) ?? [anyPath().text];
  return pathTexts.flatMap((path) =>
    hostTexts.flatMap((host) =>
      matches.map((list) => ({
        path,
        method: method.text,
        host,
        ...(list.length === 0 ? {} : { headerMatches: list }),
      })),
    ),
  );
}

function pathTextOf(path: PathPattern, limit: number, reasons: string[]): readonly string[] {
  const pattern = pathPattern(path, limit);
  return pattern !== undefined ? [pattern.text] : tooLarge('paths', describePath(path), reasons);
}

function tooLarge(field: string, value: string, reasons: string[]): readonly string[] {
  reasons.push(
    `to.http.${field}: the regular expression for ${value} would be too large for Envoy as Cilium sets it up, so it is left out; raise re2.max_program_size.error_level there and maxRegexProgramSize here`,
  );
  return [];
}

/** Every combination of values of the headers; undefined where one cannot be said. */
function headerMatches(
  headers: readonly ValueMatch[],
  reasons: string[],
): readonly HeaderMatches[] | undefined {
  let combined: readonly HeaderMatches[] = [[]];
  for (const { name, operator, values } of headers) {
    if (operator === 'NotIn' || operator === 'DoesNotExist') {
      reasons.push(`to.http.headers: Cilium has no ${operator} for headers, so the operation is left out`);
      return undefined;
    }
    if (name === 'host' || values.includes('')) {
      const what =
        name === 'host'
          ? 'host is no header that Cilium compares; use hosts'
          : 'an empty value cannot be said';
      reasons.push(`to.http.headers: ${what}, so the operation is left out`);
      return undefined;
    }
    const choices = operator === 'Exists' ? [{ name }] : values.map((value) => ({ name, value }));
    if (combined.length * choices.length > MAX_RULES) {
      reasons.push(
        `to.http.headers: the values make more than ${MAX_RULES} combinations, so the operation is left out`,
      );
      return undefined;
    }
    combined = combined.flatMap((list) => choices.map((choice) => [...list, choice]));
  }
  return combined;
}
