import { isRecord } from '../../access/policy/read.js';
import { serviceAccountUri } from '../../access/policy/spiffe-namespace.js';
import { parseSpiffeId } from '../../identity/spiffe/id.js';
import type { StoredObject } from '../../store/store.js';
import { TOPIC } from './topics.js';

type Fields = Readonly<Record<string, unknown>>;

/**
 * The topics that decisions by a policy ask for, beside the policy and its target. Rather one too many than one too few:
 * what is not sent reads as not known. Total: a policy that cannot be compiled opens nothing whatever it asks for.
 */
export function needsOf(policy: StoredObject, trustDomain: string): readonly string[] {
  const { spec } = policy as StoredObject & { readonly spec?: unknown };
  const place = { namespace: policy.metadata.namespace, trustDomain };
  const needs = records(fieldsOf(spec)['rules']).flatMap((rule) => {
    const from = records(rule['from']);
    const asksSource = asksAboutCaller(fieldsOf(rule['when']));
    return from.flatMap((entry) => [
      ...[entry, ...records(entry['except'])].flatMap((match) => resolvedBy(match, place)),
      ...(asksSource ? sourcesOf(entry, place) : []),
    ]);
  });
  return [...new Set(needs)];
}

interface Place {
  /** Undefined for cluster-wide policies. */
  readonly namespace: string | undefined;
  readonly trustDomain: string;
}

/** What says whom a principal names. */
function resolvedBy(match: Fields, place: Place): readonly string[] {
  const selector = match['namespaceSelector'];
  return [
    ...identityKeys(match, place).map(TOPIC.identity),
    ...(selector === undefined ? [] : [TOPIC.selected(selector)]),
  ];
}

function identityKeys(match: Fields, { namespace }: Place): readonly string[] {
  return records(match['identities']).map(({ kind, namespace: named, name }) =>
    kind === 'ClusterWorkloadIdentity'
      ? `ClusterWorkloadIdentity/${text(name)}`
      : `WorkloadIdentity/${text(named ?? namespace)}/${text(name)}`,
  );
}

/** Of which callers something must be known: of those whom the entry may name, since it says nothing of others. */
function sourcesOf(entry: Fields, { namespace, trustDomain }: Place): readonly string[] {
  const named: readonly (readonly string[])[] = [
    texts(entry['spiffeIDs'])
      .flatMap((id) => canonical(id))
      .map(TOPIC.source),
    texts(entry['namespaces']).map(TOPIC.sourcesOf),
    records(entry['serviceAccounts']).map((account) => {
      const of = {
        namespace: text(account['namespace'] ?? namespace),
        serviceAccount: text(account['name']),
      };
      return TOPIC.source(serviceAccountUri({ trustDomain, ...of }));
    }),
    // All that a WorkloadIdentity gives out lies under its namespace.
    records(entry['identities']).map((ref) =>
      ref['kind'] === 'ClusterWorkloadIdentity'
        ? TOPIC.sources
        : TOPIC.sourcesOf(text(ref['namespace'] ?? namespace)),
    ),
  ];
  return named.every((topics) => topics.length === 0) ? [TOPIC.sources] : named.flat();
}

function canonical(id: string): readonly string[] {
  try {
    return [parseSpiffeId(id).uri];
  } catch {
    return [];
  }
}

/** Whether conditions ask what the calling pod is. */
function asksAboutCaller(when: Fields): boolean {
  return (
    when['sourceLabels'] !== undefined ||
    when['sourcePosture'] !== undefined ||
    records(when['attributes']).some(({ attribute, other }) => [attribute, other].some(isCallerLabel)) ||
    asksInCel(when['cel'])
  );
}

const isCallerLabel = (path: unknown): boolean =>
  path === 'subject.labels' || (typeof path === 'string' && path.startsWith('subject.labels.'));

/** Safe are fields of the subject by name, but its labels; whatever else is done with it may come upon them. */
const SAFE_SUBJECT = /\bsubject\s*\.\s*(?!labels\b)[A-Za-z_]\w*(?!\w|\s*\()/g;

function asksInCel(expression: unknown): boolean {
  if (expression === undefined) return false;
  return typeof expression !== 'string' || expression.replace(SAFE_SUBJECT, '').includes('subject');
}

const fieldsOf = (value: unknown): Fields => (isRecord(value) ? value : {});
const records = (value: unknown): readonly Fields[] => (Array.isArray(value) ? value.filter(isRecord) : []);
const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const texts = (value: unknown): readonly string[] =>
  Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
