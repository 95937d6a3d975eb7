import type { EffectivePolicy, EffectivePorts } from '../policy/effective.js';
import type { Policy } from '../policy/model.js';
import type { AdmissionAbility, Grant } from './admission.js';
import type { InventoryWorkload } from './inventory.js';
import { connectionGrants } from './layers.js';
import type { RenderContext } from './renderer.js';
import type { Selection } from './pod-selector.js';
import type { VerdictBook } from './verdict-book.js';

/** What a port says of which nothing is allowed. */
export const CLOSED: EffectivePorts = { ports: 'others', deny: [], allow: [], fallback: 'Deny' };

/** What holds on a port. */
export function groupOf(groups: readonly EffectivePorts[], port: number): EffectivePorts {
  return (
    groups.find(({ ports }) => ports !== 'others' && ports.includes(port)) ??
    groups.find(({ ports }) => ports === 'others') ??
    CLOSED
  );
}

/** What a mesh says of every policy, whatever is in it. */
export interface EntryWords {
  /** Why audited policies are not rendered; absent where they are. */
  readonly audit?: string;
  /** Under which conditions what is rendered holds. */
  readonly conditions: readonly string[];
  /** Why a rule does not hold on ports that the workload does not declare. */
  readonly strayPorts: string;
}

/** Gives every policy and rule that concerns the workload an entry in the book. */
export function openEntries(
  workload: InventoryWorkload,
  policies: readonly Policy[],
  words: EntryWords,
  book: VerdictBook,
): void {
  const declared = new Set(workload.ports.map(({ port }) => port));
  for (const policy of policies) {
    if (policy.mode === 'Audit') {
      if (words.audit === undefined) book.open(policy);
      else book.lost(policy, undefined, words.audit);
      continue;
    }
    book.open(policy);
    if (policy.problems !== undefined) {
      book.lost(
        policy,
        undefined,
        'the policy could not be compiled, so everything that reaches its tier is denied',
      );
    }
    for (const condition of words.conditions) book.condition(policy, undefined, condition);
    for (const rule of policy.rules) {
      book.open(policy, rule);
      const named = (rule.to ?? []).flatMap((one) => (one.kind === 'network' ? (one.ports ?? []) : []));
      const stray = [...named, ...(policy.target.ports ?? [])].filter((port) => !declared.has(port));
      if (stray.length === 0) continue;
      const ports = [...new Set(stray)].join(', ');
      book.lost(policy, rule, `ports: the workload declares no port ${ports}, ${words.strayPorts}`);
    }
  }
}

/**
 * Another workload which the selector of this one would select too, and which is not ruled alike; undefined when there is
 * none. `exact` says whether the mesh can leave out pods that carry more labels.
 */
export function entangled(
  workload: InventoryWorkload,
  { twins, covered }: Selection,
  exact: boolean,
  { set }: RenderContext,
): InventoryWorkload | undefined {
  const mine = set.concerning(workload);
  // What depends on labels may differ, though the same policies concern both.
  const byLabels = mine.some(({ rules }) => rules.some(({ when }) => when?.targetLabels !== undefined));
  const isAlike = (other: InventoryWorkload, sameLabels: boolean): boolean => {
    const others = set.concerning(other);
    return (
      (sameLabels || !byLabels) &&
      mine.length === others.length &&
      mine.every((policy, index) => policy === others[index]) &&
      JSON.stringify([workload.ports, workload.probes]) === JSON.stringify([other.ports, other.probes])
    );
  };
  return (
    twins.find((other) => !isAlike(other, true)) ??
    (exact ? undefined : covered.find((other) => !isAlike(other, false)))
  );
}

/** Closes a workload, with a reason for every rule. */
export function closeAll(policies: readonly Policy[], reason: string, book: VerdictBook): void {
  for (const policy of policies) {
    if (policy.mode !== 'Enforce') continue;
    book.lost(policy, undefined, reason);
    for (const rule of policy.rules) book.lost(policy, rule, reason);
  }
}

/** Who is let in on which ports, where a mesh sees connections only. */
export interface PortGrants {
  /** Absent means every port. */
  readonly ports?: readonly number[];
  readonly grants: readonly Grant[];
}

/** Who is let in on the declared ports, or on all ports where they do not differ. Ports that nobody may use are left out. */
export function grantsByPort(
  workload: InventoryWorkload,
  { groups }: Pick<EffectivePolicy, 'groups'>,
  ability: AdmissionAbility,
  { inventory }: RenderContext,
  book: VerdictBook,
): readonly PortGrants[] {
  const entries = groups.map((group) => ({
    group,
    grants: connectionGrants(group, ability, inventory, book),
  }));
  const [first] = entries;
  if (first === undefined) return [];
  const key = JSON.stringify(first.grants);
  if (entries.every(({ grants }) => JSON.stringify(grants) === key)) {
    return first.grants.length === 0 ? [] : [{ grants: first.grants }];
  }
  const ports = Map.groupBy(workload.ports, ({ port }) => {
    const group = groupOf(groups, port);
    return entries.find((entry) => entry.group === group)?.grants ?? [];
  });
  return [...ports].flatMap(([grants, list]) =>
    grants.length === 0 ? [] : [{ ports: list.map(({ port }) => port), grants }],
  );
}
