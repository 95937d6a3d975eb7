import { parseSpiffeId } from '../../identity/spiffe/id.js';
import { didYouMean } from '../../lib/did-you-mean.js';
import type { Inventory } from '../mesh/inventory.js';
import { describePrincipal, type Policy, type Principal, type Rule } from '../policy/model.js';
import { finding, LINT_RULES, type Finding } from './lint-rules.js';

/** Where a finding is. */
export type Where = Pick<Finding, 'policy' | 'rule' | 'field'>;

/** Those of a policy's principals that nobody holds, or of whose trust domain no bundle is held. */
export function lintPrincipals(
  policy: Policy,
  inventory: Inventory,
  trustDomains?: readonly string[],
): readonly Finding[] {
  return policy.rules.flatMap((rule) =>
    principalsOf(rule).flatMap((principal) =>
      lintPrincipal(principal, inventory, trustDomains, { policy: policy.ref, rule: rule.name }),
    ),
  );
}

/** Whom a rule names, those whom it excepts too. */
export function principalsOf({ from }: Rule): readonly Principal[] {
  return from.flatMap((source) => [source, ...source.except].flatMap(({ any }) => any));
}

/** What is wrong with one of them. */
export function lintPrincipal(
  principal: Principal,
  inventory: Inventory,
  trustDomains: readonly string[] | undefined,
  where: Where,
): readonly Finding[] {
  const at = { ...where, field: 'from' };
  const nobody = (hint: string): readonly Finding[] => [
    finding(LINT_RULES.nobody, `nobody can hold ${describePrincipal(principal)}${hint}`, at),
  ];
  if (principal.kind === 'anyone' || principal.kind === 'authenticated') return [];
  if (principal.kind === 'identity') return principal.uris.length === 0 ? nobody('') : [];
  const trustDomain =
    principal.kind === 'spiffeId' ? parseSpiffeId(principal.uri).trustDomain : principal.trustDomain;
  if (trustDomain !== inventory.trustDomain) {
    if (trustDomains === undefined || trustDomains.includes(trustDomain)) return [];
    const hint = meant(trustDomain, [inventory.trustDomain, ...trustDomains]);
    return [finding(LINT_RULES.unknownTrustDomain, `trust domain ${trustDomain} is not known${hint}`, at)];
  }
  if (principal.kind === 'trustDomain' || inventory.holders(principal).length > 0) return [];
  return nobody(hintFor(principal, inventory));
}

/** Names that may have been meant. */
interface KnownNames {
  readonly namespaces: readonly string[];
  /** Service accounts of workloads, by namespace. */
  readonly accounts: ReadonlyMap<string, ReadonlySet<string>>;
  readonly ids: ReadonlySet<string>;
}

const caches = new WeakMap<Inventory, KnownNames>();

function knownNames(inventory: Inventory): KnownNames {
  let known = caches.get(inventory);
  if (known === undefined) {
    const accounts = new Map<string, Set<string>>();
    for (const { namespace, serviceAccount } of inventory.workloads)
      accounts.set(namespace, (accounts.get(namespace) ?? new Set()).add(serviceAccount));
    known = {
      namespaces: inventory.namespaces.map(({ name }) => name),
      accounts,
      ids: new Set(inventory.workloads.flatMap(({ spiffeIds }) => spiffeIds)),
    };
    caches.set(inventory, known);
  }
  return known;
}

function hintFor(principal: Principal, inventory: Inventory): string {
  const { namespaces, accounts, ids } = knownNames(inventory);
  switch (principal.kind) {
    case 'namespace':
      return meant(principal.namespace, namespaces);
    case 'serviceAccount': {
      const { namespace, serviceAccount } = principal;
      if (!namespaces.includes(namespace)) return meant(namespace, namespaces);
      return meant(serviceAccount, accounts.get(namespace) ?? []);
    }
    case 'spiffeId':
      return meantId(principal.uri, ids);
    case 'trustDomain':
    case 'identity':
    case 'authenticated':
    case 'anyone':
      return '';
  }
}

/** IDs are long, so they are compared segment by segment: one segment may be misspelt. */
function meantId(uri: string, known: ReadonlySet<string>): string {
  const parts = uri.split('/');
  for (const candidate of known) {
    const others = candidate.split('/');
    if (others.length !== parts.length) continue;
    const differing = parts.flatMap((part, index) => (part === others[index] ? [] : [index]));
    const [index] = differing;
    if (index === undefined || differing.length > 1) continue;
    if (didYouMean(parts[index] ?? '', [others[index] ?? '']) !== undefined)
      return `; did you mean ${candidate}?`;
  }
  return '';
}

/** What may have been meant, to be put behind a message. */
export function meant(written: string, candidates: Iterable<string>): string {
  const found = didYouMean(written, candidates);
  return found === undefined ? '' : `; did you mean ${found}?`;
}
