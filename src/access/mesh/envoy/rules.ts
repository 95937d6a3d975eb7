import type { EffectiveRule } from '../../policy/effective.js';
import { policyName, type PathPattern } from '../../policy/model.js';
import type { EnvoyIssuer } from './issuers.js';
import { operationLeaf, pathsLeaf } from './http.js';
import { allOf, exact, unsaid, type Leaf } from './leaf.js';
import { all, ALWAYS, type Predicate } from './predicate.js';
import { keyedSources, type SourceKey } from './sources.js';
import { claimLeaf, tokenLeaf } from './tokens.js';

/** What a filter sees of a request. */
export interface View {
  /** False for the network filter, which sees the connection only. */
  readonly http: boolean;
  /** False for connections without TLS, which have no identity; Envoy cannot match certificates there at all. */
  readonly identified: boolean;
  readonly issuers: readonly EnvoyIssuer[];
}

/** One way to meet a rule. */
export interface Entry {
  readonly name: string;
  readonly key: SourceKey;
  readonly when: Predicate;
  /** One of these as well; absent for any path. */
  readonly paths?: readonly PathPattern[];
}

/** A rule as entries, and what was lost on the way. */
export interface RuleEntries {
  readonly entries: readonly Entry[];
  readonly reasons: readonly string[];
  readonly notes: readonly string[];
}

/** The name by which Envoy says which rule it was. */
export const ruleName = ({ policy, rule }: EffectiveRule): string => `${policyName(policy.ref)}:${rule.name}`;

export function ruleEntries(effective: EffectiveRule, view: View): RuleEntries {
  const { effect } = effective.rule;
  const sources = effective.from.flatMap((source) => keyedSources(source, effect, view.identified));
  const conditions = conditionsLeaf(effective, view);
  const alternatives = (effective.to ?? [ANYTHING]).map((operation): Alternative => {
    const { paths } = operation;
    const claim = operation.grantedBy?.claim;
    const whole = allOf([
      conditions,
      ...(claim === undefined ? [] : [view.http ? claimLeaf(claim, view.issuers) : unsaid(NO_TOKEN)]),
      view.http ? operationLeaf(operation) : connectionLeaf(operation),
    ]);
    if (paths === undefined || !view.http) return { leaf: whole };
    const path = pathsLeaf(paths);
    // Paths that can be said by themselves are kept apart, to be looked up rather than tried one by one.
    if (path.reasons.length === 0) return { leaf: whole, paths };
    return { leaf: allOf([whole, path]) };
  });
  const entries = alternatives.flatMap(({ leaf, paths }) => {
    const when = effect === 'Allow' ? leaf.surely : leaf.possibly;
    if (when.kind === 'never') return [];
    return sources.map((source): Entry => ({
      name: ruleName(effective),
      key: source.key,
      when: all([source.when, when]),
      ...(paths === undefined ? {} : { paths }),
    }));
  });
  return {
    entries,
    reasons: alternatives.flatMap(({ leaf }) => leaf.reasons),
    notes: alternatives.flatMap(({ leaf }) => leaf.notes ?? []),
  };
}

interface Alternative {
  readonly leaf: Leaf;
  readonly paths?: readonly PathPattern[];
}

type Operation = NonNullable<EffectiveRule['to']>[number];

const ANYTHING: Operation = { kind: 'network' };
const NO_TOKEN = 'a network filter sees no tokens';

function conditionsLeaf({ when }: EffectiveRule, view: View): Leaf {
  if (when === undefined) return exact(ALWAYS);
  const { token, sourceLabels, sourcePosture, attributes, cel } = when;
  const blind = (said: unknown, field: string, why: string): readonly Leaf[] =>
    said === undefined ? [] : [unsaid(`when.${field}: ${why}`)];
  return allOf([
    ...(token === undefined ? [] : [view.http ? tokenLeaf(token, view.issuers) : unsaid(NO_TOKEN)]),
    ...blind(
      sourceLabels,
      'sourceLabels',
      'Envoy does not know the labels of the calling pod; name the callers by identity',
    ),
    ...blind(
      sourcePosture,
      'sourcePosture',
      'Envoy does not know the images and privileges of the calling pod',
    ),
    ...blind(
      attributes,
      'attributes',
      'Envoy does not compare attributes; ask the authorization service (ext_authz)',
    ),
    ...blind(cel, 'cel', 'CEL conditions are left to the authorization service (ext_authz)'),
  ]);
}

/** What a connection says of an operation: nothing, and its port is known already. */
function connectionLeaf(operation: Operation): Leaf {
  const fields = ['methods', 'hosts', 'paths', 'headers', 'query'] as const;
  const said = fields.filter((field) => operation[field] !== undefined);
  if (said.length === 0) return exact(ALWAYS);
  return unsaid(
    `a network filter does not see HTTP (${said.join(', ')}); use the HTTP filters where HTTP is spoken`,
  );
}
