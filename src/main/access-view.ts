import type { AuthorizationView, WatchedAuthorizationViews } from '../agent/authorization/view.js';
import type { Inventory, InventoryWorkload } from '../access/mesh/inventory.js';
import type { SourceWorkload, TargetWorkload } from '../access/policy/model.js';
import {
  createAccessReader,
  type AccessReader,
  type ChangedObject,
  type RegistrationSource,
} from '../cluster/access-view.js';
import { podFacts } from '../cluster/pod-facts.js';
import { holderFacts, sourceOf } from '../cluster/source-facts.js';
import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import type { PodFacts } from '../identity/registration/registration.js';
import type { Clock, Timer } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { StoreReader } from '../store/store.js';

/** What a live view is made from. */
export interface LiveAccessViewOptions {
  readonly store: StoreReader;
  readonly settings: TrustDomainSettings;
  /** In step with the store before this is told of a change. */
  readonly registrations: RegistrationSource;
  /**
   * Gives what is known now of whoever holds an ID, told of by changes of the kind `Source`. For those who do not see all
   * pods; without it, the pods of the store say.
   */
  readonly sources?: () => AuthorizationView['source'];
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A view that follows the store. */
export interface LiveAccessView extends WatchedAuthorizationViews {
  close(): void;
}

/** What comes within this time of a first change is taken in one go. Milliseconds. */
const BATCH_MS = 10;
/** After a view that took long to make, the next waits so many times as long: decisions come first. */
const REST = 4;

/** What says who may; pods and identities are as they were when nothing else changes. */
const POLICIES: ReadonlySet<string> = new Set(['AccessPolicy', 'ClusterAccessPolicy', 'AccessRole']);

const KINDS: ReadonlySet<string> = new Set([
  ...POLICIES,
  'Namespace',
  'Pod',
  'ServiceAccount',
  'WorkloadIdentity',
  'ClusterWorkloadIdentity',
  'Source',
]);

/**
 * Follows the store from now on. A view replaces the last one as a whole; one that cannot be made leaves none, so that
 * nothing is allowed by policies that are no longer what somebody wrote.
 */
export function followAccess(options: LiveAccessViewOptions): LiveAccessView {
  const { store, clock, logger } = options;
  const listeners = new Set<() => void>();
  let current: AuthorizationView | undefined;
  /** Undefined when the last view could not be made: then the next one is read from the beginning. */
  let reader: AccessReader | undefined;
  /** Kept from view to view where nothing changed, since what concerns a target is looked up once per object. */
  let targets: ReadonlyMap<string, TargetWorkload> = new Map();
  let changed = new Map<string, ChangedObject>();
  let timer: Timer | undefined;
  let tookMs = 0;

  const makeView = (changes: readonly ChangedObject[]): AuthorizationView => {
    const known = current;
    const from = reader ?? createAccessReader(store, options.settings, options.registrations);
    const access = reader === undefined ? from.view : from.update(changes);
    reader = from;
    if (known?.inventory === access.inventory && changes.every(({ kind }) => POLICIES.has(kind))) {
      return { ...known, ...access };
    }
    const workloads = readWorkloads(options, access.inventory, targets);
    targets = workloads.targets;
    return { ...access, ...workloads.lookups };
  };

  const refresh = (): void => {
    timer = undefined;
    const start = clock.monotonic();
    const changes = [...changed.values()];
    changed = new Map();
    try {
      current = makeView(changes);
    } catch (thrown) {
      current = undefined;
      reader = undefined;
      logger.error('the access policies cannot be read, so nothing is allowed', {
        error: SignetError.from(thrown).message,
      });
    }
    tookMs = clock.monotonic() - start;
    for (const listener of listeners) listener();
  };

  refresh();
  const unsubscribe = store.subscribe((changes) => {
    for (const { kind, key } of changes) {
      if (KINDS.has(kind)) changed.set(`${kind}/${key}`, { kind, key });
    }
    if (changed.size > 0) timer ??= clock.after(Math.max(BATCH_MS, tookMs * REST), refresh);
  });
  return {
    get current() {
      return current;
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    close() {
      unsubscribe();
      timer?.cancel();
    },
  };
}

/** What a view says of workloads. */
type Lookups = Pick<AuthorizationView, 'pod' | 'target' | 'source'>;

function readWorkloads(
  { store, registrations, sources }: LiveAccessViewOptions,
  inventory: Inventory,
  before: ReadonlyMap<string, TargetWorkload>,
): { readonly lookups: Lookups; readonly targets: ReadonlyMap<string, TargetWorkload> } {
  const namespaceLabels = new Map(inventory.namespaces.map(({ name, labels }) => [name, labels]));
  const pods = new Map<string, PodFacts>();
  const targets = new Map<string, TargetWorkload>();
  const keep = (key: string, target: TargetWorkload): TargetWorkload => {
    const known = before.get(key);
    const kept = known !== undefined && same(known, target) ? known : target;
    targets.set(key, kept);
    return kept;
  };
  for (const object of store.list('Pod')) {
    const facts = podFacts(object);
    if (facts === undefined) continue;
    const { uid, namespace, name, serviceAccount, labels } = facts;
    pods.set(uid, facts);
    keep(uid, {
      ...{ namespace, name, serviceAccount, labels },
      namespaceLabels: namespaceLabels.get(namespace) ?? {},
    });
  }
  return {
    targets,
    lookups: {
      pod: (uid) => targets.get(uid),
      target: (uri) => alike(inventory.holdersOf(uri)),
      source: sources?.() ?? sourcesOf(registrations, pods),
    },
  };
}

/** What is known of the holders of IDs by their pods, each worked out when first asked for. */
function sourcesOf(
  registrations: RegistrationSource,
  pods: ReadonlyMap<string, PodFacts>,
): AuthorizationView['source'] {
  const { podHolders, processIds } = holders(registrations, pods);
  const known = new Map<string, SourceWorkload | undefined>();
  return (uri) => {
    const found = podHolders.get(uri);
    if (found === undefined || processIds.has(uri)) return undefined;
    if (!known.has(uri)) known.set(uri, sourceOf(found.map(holderFacts)));
    return known.get(uri);
  };
}

/** Which pods hold an ID, and which IDs are held by processes, of which no labels are known. */
function holders(
  registrations: RegistrationSource,
  pods: ReadonlyMap<string, PodFacts>,
): {
  readonly podHolders: ReadonlyMap<string, readonly PodFacts[]>;
  readonly processIds: ReadonlySet<string>;
} {
  const podHolders = new Map<string, PodFacts[]>();
  const processIds = new Set<string>();
  for (const { subject, spiffeId } of registrations.all()) {
    if (subject.kind === 'process') {
      processIds.add(spiffeId.uri);
      continue;
    }
    const facts = pods.get(subject.uid);
    if (facts === undefined) continue;
    const known = podHolders.get(spiffeId.uri);
    if (known === undefined) podHolders.set(spiffeId.uri, [facts]);
    else known.push(facts);
  }
  return { podHolders, processIds };
}

/** The first of workloads that are the same to every policy; undefined when they are not, or there is none. */
function alike(workloads: readonly InventoryWorkload[]): InventoryWorkload | undefined {
  const [first] = workloads;
  return first !== undefined && workloads.every((other) => same({ ...first, name: other.name }, other))
    ? first
    : undefined;
}

function same(a: TargetWorkload, b: TargetWorkload): boolean {
  return (
    a.namespace === b.namespace &&
    a.name === b.name &&
    a.serviceAccount === b.serviceAccount &&
    sameLabels(a.labels, b.labels) &&
    sameLabels(a.namespaceLabels, b.namespaceLabels)
  );
}

function sameLabels(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
