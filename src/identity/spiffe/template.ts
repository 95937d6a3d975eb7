import { SignetError } from '../../lib/errors.js';

/** The longest template, in characters: as long as the longest SPIFFE ID. */
export const MAX_TEMPLATE_LENGTH = 2048;
/** The most `{{ … }}` in one template. */
export const MAX_TEMPLATE_FIELDS = 32;

/** A text that is no template. `code` is `TemplateInvalid`; the message lists every problem. */
export class TemplateError extends SignetError {}

/** What a template may speak of. A field that is absent has no value, as a pod's fields have none for a process. */
export interface TemplateData {
  readonly trustDomain: string;
  readonly namespace?: string;
  readonly serviceAccount?: string;
  readonly podName?: string;
  readonly podUid?: string;
  readonly nodeName?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A rendered text, or why there is none for this data. */
export type Rendered =
  | { readonly ok: true; readonly text: string }
  | {
      readonly ok: false;
      readonly reason: 'TemplateValueMissing' | 'TemplateValueUnsafe';
      readonly message: string;
    };

/**
 * What is rendered. In an `id` each value must stay inside its path segment; in a `dns` name inside its label.
 * The whole is checked by whoever renders: pieces that are safe alone may join to `..`.
 */
export type TemplateForm = 'id' | 'dns';

/** A parsed template: `spiffe://{{ .TrustDomain }}/ns/{{ .Namespace }}/app/{{ .Labels.app }}`. */
export interface Template {
  readonly text: string;
  /** True when two pods of one namespace and service account may render differently. */
  readonly perPod: boolean;
  /** The label and annotation keys it asks for. */
  readonly keys: readonly string[];
  render(data: TemplateData, form: TemplateForm): Rendered;
}

type TextField = Exclude<keyof TemplateData, 'labels' | 'annotations'>;
type Part =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'field'; readonly spelling: string; readonly field: TextField }
  | {
      readonly kind: 'entry';
      readonly spelling: string;
      readonly map: 'labels' | 'annotations';
      readonly key: string;
    };

/** Our spellings, and those of spire-controller-manager (Go field names of the Pod), so that its templates move over. */
const TEXT_FIELDS: ReadonlyMap<string, TextField> = new Map([
  ['TrustDomain', 'trustDomain'],
  ['Namespace', 'namespace'],
  ['ServiceAccount', 'serviceAccount'],
  ['PodName', 'podName'],
  ['PodUID', 'podUid'],
  ['NodeName', 'nodeName'],
  ['PodMeta.Namespace', 'namespace'],
  ['PodMeta.Name', 'podName'],
  ['PodMeta.UID', 'podUid'],
  ['PodSpec.ServiceAccountName', 'serviceAccount'],
  ['PodSpec.NodeName', 'nodeName'],
]);
const MAP_FIELDS: ReadonlyMap<string, 'labels' | 'annotations'> = new Map([
  ['Labels', 'labels'],
  ['Annotations', 'annotations'],
  ['PodMeta.Labels', 'labels'],
  ['PodMeta.Annotations', 'annotations'],
]);
const SHARED_FIELDS: ReadonlySet<TextField> = new Set(['trustDomain', 'namespace', 'serviceAccount']);

const KNOWN =
  '.TrustDomain, .Namespace, .ServiceAccount, .PodName, .PodUID, .NodeName, .Labels.<key>, .Annotations.<key> and index .Labels "<key>"';
const PATH = /^\.([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)$/;
const INDEX = /^index\s+\.([A-Za-z_][A-Za-z0-9_.]*)\s+(?:"([^"\\]*)"|`([^`]*)`)$/;

/** Everything that is wrong with a template, each as a sentence with the fix; empty when it is one. */
export function templateProblems(text: string): readonly string[] {
  return scan(text).problems;
}

/**
 * Parses a template: literal text and `{{ … }}` with one field in each. No functions, pipes or conditions: what an ID
 * can become must be plain to whoever reads the resource.
 *
 * @throws TemplateError `TemplateInvalid`
 */
export function parseTemplate(text: string): Template {
  const { parts, problems } = scan(text);
  if (problems.length > 0) throw new TemplateError('TemplateInvalid', problems.join('; '));
  return {
    text,
    perPod: parts.some(
      (part) => part.kind === 'entry' || (part.kind === 'field' && !SHARED_FIELDS.has(part.field)),
    ),
    keys: parts.flatMap((part) => (part.kind === 'entry' ? [part.key] : [])),
    render: (data, form) => render(parts, data, form),
  };
}

function scan(text: string): { parts: readonly Part[]; problems: readonly string[] } {
  const parts: Part[] = [];
  const problems: string[] = [];
  // Bounded before anything walks it; the problem must not echo the text either.
  if (text.length > MAX_TEMPLATE_LENGTH)
    return {
      parts,
      problems: [`the template has ${text.length} characters; ${MAX_TEMPLATE_LENGTH} are allowed`],
    };
  if (text === '') return { parts, problems: ['the template is empty'] };
  let at = 0;
  let fields = 0;
  while (at < text.length) {
    const open = text.indexOf('{{', at);
    const literal = open < 0 ? text.slice(at) : text.slice(at, open);
    if (literal.includes('}}')) problems.push('"}}" has no "{{" before it');
    if (literal !== '') parts.push({ kind: 'text', text: literal });
    if (open < 0) break;
    const close = text.indexOf('}}', open);
    if (close < 0) {
      problems.push('"{{" is never closed; write "}}" after the field');
      break;
    }
    fields += 1;
    const part = field(text.slice(open + 2, close));
    if (typeof part === 'string') problems.push(part);
    else parts.push(part);
    at = close + 2;
  }
  if (fields > MAX_TEMPLATE_FIELDS)
    problems.push(`the template has ${fields} fields; ${MAX_TEMPLATE_FIELDS} are allowed`);
  return { parts, problems };
}

/** One `{{ … }}`, or what is wrong with it. */
function field(inside: string): Part | string {
  const expression = inside.trim();
  const spelling = `{{ ${expression} }}`;
  if (expression === '') return `"{{ }}" names no field; the fields are ${KNOWN}`;
  const index = INDEX.exec(expression);
  if (index !== null) {
    const [, name = '', quoted, raw] = index;
    const map = MAP_FIELDS.get(name);
    if (map === undefined) return `"${spelling}": index takes .Labels or .Annotations, not .${name}`;
    const key = quoted ?? raw ?? '';
    return key === '' ? `"${spelling}" names no key` : { kind: 'entry', spelling, map, key };
  }
  const path = PATH.exec(expression)?.[1];
  if (path === undefined) {
    const dashed = /^\.(PodMeta\.)?(Labels|Annotations)\.[^\s|"]+$/.exec(expression);
    if (dashed !== null)
      return `"${spelling}": a key that holds more than letters, digits and "_" is written {{ index .${dashed[2]} "key" }}`;
    return `"${spelling}" is not understood: functions, pipes and conditions are not supported; the fields are ${KNOWN}`;
  }
  const text = TEXT_FIELDS.get(path);
  if (text !== undefined) return { kind: 'field', spelling, field: text };
  const dot = path.lastIndexOf('.');
  const map = dot < 0 ? undefined : MAP_FIELDS.get(path.slice(0, dot));
  if (map !== undefined) return { kind: 'entry', spelling, map, key: path.slice(dot + 1) };
  if (MAP_FIELDS.has(path))
    return `"${spelling}" names no key; write {{ .${path}.app }} or {{ index .${path} "app" }}`;
  return `"${spelling}": there is no field .${path}; the fields are ${KNOWN}`;
}

const ID_PIECE = /^[a-zA-Z0-9._-]+$/;
const DNS_PIECE = /^[a-z0-9-]+$/;
const DNS_PIECES = /^[a-z0-9.-]+$/;
/** Values that are DNS names themselves, written by the operator or the cluster. */
const MAY_HOLD_DOTS: ReadonlySet<TextField> = new Set(['trustDomain', 'nodeName']);

function render(parts: readonly Part[], data: TemplateData, form: TemplateForm): Rendered {
  let text = '';
  for (const part of parts) {
    if (part.kind === 'text') {
      text += part.text;
      continue;
    }
    const value = valueOf(part, data);
    if (value === undefined) return missing(part);
    if (!isSafe(part, value, form)) return unsafe(part, value, form);
    text += value;
  }
  return { ok: true, text };
}

function valueOf(part: Exclude<Part, { kind: 'text' }>, data: TemplateData): string | undefined {
  if (part.kind === 'field') return data[part.field];
  const map = data[part.map];
  // A key such as `constructor` must not find what every object has.
  return map !== undefined && Object.hasOwn(map, part.key) ? map[part.key] : undefined;
}

function isSafe(part: Exclude<Part, { kind: 'text' }>, value: string, form: TemplateForm): boolean {
  if (form === 'id') return ID_PIECE.test(value) && value !== '..' && value !== '.';
  return (part.kind === 'field' && MAY_HOLD_DOTS.has(part.field) ? DNS_PIECES : DNS_PIECE).test(value);
}

function missing(part: Exclude<Part, { kind: 'text' }>): Rendered {
  const message =
    part.kind === 'entry'
      ? `"${part.spelling}" has no value: there is no ${part.map === 'labels' ? 'label' : 'annotation'} "${part.key}"`
      : `"${part.spelling}" has no value here`;
  return { ok: false, reason: 'TemplateValueMissing', message };
}

function unsafe(part: Exclude<Part, { kind: 'text' }>, value: string, form: TemplateForm): Rendered {
  const shown = value.length > 80 ? `${value.slice(0, 80)}…` : value;
  const rule =
    form === 'id'
      ? 'a value becomes one piece of a path segment: a-z, A-Z, 0-9, ".", "-" and "_" only, never "." or ".."'
      : 'a value becomes one piece of a DNS label: a-z, 0-9 and "-" only';
  return {
    ok: false,
    reason: 'TemplateValueUnsafe',
    message: `"${part.spelling}" is ${JSON.stringify(shown)}; ${rule}`,
  };
}
