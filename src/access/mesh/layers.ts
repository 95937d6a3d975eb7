import type { EffectivePorts, EffectiveRule } from '../policy/effective.js';
import type { NetworkOperation } from '../policy/model.js';
import {
  admit,
  type Admission,
  type AdmissionAbility,
  type Entrant,
  type Grant,
  type Layer,
} from './admission.js';
import type { Inventory } from './inventory.js';
import type { VerdictBook } from './verdict-book.js';

/** An operation on ports that are given. */
export type PortOperation = Omit<NetworkOperation, 'ports'>;

type Rule = EffectiveRule | undefined;

/** Which rules count: an Allow rule that surely holds, a Deny rule that may hold. */
export interface Counting {
  allowed(rule: EffectiveRule): boolean;
  denied(rule: EffectiveRule): boolean;
}

/** Who is let in by the rules of some ports; written down in the book. */
export function admitByRules(
  group: EffectivePorts,
  counting: Counting,
  ability: AdmissionAbility,
  inventory: Inventory,
  book: VerdictBook,
): Admission<Rule> {
  const admission = admit(layersOf(group, counting), ability, inventory);
  for (const rule of admission.used) if (rule !== undefined) book.said(rule.policy, rule.rule);
  for (const { rule, reason } of admission.losses) {
    if (rule !== undefined) {
      book.lost(rule.policy, rule.rule, reason);
      continue;
    }
    // What the default allows is narrowed by the denials that are taken away from it, if there are any.
    const denying = denials(group);
    if (denying.length === 0) book.lostByDefault(reason);
    for (const denial of denying) book.lost(denial.policy, denial.rule, reason);
  }
  return admission;
}

function denials({ deny, baseline }: EffectivePorts): readonly EffectiveRule[] {
  return [...deny, ...(baseline?.deny ?? [])];
}

/** What two layers say: the rules, and the baseline where no rule of a namespace closes the ports. */
function layersOf(
  { allow, deny, baseline, fallback }: EffectivePorts,
  { allowed, denied }: Counting,
): readonly Layer<Rule>[] {
  const entrants = (rules: readonly EffectiveRule[]): readonly Entrant<Rule>[] =>
    rules.filter(allowed).flatMap((rule) => rule.from.map((source) => ({ rule, source })));
  const sources = (rules: readonly EffectiveRule[]): Layer<Rule>['deny'] =>
    rules.filter(denied).flatMap(({ from }) => from);
  const first = { allow: entrants(allow), deny: sources(deny) };
  if (baseline === undefined) return [first];
  const everybody: Entrant<Rule> = { rule: undefined, source: { any: [{ kind: 'anyone' }], except: [] } };
  return [
    first,
    {
      allow: [...entrants(baseline.allow), ...(fallback === 'Allow' ? [everybody] : [])],
      deny: [...first.deny, ...sources(baseline.deny)],
    },
  ];
}

/** Who is let in by the rules of some ports where HTTP is not seen. */
export function connectionGrants(
  group: EffectivePorts,
  ability: AdmissionAbility,
  inventory: Inventory,
  book: VerdictBook,
): readonly Grant[] {
  const counting: Counting = {
    allowed(rule) {
      if (!hasNoConditions(rule, book)) return false;
      if (rule.to === undefined || rule.to.some(isEverything)) return true;
      book.lost(
        rule.policy,
        rule.rule,
        'to: the mesh sees no HTTP on the port, so what asks for it is left out',
      );
      return false;
    },
    denied(rule) {
      denyWithoutConditions(rule, book);
      if (rule.to !== undefined && !rule.to.some(isEverything)) {
        book.lost(
          rule.policy,
          rule.rule,
          'to: the mesh sees no HTTP on the port, so every connection is denied',
        );
      }
      return true;
    },
  };
  return admitByRules(group, counting, ability, inventory, book).grants;
}

const isEverything = (operation: PortOperation): boolean =>
  operation.methods === undefined && operation.paths === undefined && isPlain(operation);

/** Whether an operation says nothing but methods and paths. */
export const isPlain = ({ hosts, headers, query, grantedBy }: PortOperation): boolean =>
  hosts === undefined && headers === undefined && query === undefined && grantedBy?.claim === undefined;

/** Whether an Allow rule holds always; one with conditions that the mesh does not know is left out. */
export function hasNoConditions({ policy, rule, when }: EffectiveRule, book: VerdictBook): boolean {
  if (when === undefined) return true;
  book.lost(policy, rule, `${fieldsOf(when)}: the mesh cannot check it, so the rule is left out`);
  return false;
}

/** A Deny rule without its conditions denies more. */
export function denyWithoutConditions({ policy, rule, when }: EffectiveRule, book: VerdictBook): void {
  book.said(policy, rule);
  if (when === undefined) return;
  book.lost(policy, rule, `${fieldsOf(when)}: the mesh cannot check it, so the rule denies without it`);
}

const fieldsOf = (when: object): string =>
  Object.keys(when)
    .map((name) => `when.${name}`)
    .join(', ');
