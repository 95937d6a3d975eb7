import type { Effect, PathPattern, TemplateSegment } from '../../policy/model.js';
import type { RuleNotes } from './findings.js';

/** How many spellings of one path are written out. */
const MAX_SPELLINGS = 64;
/** The longest template that Envoy takes (uri_template_match.proto). */
const MAX_TEMPLATE = 256;

/**
 * Paths as Istio writes them. Its wildcard is a raw string prefix, so each prefix ends in a slash. What a path may not
 * hold (`//`, `;`, `%2F`, …) never comes to these rules: request-form.ts refuses it.
 */
export function istioPaths(
  paths: readonly PathPattern[],
  effect: Effect,
  notes: RuleNotes,
): readonly string[] {
  return [...new Set(paths.flatMap((pattern) => onePath(pattern, effect, notes)))];
}

function onePath(pattern: PathPattern, effect: Effect, notes: RuleNotes): readonly string[] {
  const literals =
    pattern.kind === 'template' ? pattern.segments : [{ kind: 'literal', value: pattern.path }];
  if (literals.some((part) => part.kind === 'literal' && 'value' in part && part.value.includes('*'))) {
    // Nothing is left to deny there, either.
    if (effect === 'Allow')
      notes.lost('requests whose path holds "*" are refused, since Istio cannot compare them');
    return [];
  }
  switch (pattern.kind) {
    case 'exact':
      return spellings(pattern.path, effect, notes, (text) => text);
    case 'prefix':
      if (pattern.path === '/') return ['/*'];
      return [
        ...spellings(pattern.path, effect, notes, (text) => text),
        ...spellings(pattern.path, effect, notes, (text) => `${text}/*`),
      ];
    case 'template':
      return template(pattern.segments, effect, notes);
  }
}

function template(segments: readonly TemplateSegment[], effect: Effect, notes: RuleNotes): readonly string[] {
  const first = segments.findIndex(({ kind }) => kind !== 'literal');
  const literal = (list: readonly TemplateSegment[]): string =>
    list.map((segment) => (segment.kind === 'literal' ? `/${segment.value}` : '')).join('');
  if (first < 0) return spellings(literal(segments), effect, notes, (text) => text);
  const head = literal(segments.slice(0, first));
  if (segments[first]?.kind === 'rest') return spellings(head, effect, notes, (text) => `${text}/*`);
  const text = segments
    .map((segment) => {
      if (segment.kind === 'literal') return `/${segment.value}`;
      return segment.kind === 'one' ? '/{*}' : '/{**}';
    })
    .join('');
  if (text.length <= MAX_TEMPLATE) return spellings(text, effect, notes, (one) => one);
  notes.lost('a path template longer than 256 characters cannot be said in Istio');
  return effect === 'Allow' ? [] : spellings(head, effect, notes, (one) => `${one}/*`);
}

/**
 * Every spelling of a path whose percent-encodings have letters: ours compares them in upper case (RFC 3986 §6.2.2.1),
 * Envoy as they came.
 */
function spellings(
  path: string,
  effect: Effect,
  notes: RuleNotes,
  finish: (text: string) => string,
): readonly string[] {
  let texts = [''];
  for (const part of path.split(/(?<=%[0-9A-F]{2})|(?=%[0-9A-F]{2})/)) {
    const forms = /^%[0-9A-F]{2}$/.test(part) ? caseForms(part) : [part];
    texts = texts.flatMap((text) => forms.map((form) => `${text}${form}`));
    if (texts.length > MAX_SPELLINGS) {
      notes.lost('Istio compares percent-encodings with their case, and the path has too many of them');
      // For a Deny rule everything is meant rather than too little.
      return effect === 'Allow' ? [finish(path)] : ['/*'];
    }
  }
  return texts.map(finish);
}

function caseForms(encoded: string): readonly string[] {
  let forms = [''];
  for (const character of encoded) {
    const lower = character.toLowerCase();
    const both = lower === character ? [character] : [character, lower];
    forms = forms.flatMap((form) => both.map((one) => form + one));
  }
  return forms;
}
