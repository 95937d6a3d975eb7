import type { PolicyStore, PolicyStoreStats } from '../agent/access/policy-store.js';
import type { Agent, AgentStats } from '../agent/agent.js';
import type { Operations } from './operations.js';

/** Shows what an agent holds, once there is one. */
export function showAgent({ metrics, show }: Operations, opened: () => Agent | undefined): void {
  const stat = (read: (stats: AgentStats) => number | undefined): (() => number | undefined) => {
    return () => {
      const agent = opened();
      return agent === undefined ? undefined : read(agent.stats());
    };
  };
  metrics.readOne(
    'agentConnected',
    stat(({ connected }) => (connected ? 1 : 0)),
  );
  metrics.readOne(
    'registrations',
    stat(({ registrations }) => registrations),
  );
  metrics.readOne(
    'svidsQueued',
    stat(({ queued }) => queued),
  );
  metrics.readOne(
    'svidsFailing',
    stat(({ failing }) => failing),
  );
  metrics.readOne(
    'nextExpiry',
    stat(({ nextExpiry }) => (nextExpiry === undefined ? undefined : nextExpiry / 1000)),
  );
  metrics.readOne(
    'agentClockSkew',
    stat(({ clockAheadMs }) => (clockAheadMs === undefined ? undefined : clockAheadMs / 1000)),
  );
  metrics.readOne(
    'streams',
    stat(({ streams }) => streams),
  );
  metrics.read('svids', () => {
    const stats = opened()?.stats();
    if (stats === undefined) return [];
    return [
      { labels: { kind: 'x509' }, value: stats.svids },
      { labels: { kind: 'jwt' }, value: stats.jwtSvids },
    ];
  });
  show('agent', () => opened()?.stats() ?? null);
}

/** Shows what it decides by. */
export function showPolicies({ metrics, show }: Operations, opened: () => PolicyStore | undefined): void {
  const stats = (): PolicyStoreStats | undefined => opened()?.stats();
  metrics.readOne('policiesHeld', () => stats()?.items);
  metrics.readOne('policiesStaleSince', () => {
    const since = stats()?.staleSince;
    return since === undefined ? undefined : since / 1000;
  });
  show('policies', () => stats() ?? null);
}
