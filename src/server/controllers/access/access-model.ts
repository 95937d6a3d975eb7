import { changedPolicies } from '../../../access/mesh/incremental.js';
import { compileRoles, type RoleTable } from '../../../access/policy/roles.js';
import type { PolicyInput, RoleInput } from '../../../access/policy/input.js';
import { policyName, type Policy } from '../../../access/policy/model.js';
import { lintPrincipals } from '../../../access/analysis/lint-principals.js';
import {
  createAccessReader,
  type AccessReader,
  type AccessView,
  type RegistrationSource,
} from '../../../cluster/access-view.js';
import {
  findTrustDomain,
  trustDomainSettings,
  type TrustDomainSettings,
} from '../../../cluster/trust-domain.js';
import type { FederatedTrustDomain, TrustDomain } from '../../../resources/identity.js';
import type { Store, StoreChange } from '../../../store/store.js';
import type { PolicyKey } from './desired-objects.js';
import { PodCensus } from './pod-census.js';
import { roleProblems, roleUse } from './role-status.js';

/** Kinds of policies. */
export const POLICY_KINDS: readonly string[] = ['AccessPolicy', 'ClusterAccessPolicy'];
/** What says who may; a change of these is taken at once. */
export const ACCESS_KINDS: ReadonlySet<string> = new Set([...POLICY_KINDS, 'AccessRole', 'TrustDomain']);
/** What they are about; changes of these come in crowds. */
export const WORLD_KINDS: ReadonlySet<string> = new Set([
  'Namespace',
  'Pod',
  'Service',
  'Gateway',
  'ServiceAccount',
  'WorkloadIdentity',
  'ClusterWorkloadIdentity',
  'FederatedTrustDomain',
]);

/** What an update of the model touched. */
export interface ModelUpdate {
  /** Policies that are compiled otherwise than before, or are gone. */
  readonly policies: ReadonlySet<PolicyKey>;
  /** What all policies' statuses may depend on is other than before: workloads, roles, trust domains. */
  readonly everything: boolean;
  readonly roles: boolean;
}

/** The policies of the store, compiled, with the workloads that they are about; and what statuses are made from. */
export class AccessModel {
  readonly #store: Store;
  readonly #registrations: RegistrationSource;
  #settings: TrustDomainSettings | undefined;
  #settingsText = '';
  #meshes: readonly string[] | undefined;
  #reader: AccessReader | undefined;
  #view: AccessView | undefined;
  /** All policies, in order. */
  #compiled: readonly Policy[] = [];
  readonly #policies = new Map<PolicyKey, Policy>();
  /** Of the objects as they were compiled last. */
  readonly #generations = new Map<string, number>();
  #census: PodCensus | undefined;
  #roles: RoleTable = compileRoles([]);
  /** Foreign trust domains that are known. */
  #federated: readonly string[] = [];
  #use: ReadonlyMap<string, number> | undefined;

  constructor(store: Store, registrations: RegistrationSource) {
    this.#store = store;
    this.#registrations = registrations;
  }

  /** Undefined until the first update. */
  get view(): AccessView | undefined {
    return this.#view;
  }

  get settings(): TrustDomainSettings | undefined {
    return this.#settings;
  }

  /** The meshes that the TrustDomain names, if any. */
  get meshes(): readonly string[] | undefined {
    return this.#meshes;
  }

  get roles(): RoleTable {
    return this.#roles;
  }

  /**
   * Reads what has changed; the first time everything. One that throws leaves what was read, and the next reads all.
   *
   * @throws TrustDomainError when the TrustDomain cannot be used, and there was none before
   */
  update(changes: readonly StoreChange[]): ModelUpdate {
    const reader = this.#reader;
    const kinds = new Set(changes.map(({ kind }) => kind));
    // Whatever throws from here on: what was read is not whole, so the next reads all.
    this.#reader = undefined;
    const otherSettings = this.#readSettings();
    const next =
      otherSettings || reader === undefined
        ? createAccessReader(this.#store, this.#settingsOrThrow(), this.#registrations)
        : reader;
    const before = this.#view;
    const view = next === reader ? next.update(changes) : next.view;
    this.#reader = next;
    this.#view = view;
    const first = before === undefined || next !== reader;
    if (first || kinds.has('AccessRole'))
      this.#roles = compileRoles(this.#store.list('AccessRole') as unknown as readonly RoleInput[]);
    if (first || kinds.has('FederatedTrustDomain'))
      this.#federated = (this.#store.list('FederatedTrustDomain') as readonly FederatedTrustDomain[]).map(
        ({ spec }) => spec.trustDomain,
      );
    this.#count(changes, first);
    const policies = this.#index(view, changes, first);
    const rolesTouched = first || kinds.has('AccessRole') || policies.size > 0;
    if (rolesTouched) this.#use = undefined;
    return {
      policies,
      roles: rolesTouched,
      everything:
        first ||
        view.inventory !== before.inventory ||
        ['AccessRole', 'Pod', 'Namespace', 'FederatedTrustDomain'].some((kind) => kinds.has(kind)),
    };
  }

  /** Keys of all policies that are compiled. */
  keys(): Iterable<PolicyKey> {
    return this.#policies.keys();
  }

  policy(key: PolicyKey): Policy | undefined {
    return this.#policies.get(key);
  }

  /** Of the object as it was compiled. */
  generation(key: string): number | undefined {
    return this.#generations.get(key);
  }

  pods(policy: Policy): number {
    return this.#census?.selected(policy.target) ?? 0;
  }

  /** Principals of a policy that nobody can hold, in words. */
  unheld(policy: Policy): readonly string[] {
    if (this.#view === undefined) return [];
    const { inventory } = this.#view;
    const findings = lintPrincipals(policy, inventory, this.#federated);
    return [...new Set(findings.map(({ rule, message }) => `rule "${rule ?? ''}": ${message}`))];
  }

  /** Roles that a policy grants and that are not as they must be. */
  roleProblems(key: PolicyKey): readonly string[] {
    const input = this.#input(key);
    return input === undefined ? [] : roleProblems(input, this.#roles);
  }

  /** How many policies grant a role. */
  roleUse(name: string): number {
    this.#use ??= roleUse(
      POLICY_KINDS.flatMap((kind) => this.#store.list(kind) as unknown as readonly PolicyInput[]),
      this.#roles,
    );
    return this.#use.get(name) ?? 0;
  }

  /** The first instant after `time` at which the validity of some policy begins or ends. */
  nextBoundary(time: number): number | undefined {
    let next: number | undefined;
    for (const { validity } of this.#policies.values())
      for (const instant of [validity?.from, validity?.until])
        if (instant !== undefined && instant > time && (next === undefined || instant < next)) next = instant;
    return next;
  }

  /** Policies whose validity has begun or ended after one instant, up to another. */
  boundaries(after: number, upTo: number): readonly PolicyKey[] {
    return [...this.#policies]
      .filter(([, { validity }]) =>
        [validity?.from, validity?.until].some(
          (instant) => instant !== undefined && instant > after && instant <= upTo,
        ),
      )
      .map(([key]) => key);
  }

  #input(key: PolicyKey): PolicyInput | undefined {
    const slash = key.indexOf('/');
    return this.#store.get(key.slice(0, slash), key.slice(slash + 1)) as unknown as PolicyInput | undefined;
  }

  /** Whether the TrustDomain says something else than before. One that is gone or cannot be used leaves what it said. */
  #readSettings(): boolean {
    let resource: TrustDomain | undefined;
    let settings: TrustDomainSettings;
    try {
      resource = findTrustDomain(this.#store);
      if (resource === undefined) return false;
      settings = trustDomainSettings({ resource });
    } catch (thrown) {
      if (this.#settings === undefined) throw thrown;
      return false;
    }
    const { name, defaultAction, tokenIssuers } = settings;
    const text = JSON.stringify([name, defaultAction, tokenIssuers]);
    this.#meshes = resource.spec.meshes;
    const other = text !== this.#settingsText;
    this.#settingsText = text;
    this.#settings = settings;
    return other;
  }

  #settingsOrThrow(): TrustDomainSettings {
    // Whoever has none yet waits for one: nothing was read, so nothing is written.
    return this.#settings ?? trustDomainSettings({});
  }

  #count(changes: readonly StoreChange[], first: boolean): void {
    if (first || this.#census === undefined) {
      this.#census = new PodCensus(this.#store);
      return;
    }
    for (const change of changes) if (change.kind === 'Pod') this.#census.change(change);
  }

  /** Indexes the policies; returns those that are other than before. */
  #index({ policies }: AccessView, changes: readonly StoreChange[], first: boolean): ReadonlySet<PolicyKey> {
    const { removed, added } = changedPolicies(this.#compiled, policies.policies);
    this.#compiled = policies.policies;
    const touched = new Set<PolicyKey>();
    for (const policy of removed) {
      touched.add(keyOfPolicy(policy));
      this.#policies.delete(keyOfPolicy(policy));
    }
    for (const policy of added) {
      touched.add(keyOfPolicy(policy));
      this.#policies.set(keyOfPolicy(policy), policy);
    }
    const seen = first
      ? [...POLICY_KINDS, 'AccessRole'].flatMap((kind) =>
          this.#store.list(kind).map((after) => ({ kind, key: keyOf(after), after })),
        )
      : changes.filter(({ kind }) => POLICY_KINDS.includes(kind) || kind === 'AccessRole');
    for (const { kind, key, after } of seen as readonly StoreChange[]) {
      if (after === undefined) this.#generations.delete(`${kind}/${key}`);
      else this.#generations.set(`${kind}/${key}`, after.metadata.generation);
      if (kind !== 'AccessRole') touched.add(`${kind}/${key}`);
    }
    return touched;
  }
}

const keyOfPolicy = ({ ref }: Policy): PolicyKey => `${ref.kind}/${policyName(ref)}`;

function keyOf({ metadata }: NonNullable<StoreChange['after']>): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
}
