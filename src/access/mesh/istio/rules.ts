import type { EffectiveRule } from '../../policy/effective.js';
import type { Conditions, Effect, Rule } from '../../policy/model.js';
import type { RuleNotes } from './findings.js';
import {
  chunks,
  MAX_ITEMS,
  WELL_FORMED,
  type Dialect,
  type IstioCondition,
  type IstioOperation,
  type IstioRule,
} from './language.js';
import { istioOperations, type PortScope } from './operations.js';
import { istioSources } from './sources.js';
import { tokenConditions, type Conditions as Said } from './values.js';

/** Conditions of which Istio sees nothing, in words. */
const UNSEEN: readonly (readonly [keyof Conditions, string])[] = [
  ['sourceLabels', "Istio does not see the calling pod's labels (sourceLabels); name its identity"],
  ['sourcePosture', 'Istio does not see what the calling pod is like (sourcePosture)'],
  ['attributes', 'Istio does not know attributes'],
  ['cel', 'Istio has no CEL conditions'],
];

/**
 * A rule in Istio's words, on some ports: alternatives, of which none may be left. Its times and the labels of its target
 * are worked out by whoever calls. An Allow rule that cannot be said is left out; a Deny rule does without the condition.
 */
export function istioRules(
  rule: Pick<Rule, 'from' | 'to' | 'when'>,
  scope: PortScope,
  effect: Effect,
  dialect: Dialect,
  notes: RuleNotes,
): readonly IstioRule[] {
  const when = conditions(rule.when, effect, dialect, notes);
  if (when === undefined) return [];
  const sources = rule.from.flatMap((source) => istioSources(source, effect, dialect, notes));
  const groups = sources.length === 0 ? [] : istioOperations(rule.to, scope, effect, dialect, notes);
  const everybody = sources.some((source) => Object.keys(source).length === 0);
  const froms = everybody ? [undefined] : chunks(sources, MAX_ITEMS);
  const rules = groups.flatMap(({ when: more, operations }) =>
    froms.map((from): IstioRule => {
      const said = unique([...when, ...more]);
      const guarded =
        effect === 'Allow' && dialect.mode !== 'ambient' && (said.length > 0 || speaksOfHttp(operations));
      const all = guarded ? [...said, WELL_FORMED] : said;
      return {
        ...(from === undefined ? {} : { from: from.map((source) => ({ source })) }),
        ...(operations === undefined ? {} : { to: operations.map((operation) => ({ operation })) }),
        ...(all.length === 0 ? {} : { when: all }),
      };
    }),
  );
  if (rules.length > 0) notes.isSaid();
  return rules;
}

function speaksOfHttp(operations: readonly IstioOperation[] | undefined): boolean {
  return (operations ?? []).some(
    ({ hosts, methods, paths }) => hosts !== undefined || methods !== undefined || paths !== undefined,
  );
}

function conditions(when: Conditions | undefined, effect: Effect, dialect: Dialect, notes: RuleNotes): Said {
  let sayable = true;
  for (const [name, reason] of UNSEEN) {
    if (when?.[name] === undefined) continue;
    notes.lost(reason);
    sayable = false;
  }
  if (!sayable && effect === 'Allow') return undefined;
  if (when?.token === undefined) return [];
  if (dialect.mode !== 'ambient') return tokenConditions(when.token, effect, dialect, notes);
  notes.lost('ztunnel does not see tokens; put a waypoint in front for this');
  return effect === 'Allow' ? undefined : [];
}

function unique(list: readonly IstioCondition[]): readonly IstioCondition[] {
  return [...new Map(list.map((one) => [JSON.stringify(one), one])).values()];
}

/** Whether a rule needs tokens to be validated. */
export function asksToken({ to, when }: Rule): boolean {
  return when?.token !== undefined || (to ?? []).some(({ grantedBy }) => grantedBy?.claim !== undefined);
}

/** What is left of a rule for one workload, as a rule. */
export const asRule = ({ from, to, when }: EffectiveRule): Pick<Rule, 'from' | 'to' | 'when'> => ({
  from,
  ...(to === undefined ? {} : { to }),
  ...(when === undefined ? {} : { when }),
});
