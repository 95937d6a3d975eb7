import type { PolicyInput, RuleInput, SelectorInput, TargetInput } from '../policy/input.js';
import { rulesOf } from './istio-rules.js';
import {
  fieldsOf,
  listOf,
  pieces,
  Reading,
  type Bound,
  type Fields,
  type IstioMesh,
} from './istio-reading.js';
import type { ImportNote, ImportResult } from './result.js';

export type { IstioMesh } from './istio-reading.js';

const API = 'signet.dev/v1alpha1';
const MAX_RULES = 64;

/**
 * Istio's AuthorizationPolicies, and STRICT PeerAuthentications, as policies. What they say is carried over, never
 * wider: an ALLOW that cannot be carried is left out or says less, a DENY denies more. Requests that no policy speaks of
 * are allowed in Istio; here the TrustDomain's default action decides.
 */
export function importIstio(objects: readonly unknown[], mesh: IstioMesh): ImportResult {
  const notes: ImportNote[] = [];
  const policies = objects.flatMap((object) => importOne(fieldsOf(object), mesh, notes));
  return { policies, notes };
}

interface Found {
  readonly name: string;
  readonly namespace: string;
  readonly annotations: Fields;
  readonly spec: Fields;
  readonly reading: Reading;
  readonly root: boolean;
}

function importOne(object: Fields, mesh: IstioMesh, notes: ImportNote[]): readonly PolicyInput[] {
  const { apiVersion, kind, metadata, spec } = object;
  const { name, namespace, annotations } = fieldsOf(metadata);
  const place = typeof namespace === 'string' ? namespace : 'default';
  const reading = new Reading(mesh, `${String(kind)} ${place}/${String(name)}`, notes);
  if (
    typeof apiVersion !== 'string' ||
    !apiVersion.startsWith('security.istio.io/') ||
    typeof name !== 'string'
  ) {
    reading.error('the object is none of security.istio.io, or has no name');
    return [];
  }
  const found: Found = {
    name,
    namespace: place,
    annotations: fieldsOf(annotations),
    spec: fieldsOf(spec),
    reading,
    root: place === (mesh.rootNamespace ?? 'istio-system'),
  };
  if (kind === 'AuthorizationPolicy') return authorizationPolicy(found);
  if (kind === 'PeerAuthentication') return peerAuthentication(found);
  if (kind === 'RequestAuthentication') {
    reading.error(
      'declare its issuers in the TrustDomain; requests with a token that is not valid are not refused by policies',
    );
  } else reading.error(`${String(kind)} is not known, so it is left out`);
  return [];
}

const isTrue = (value: unknown): boolean =>
  typeof value === 'string' && ['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value);

const KNOWN = ['action', 'rules', 'selector', 'provider', 'targetRef', 'targetRefs'];

function authorizationPolicy(found: Found): readonly PolicyInput[] {
  const { spec, reading, namespace, annotations } = found;
  const { action = 'ALLOW', rules, selector } = spec;
  if (action === 'AUDIT') {
    reading.warn('action AUDIT only reports to a plugin, so nothing is carried over');
    return [];
  }
  const allow = action === 'ALLOW';
  const refs = spec['targetRef'] !== undefined || listOf(spec['targetRefs']).length > 0;
  const understood = checkSpec(found, action, refs);
  const bound: Bound = allow ? 'under' : 'over';
  // What is not understood opens nothing, and closes all the same.
  const entries = allow && !understood ? [] : listOf(rules);
  const list = entries.flatMap((rule, index) =>
    rulesOf(rule, namespace, bound, reading.at(`.rules[${index}]`)).map((one, at): RuleInput => ({
      name: `rule-${index}${at === 0 ? '' : `-${at}`}`,
      effect: allow ? 'Allow' : 'Deny',
      ...one,
    })),
  );
  if (!allow && list.length === 0) return [];
  const mode = isTrue(annotations['istio.io/dry-run']) ? { mode: 'Audit' } : {};
  const target = targetOf(refs ? {} : fieldsOf(selector), reading);
  const parts = list.length === 0 ? [[]] : pieces(list, MAX_RULES);
  return parts.map((some, index) =>
    policy(found, target, some, { suffix: index === 0 ? '' : `.${index}`, ...mode }),
  );
}

/** Whether all of it is understood; says what is not. */
function checkSpec({ spec, reading }: Found, action: unknown, refs: boolean): boolean {
  const strange = Object.keys(spec).filter((field) => !KNOWN.includes(field));
  for (const field of strange) reading.at(`.${field}`).error('is not understood');
  if (action !== 'ALLOW' && action !== 'DENY') {
    reading.at('.action').error('leaves it to somebody else; what it asks about is denied');
  }
  if (refs) {
    reading
      .at('.targetRefs')
      .error('names Services or Gateways; the whole namespace is meant instead, until you say which pods');
  }
  return strange.length === 0 && !refs;
}

function targetOf(selector: Fields, reading: Reading): TargetInput {
  const { matchLabels, ...strange } = selector;
  for (const field of Object.keys(strange)) reading.at(`.selector.${field}`).error('is not understood');
  const labels = Object.entries(fieldsOf(matchLabels)).map(([key, value]) => [key, String(value)] as const);
  if (labels.length === 0) return {};
  const podSelector: SelectorInput = { matchLabels: Object.fromEntries(labels) };
  return { podSelector };
}

/** What lies in the root namespace holds in the whole mesh. */
function policy(
  { name, namespace, root }: Found,
  target: TargetInput,
  rules: readonly RuleInput[],
  { suffix, mode }: { readonly suffix: string; readonly mode?: string },
): PolicyInput {
  const spec: PolicyInput['spec'] = { target, rules, ...(mode === undefined ? {} : { mode }) };
  const object: PolicyInput = root
    ? {
        kind: 'ClusterAccessPolicy',
        metadata: { name: `${name}${suffix}` },
        spec: { tier: 'Admin', ...spec },
      }
    : { kind: 'AccessPolicy', metadata: { name: `${name}${suffix}`, namespace }, spec };
  return Object.assign({ apiVersion: API }, object);
}

/** STRICT refuses whoever has no identity. */
function peerAuthentication(found: Found): readonly PolicyInput[] {
  const { spec, reading, root } = found;
  const target = targetOf(fieldsOf(spec['selector']), reading);
  if (root && target.podSelector !== undefined) {
    reading.at('.selector').warn('is ignored in the root namespace, and so is the object');
    return [];
  }
  const deny = (ports?: readonly number[]): RuleInput => ({
    name: ports === undefined ? 'strict' : 'strict-ports',
    effect: 'Deny',
    from: [{ anyone: true, except: [{ anyAuthenticated: true }] }],
    ...(ports === undefined ? {} : { to: [{ ports }] }),
  });
  const modeOf = (value: unknown): unknown => fieldsOf(value)['mode'];
  const mode = modeOf(spec['mtls']);
  const levels = Object.entries(fieldsOf(spec['portLevelMtls'])).map(
    ([port, one]) => [Number(port), modeOf(one)] as const,
  );
  const ports = levels.filter(([, one]) => one === 'STRICT').map(([port]) => port);
  const others = [mode, ...levels.map(([, one]) => one)].filter(
    (one) => one === 'PERMISSIVE' || one === 'DISABLE',
  );
  if (others.length > 0) {
    reading.warn(
      'takes plaintext where a wider PeerAuthentication may not: what that one denies stays denied',
    );
  }
  const rules = [...(mode === 'STRICT' ? [deny()] : []), ...(ports.length > 0 ? [deny(ports)] : [])];
  return rules.length === 0 ? [] : [policy(found, target, rules, { suffix: '.mtls' })];
}
