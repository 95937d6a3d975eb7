import type { Taints } from '../../../identity/ca/authority-keeper.js';
import type { CertificateAuthority } from '../../../identity/ca/certificate-authority.js';
import { WatchedValue, type Watched } from '../../../lib/watched.js';
import type { Revocation } from '../../../resources/revocation.js';
import type { RevocationMark } from '../../../rpc/node-api.js';
import type { Reported } from '../../peers/reporter.js';
import type { Revocations } from './revocations.js';

/** What one replica knows of how far agents are with revocations. Its revisions say nothing of another's. */
export interface ProgressTable {
  /** From which revision on a Revocation is taken into account, by its uid. */
  readonly since: ReadonlyMap<string, number>;
  /** As far as the agent of a node has acknowledged. */
  readonly agents: ReadonlyMap<string, number>;
}

/** One entry of a {@link ProgressTable}. */
export type ProgressItem =
  | { readonly kind: 'revocation'; readonly uid: string; readonly revision: number }
  | { readonly kind: 'agent'; readonly nodeName: string; readonly revision: number };

/** What a replica tells its agents of revocations, and what they acknowledge. */
export interface RevocationProgress {
  readonly epoch: string;
  /** What streams take into account from now on. */
  readonly mark: Watched<RevocationMark>;
  readonly table: ProgressTable;
  /** The entries, for the replica that writes statuses. */
  readonly entries: Reported<ProgressItem>;
  /** The agent of a node has taken in all up to this mark. */
  acknowledge(nodeName: string, mark: RevocationMark): void;
  close(): void;
}

/** Where a replica learns what is revoked. */
export interface RevocationProgressOptions {
  /** Of this process and no other. */
  readonly epoch: string;
  readonly inForce: Watched<Revocations>;
  readonly ca: Pick<CertificateAuthority, 'authorities' | 'bundle'> & { readonly taints: Watched<Taints> };
  /** Whether an agent's pod is on this node now: what others acknowledged is forgotten when there is too much. */
  readonly hasAgent: (nodeName: string) => boolean;
}

/** Agents that are remembered: more than there are nodes. */
const MOST_AGENTS = 20_000;

const AGENT = 'agent/';
const REVOCATION = 'revocation/';

/**
 * Counts the moments at which something came to be revoked. Open it before anything that streams what is in force: the mark is
 * then never ahead of what the streams say.
 */
export function openRevocationProgress(options: RevocationProgressOptions): RevocationProgress {
  const { epoch, inForce, ca, hasAgent } = options;
  const since = new Map<string, number>();
  const agents = new Map<string, number>();
  const watchers = new Set<(key: string) => void>();
  const mark = new WatchedValue<RevocationMark>({ epoch, revision: 0 });
  const tell = (key: string): void => {
    for (const watcher of [...watchers]) watcher(key);
  };

  const look = (revision: number): void => {
    const present = new Set<string>();
    const added: string[] = [];
    for (const revocation of inForce.value.all) {
      const { uid } = revocation.metadata;
      present.add(uid);
      if (since.has(uid) || !isTold(revocation, ca)) continue;
      since.set(uid, revision);
      added.push(uid);
    }
    for (const uid of since.keys()) if (!present.has(uid)) since.delete(uid);
    if (added.length > 0 && revision !== mark.value.revision) mark.set({ epoch, revision });
    for (const uid of added) tell(`${REVOCATION}${uid}`);
  };
  const lookAgain = (): void => look(mark.value.revision + 1);
  look(0);
  const ends = [inForce.watch(lookAgain), ca.bundle.watch(lookAgain), ca.taints.watch(lookAgain)];

  return {
    ...{ epoch, mark, table: { since, agents } },
    entries: {
      *keys() {
        for (const uid of since.keys()) yield `${REVOCATION}${uid}`;
        for (const nodeName of agents.keys()) yield `${AGENT}${nodeName}`;
      },
      get(key) {
        if (key.startsWith(AGENT)) {
          const nodeName = key.slice(AGENT.length);
          const revision = agents.get(nodeName);
          return revision === undefined ? undefined : { kind: 'agent', nodeName, revision };
        }
        const uid = key.slice(REVOCATION.length);
        const revision = since.get(uid);
        return revision === undefined ? undefined : { kind: 'revocation', uid, revision };
      },
      watch(onChange) {
        const watcher = (key: string): void => onChange(key);
        watchers.add(watcher);
        return () => watchers.delete(watcher);
      },
    },
    acknowledge(nodeName, { epoch: of, revision }) {
      // An agent that moves may tell one replica of another's marks, and none can be ahead of what was told.
      if (of !== epoch || revision > mark.value.revision || revision <= (agents.get(nodeName) ?? -1)) return;
      if (agents.size >= MOST_AGENTS) for (const one of agents.keys()) if (!hasAgent(one)) agents.delete(one);
      agents.set(nodeName, revision);
      tell(`${AGENT}${nodeName}`);
    },
    close: () => ends.forEach((end) => end()),
  };
}

/** Whether what streams say from now on takes it into account. An authority has to leave the bundle first. */
function isTold({ spec }: Revocation, ca: RevocationProgressOptions['ca']): boolean {
  const { authorityID } = spec.subject;
  return (
    authorityID === undefined || ca.authorities().some(({ id, revoked }) => id === authorityID && revoked)
  );
}
