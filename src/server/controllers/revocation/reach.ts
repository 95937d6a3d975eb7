import type { Registration } from '../../../identity/registration/registration.js';
import type { Revocation } from '../../../resources/revocation.js';
import type { ProgressItem, ProgressTable, RevocationProgress } from './progress.js';

/** How many agents have dropped what a Revocation revokes, of those that may hold it. */
export interface Reach {
  readonly reached: number;
  readonly total: number;
}

/** What is known of all agents, from all replicas. */
export interface RevocationReach {
  /** Takes what another replica reports. */
  reported(epoch: string, items: Iterable<ProgressItem>): void;
  /** For each of these Revocations, by its uid. Costs a look at each registration when one is of an ID or a pod. */
  of(revocations: readonly Revocation[]): ReadonlyMap<string, Reach>;
  /** Called when a number may have changed. Returns what ends the watch. */
  watch(onChange: () => void): () => void;
}

/** What the reach is worked out from. */
export interface RevocationReachOptions {
  readonly progress: Pick<RevocationProgress, 'table' | 'entries'>;
  /** The nodes that have an agent. */
  readonly agentNodes: () => Iterable<string>;
  /** All of them, revoked or not. */
  readonly registrations: () => Iterable<Registration>;
}

/** Lives of replicas that are remembered. What one of them said stays true when it is gone. */
const MOST_EPOCHS = 16;
/** Revocations and agents that are remembered of each. */
const MOST_ENTRIES = 20_000;

export function createRevocationReach(options: RevocationReachOptions): RevocationReach {
  const { progress } = options;
  const others = new Map<
    string,
    { readonly since: Map<string, number>; readonly agents: Map<string, number> }
  >();
  const watchers = new Set<() => void>();
  const tell = (): void => {
    for (const watcher of [...watchers]) watcher();
  };
  return {
    reported(epoch, items) {
      const table = others.get(epoch) ?? {
        since: new Map<string, number>(),
        agents: new Map<string, number>(),
      };
      // The last to report is the last to be forgotten.
      others.delete(epoch);
      put(others, epoch, table, MOST_EPOCHS);
      for (const item of items)
        if (item.kind === 'agent') put(table.agents, item.nodeName, item.revision, MOST_ENTRIES);
        else put(table.since, item.uid, item.revision, MOST_ENTRIES);
      tell();
    },
    of(revocations) {
      const tables: readonly ProgressTable[] = [progress.table, ...others.values()];
      const agents = new Set(options.agentNodes());
      const holders = holdersOf(revocations, agents, options.registrations);
      return new Map(
        revocations.map(({ metadata: { uid } }) => {
          const concerned = holders.get(uid) ?? agents;
          let reached = 0;
          for (const nodeName of concerned)
            if (tables.some((table) => hasReached(table, uid, nodeName))) reached += 1;
          return [uid, { reached, total: concerned.size }];
        }),
      );
    },
    watch(onChange) {
      const watcher = (): void => onChange();
      watchers.add(watcher);
      const end = progress.entries.watch(watcher);
      return () => {
        end();
        watchers.delete(watcher);
      };
    },
  };
}

function hasReached({ since, agents }: ProgressTable, uid: string, nodeName: string): boolean {
  const from = since.get(uid);
  return from !== undefined && (agents.get(nodeName) ?? -1) >= from;
}

/** The nodes of what is revoked by its ID or pod; everything else any agent may hold. */
function holdersOf(
  revocations: readonly Revocation[],
  agents: ReadonlySet<string>,
  registrations: () => Iterable<Registration>,
): ReadonlyMap<string, ReadonlySet<string>> {
  const holders = new Map<string, Set<string>>();
  /** Who asks for a SPIFFE ID, or for a pod. */
  const asked = new Map<string, Revocation[]>();
  for (const revocation of revocations) {
    const { spiffeID, pod } = revocation.spec.subject;
    const key = spiffeID ?? (pod && podKey(pod));
    if (key === undefined) continue;
    holders.set(revocation.metadata.uid, new Set());
    asked.set(key, [...(asked.get(key) ?? []), revocation]);
  }
  if (asked.size === 0) return holders;
  for (const registration of registrations())
    for (const { metadata, spec } of askersOf(registration, asked))
      if (isOfPod(registration, spec.subject.pod?.uid))
        // Processes may be on every node.
        for (const node of registration.nodeName === '' ? agents : [registration.nodeName])
          holders.get(metadata.uid)?.add(node);
  return holders;
}

const podKey = ({ namespace, name }: { readonly namespace: string; readonly name: string }): string =>
  `${namespace}/${name}`;

function askersOf(
  { spiffeId, subject }: Registration,
  asked: ReadonlyMap<string, readonly Revocation[]>,
): readonly Revocation[] {
  const byId = asked.get(spiffeId.uri) ?? [];
  const byPod = subject.kind === 'pod' ? asked.get(podKey(subject)) : undefined;
  return byPod === undefined ? byId : [...byId, ...byPod];
}

function isOfPod({ subject }: Registration, uid: string | undefined): boolean {
  return uid === undefined || (subject.kind === 'pod' && subject.uid === uid);
}

function put<V>(map: Map<string, V>, key: string, value: V, most: number): void {
  const [oldest] = map.keys();
  if (!map.has(key) && map.size >= most && oldest !== undefined) map.delete(oldest);
  map.set(key, value);
}
