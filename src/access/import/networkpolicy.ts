import type {
  OperationInput,
  PolicyInput,
  PrincipalInput,
  RuleInput,
  SelectorInput,
} from '../policy/input.js';
import type { ImportNote, ImportResult } from './result.js';

type Fields = Readonly<Record<string, unknown>>;

/** The largest range of ports that is written out port by port. */
const MAX_RANGE = 1000;

/**
 * NetworkPolicies (networking.k8s.io/v1) as AccessPolicies. What they say about ingress is carried over, never wider: peers
 * become the identities of namespaces, with the labels of the calling pod as a condition, or address blocks.
 */
export function importNetworkPolicies(objects: readonly unknown[]): ImportResult {
  const notes: ImportNote[] = [];
  const policies = objects.flatMap((object) => importOne(object, notes));
  return { policies, notes };
}

/** Where something was found, to say what is wrong with it. */
interface Place {
  readonly object: string;
  readonly namespace: string;
  readonly notes: ImportNote[];
}

/** Says what is wrong; nothing comes of it. */
function note(
  place: Place,
  severity: ImportNote['severity'],
  field: string,
  message: string,
): readonly never[] {
  place.notes.push({ object: place.object, field, severity, message });
  return [];
}

function importOne(object: unknown, notes: ImportNote[]): readonly PolicyInput[] {
  const { apiVersion, kind, metadata, spec } = fieldsOf(object) ?? {};
  const { name, namespace = 'default' } = fieldsOf(metadata) ?? {};
  const place: Place = {
    object: `${textOf(kind)} ${textOf(namespace)}/${textOf(name)}`,
    namespace: textOf(namespace),
    notes,
  };
  if (kind !== 'NetworkPolicy' || apiVersion !== 'networking.k8s.io/v1') {
    return note(place, 'error', 'kind', 'is no NetworkPolicy of networking.k8s.io/v1');
  }
  const content = fieldsOf(spec);
  if (content === undefined || textOf(name) === '') {
    return note(place, 'error', 'spec', 'has no spec, or no name');
  }
  return importSpec(content, textOf(name), place);
}

function importSpec(content: Fields, name: string, place: Place): readonly PolicyInput[] {
  const { podSelector, policyTypes, ingress, egress, ...unknown } = content;
  const [field] = Object.keys(unknown);
  if (field !== undefined) {
    const message = 'is not a field that this version understands, so the object is left out';
    return note(place, 'error', `spec.${field}`, message);
  }
  const types = listOf(policyTypes);
  if (egress !== undefined || types.includes('Egress')) {
    const message = 'is not carried over: policies are about who may reach a workload';
    note(place, 'error', 'spec.egress', message);
  }
  if (types.length > 0 && !types.includes('Ingress')) return [];
  const selector = selectorOf(podSelector ?? {});
  if (selector === undefined) return note(place, 'error', 'spec.podSelector', 'is no label selector');
  const policy = {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'AccessPolicy',
    metadata: { name, namespace: place.namespace },
    spec: {
      target: isEmpty(selector) ? {} : { podSelector: selector },
      // No rule closes the pods, as an empty list does there.
      rules: listOf(ingress).flatMap((rule, index) => rulesOf(rule, index, place)),
    },
  };
  return [policy];
}

function rulesOf(value: unknown, index: number, place: Place): readonly RuleInput[] {
  const field = `spec.ingress[${index}]`;
  const rule = fieldsOf(value);
  if (rule === undefined) return note(place, 'error', field, 'is no rule');
  const { from, ports, ...unknown } = rule;
  const [key] = Object.keys(unknown);
  if (key !== undefined) {
    return note(place, 'error', `${field}.${key}`, 'is not understood, so the rule is left out');
  }
  const to = operationsOf(listOf(ports), `${field}.ports`, place);
  if (to?.length === 0) return [];
  const peers = listOf(from);
  // An absent or empty `from` is everybody.
  const sources =
    peers.length === 0
      ? [{ from: { anyone: true } }]
      : peers.flatMap((peer, at) => sourceOf(peer, `${field}.from[${at}]`, place));
  const conditions = new Map<string, { readonly from: PrincipalInput[]; readonly labels?: SelectorInput }>();
  for (const source of sources) {
    const key = JSON.stringify(source.labels);
    const known = conditions.get(key);
    if (known !== undefined) known.from.push(source.from);
    else conditions.set(key, { ...source, from: [source.from] });
  }
  return [...conditions.values()].map((part, at) => ({
    name: `ingress-${index}${at === 0 ? '' : `-${at}`}`,
    from: part.from,
    ...(to === undefined ? {} : { to }),
    ...(part.labels === undefined ? {} : { when: { sourceLabels: part.labels } }),
  }));
}

interface ImportedSource {
  readonly from: PrincipalInput;
  readonly labels?: SelectorInput;
}

function sourceOf(value: unknown, field: string, place: Place): readonly ImportedSource[] {
  const { ipBlock, namespaceSelector, podSelector, ...unknown } = fieldsOf(value) ?? {};
  if (Object.keys(unknown).length > 0) {
    return note(
      place,
      'error',
      field,
      `${Object.keys(unknown).join(', ')} is not understood, so the peer is left out`,
    );
  }
  if (ipBlock !== undefined) {
    if (namespaceSelector !== undefined || podSelector !== undefined) {
      return note(place, 'error', field, 'says ipBlock and a selector, which Kubernetes refuses');
    }
    return blockOf(ipBlock, `${field}.ipBlock`, place);
  }
  if (namespaceSelector === undefined && podSelector === undefined) {
    return note(place, 'error', field, 'names nobody, so the peer is left out');
  }
  const namespaces = namespaceSelector === undefined ? undefined : selectorOf(namespaceSelector);
  const pods = podSelector === undefined ? {} : selectorOf(podSelector);
  if (pods === undefined || (namespaces === undefined && namespaceSelector !== undefined)) {
    return note(place, 'error', field, 'holds no label selector, so the peer is left out');
  }
  const source = {
    from: namespaces === undefined ? { namespaces: [place.namespace] } : { namespaceSelector: namespaces },
    ...(isEmpty(pods) ? {} : { labels: pods }),
  };
  return [source];
}

function blockOf(value: unknown, field: string, place: Place): readonly ImportedSource[] {
  const { cidr, except, ...unknown } = fieldsOf(value) ?? {};
  const blocks = listOf(except);
  if (
    typeof cidr !== 'string' ||
    !blocks.every((block) => typeof block === 'string') ||
    Object.keys(unknown).length > 0
  ) {
    return note(place, 'error', field, 'is no address block, so the peer is left out');
  }
  note(
    place,
    'warning',
    field,
    'is about whoever has such an address, pods too; network plugins differ on whether a block is about pods',
  );
  const excepted = blocks.filter((block) => typeof block === 'string');
  const from: PrincipalInput = {
    anyone: true,
    ipBlocks: [cidr],
    ...(excepted.length === 0 ? {} : { except: [{ anyone: true, ipBlocks: excepted }] }),
  };
  return [{ from }];
}

/** Undefined for all ports; empty when nothing of what is said can be carried over. */
function operationsOf(
  ports: readonly unknown[],
  field: string,
  place: Place,
): readonly OperationInput[] | undefined {
  if (ports.length === 0) return undefined;
  const numbers = ports.flatMap((value, index) => portsOf(value, `${field}[${index}]`, place));
  return numbers.length === 0 ? [] : [{ ports: [...new Set(numbers)] }];
}

function portsOf(value: unknown, field: string, place: Place): readonly number[] {
  const { protocol = 'TCP', port, endPort, ...unknown } = fieldsOf(value) ?? {};
  if (Object.keys(unknown).length > 0)
    return note(place, 'error', field, 'is not understood, so it is left out');
  if (protocol !== 'TCP') {
    return note(
      place,
      'error',
      field,
      `${textOf(protocol)} is left out: policies are about requests over TCP`,
    );
  }
  if (!isPort(port)) {
    const why =
      port === undefined
        ? 'all TCP ports but no UDP cannot be said; leave ports out for all'
        : `${JSON.stringify(port)} is no port number; names of ports differ from pod to pod, so write the number`;
    return note(place, 'error', field, why);
  }
  if (endPort === undefined) return [port];
  if (!isPort(endPort) || endPort < port || endPort - port >= MAX_RANGE) {
    return note(place, 'error', field, `the range is left out: more than ${MAX_RANGE} ports, or none`);
  }
  return Array.from({ length: endPort - port + 1 }, (_, index) => port + index);
}

const isPort = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535;

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as readonly unknown[]) : [];
}

/** A label selector without what is empty; its values are checked when the policy is compiled. */
function selectorOf(value: unknown): SelectorInput | undefined {
  const { matchLabels, matchExpressions, ...unknown } = fieldsOf(value) ?? { none: value };
  if (Object.keys(unknown).length > 0) return undefined;
  const labels = fieldsOf(matchLabels ?? {});
  const expressions = matchExpressions === undefined ? [] : matchExpressions;
  if (labels === undefined || !Array.isArray(expressions)) return undefined;
  return {
    ...(Object.keys(labels).length === 0
      ? {}
      : { matchLabels: labels as NonNullable<SelectorInput['matchLabels']> }),
    ...(expressions.length === 0
      ? {}
      : { matchExpressions: expressions as NonNullable<SelectorInput['matchExpressions']> }),
  };
}

const isEmpty = (selector: SelectorInput): boolean => Object.keys(selector).length === 0;
