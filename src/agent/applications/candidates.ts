import type { ActionOperation, Policy, Rule, TargetWorkload } from '../../access/policy/model.js';
import type { AuthorizationView } from '../authorization/view.js';

/** What a search can find: it is decided for each, so that a wrong candidate is never a wrong result. */
export interface Candidates {
  /** In order, each once. */
  readonly values: readonly string[];
  /** Where they come from, and what is therefore not found: for whoever reads the answer. */
  readonly note: string;
}

/** The actions that rules for this workload name. */
export function actionCandidates(view: AuthorizationView, target: TargetWorkload): Candidates {
  return {
    values: sorted(
      rulesFor(view, target).flatMap((rule) => [...actionsOf(rule), ...valuesOf(rule, ['action', 'name'])]),
    ),
    note: 'actions that rules for this workload name; a rule for any action allows others too',
  };
}

/** The resources of a type that rules for this workload name. */
export function resourceCandidates(
  view: AuthorizationView,
  target: TargetWorkload,
  type: string,
): Candidates {
  return {
    values: sorted(
      rulesFor(view, target).flatMap((rule) => [
        ...operationsOf(rule).flatMap(({ resources = [] }) =>
          resources.flatMap((resource) => (resource.type === type ? (resource.ids ?? []) : [])),
        ),
        ...valuesOf(rule, ['resource', 'id']),
      ]),
    ),
    note: 'resources whose ids rules for this workload name; ask about others by evaluations',
  };
}

/** Every identity that is given out here, and those of others that rules for this workload name. */
export function workloadCandidates(view: AuthorizationView, target: TargetWorkload): Candidates {
  const named = rulesFor(view, target).flatMap(({ from }) =>
    from.flatMap(({ any }) =>
      any.flatMap((principal) => (principal.kind === 'spiffeId' ? [principal.uri] : [])),
    ),
  );
  return {
    values: sorted([...identities(view), ...named]),
    note: 'identities that are given out here, and those that rules for this workload name',
  };
}

/** Users are not known here, but for those whom rules for this workload name. */
export function userCandidates(view: AuthorizationView, target: TargetWorkload): Candidates {
  return {
    values: sorted(rulesFor(view, target).flatMap((rule) => valuesOf(rule, ['subject', 'id']))),
    note: 'subjects whose ids rules for this workload name; users are not known here',
  };
}

/** Views follow one another quickly, and a search comes in pages. */
const known = new WeakMap<AuthorizationView, readonly string[]>();

function identities(view: AuthorizationView): readonly string[] {
  const before = known.get(view);
  if (before !== undefined) return before;
  const all = view.inventory.workloads.flatMap(({ spiffeIds }) => spiffeIds);
  known.set(view, all);
  return all;
}

const rulesFor = ({ policies }: AuthorizationView, target: TargetWorkload): readonly Rule[] =>
  policies.concerning(target).flatMap(({ rules }: Policy) => rules);

const operationsOf = ({ to = [] }: Rule): readonly ActionOperation[] =>
  to.filter((operation) => operation.kind === 'action');

const actionsOf = (rule: Rule): readonly string[] =>
  operationsOf(rule).flatMap(({ actions = [] }) => actions);

/** What an attribute is compared with. */
function valuesOf({ when }: Rule, path: readonly string[]): readonly string[] {
  return (when?.attributes ?? []).flatMap((match) =>
    match.path.join('.') === path.join('.') ? match.values : [],
  );
}

/** By code units, as texts compare, so that a page can go on where the last one ended. */
function sorted(values: readonly string[]): readonly string[] {
  return [...new Set(values)].sort((a, b) => (a < b ? -1 : 1));
}
