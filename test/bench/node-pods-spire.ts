import { APP, stopKeepers, usageOf, type AgentUsage } from '../node/support/keepers.js';
import { SERVER_NAMESPACE, TRUST_DOMAIN, type NodeWorld } from '../node/support/world.js';
import { installSpire, loadSpire, SPIRE_VOLUME } from '../rig/spire-cluster.js';
import type { SpireIntervals } from '../rig/spire-manifests.js';
import { firstsOf, idleUsage, retriesOf, startAndLook, type Firsts } from './first-svids.js';
import { quantile } from './quantile.js';
import type { BenchRow } from './row.js';
import { compared } from './spire.js';

interface Counts {
  /** How often one pod is started with nothing beside it. */
  readonly alone: number;
  readonly together: number;
  /** With which the agent's memory is taken. */
  readonly many: number;
}

/** Its own are 5 s each: what is far from free for it, and yet used. */
const TUNED: SpireIntervals = { serverInterval: '1s', agentInterval: '500ms' };

const usage = (world: NodeWorld): Promise<AgentUsage> => usageOf(world, '[s]pire-agent run');

/**
 * The same pods on the same cluster with SPIRE, its controller manager and a CSI driver in Signet's place, which is taken away:
 * Signet's rows with what they are of SPIRE's, and SPIRE's.
 */
export async function besideSpire(
  world: NodeWorld,
  rows: readonly BenchRow[],
  { alone, together, many }: Counts,
): Promise<readonly BenchRow[]> {
  // It would sign for these pods too.
  await world.helm('uninstall', 'signet', `--namespace=${SERVER_NAMESPACE}`, '--wait');
  await loadSpire(world.cluster);
  const pods = { volume: SPIRE_VOLUME, usage };
  const peer: BenchRow[] = [];
  const install = (intervals: SpireIntervals): Promise<void> =>
    installSpire(world.cluster, { trustDomain: TRUST_DOMAIN, app: APP, ...intervals });
  const measure = async (who: string): Promise<void> => {
    peer.push(...firstRows(`${who}, 1 pod`, await firstsOf(world, { pods: 1, ...pods }, alone)));
    const crowd = await firstsOf(world, { pods: together, ...pods });
    peer.push(...firstRows(`${who}, ${together} pods at once`, crowd));
  };
  await install({});
  await measure('SPIRE');
  peer.push(...firstRows(`SPIRE, ${many} pods at once`, await startAndLook(world, { pods: many, ...pods })));
  const { rssMb, cpu } = await idleUsage(world, usage);
  await stopKeepers(world);
  peer.push(
    { name: `SPIRE, agent with ${many} pods and streams: RSS`, value: rssMb, unit: 'MB' },
    { name: `SPIRE, agent with ${many} pods and streams: idle CPU`, value: cpu, unit: '% of a core' },
  );
  await install(TUNED);
  await measure('SPIRE, its server at 1 s and its agent at 0.5 s');
  // Of retries there may be none.
  const paired = rows.filter(({ unit }) => unit !== '');
  return compared(rows, peer, new Map(paired.map(({ name }) => [name, `SPIRE, ${name}`])));
}

/** By the names of Signet's rows. */
function firstRows(what: string, firsts: Firsts): readonly BenchRow[] {
  const { lines } = firsts;
  const at = (share: number): number =>
    quantile(
      lines.map(({ sinceBegan = NaN }) => sinceBegan),
      share,
    );
  return [
    { name: `${what}: program → X.509-SVID, p50`, value: at(0.5), unit: 'ms' },
    { name: `${what}: program → X.509-SVID, p95`, value: at(0.95), unit: 'ms' },
    { name: `${what}: retries of go-spiffe`, value: retriesOf(firsts), unit: '' },
  ];
}
