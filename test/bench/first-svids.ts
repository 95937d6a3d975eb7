import { setTimeout as pause } from 'node:timers/promises';
import {
  linesOf,
  startKeepers,
  stopKeepers,
  type AgentUsage,
  type KeeperLine,
  type SocketVolume,
} from '../node/support/keepers.js';
import type { NodeWorld } from '../node/support/world.js';

/** Pods that are started together, and who serves them. */
export interface PodsWanted {
  readonly pods: number;
  /** Signet's unless said. */
  readonly volume?: SocketVolume;
  /** Of the agent that serves them. */
  readonly usage: (world: NodeWorld) => Promise<AgentUsage>;
}

/** What the pods say of their first SVIDs, and what the agent did meanwhile. */
export interface Firsts {
  readonly lines: readonly KeeperLine[];
  readonly agent: Pick<AgentUsage, 'ranMs' | 'waitedMs'>;
}

/** Starts them, and looks at what they say once each has its SVID. They stay. */
export async function startAndLook(world: NodeWorld, { usage, ...wanted }: PodsWanted): Promise<Firsts> {
  const before = await usage(world);
  await startKeepers(world, { ...wanted, everyMs: 1000, calls: false });
  const after = await usage(world);
  const agent = { ranMs: after.ranMs - before.ranMs, waitedMs: after.waitedMs - before.waitedMs };
  return { lines: (await linesOf(world)).filter((line) => line.first !== undefined), agent };
}

/** The same, so many times, with other pods each time; they are gone afterwards. */
export async function firstsOf(world: NodeWorld, wanted: PodsWanted, rounds = 1): Promise<Firsts> {
  const all: Firsts[] = [];
  for (let round = 0; round < rounds; round++) {
    all.push(await startAndLook(world, wanted));
    await stopKeepers(world);
  }
  const sum = (of: (one: Firsts) => number): number => all.reduce((total, one) => total + of(one), 0);
  return {
    lines: all.flatMap(({ lines }) => lines),
    agent: { ranMs: sum(({ agent }) => agent.ranMs), waitedMs: sum(({ agent }) => agent.waitedMs) },
  };
}

/** How often go-spiffe asked again after an error before it had its SVID, over all pods. */
export function retriesOf({ lines }: Firsts): number {
  return lines.reduce((sum, line) => sum + (line.watchErrors ?? 0), 0);
}

/** What an agent uses once its pods have nothing more to do: its memory, and its CPU over half a minute in % of a core. */
export async function idleUsage(
  world: NodeWorld,
  usage: PodsWanted['usage'],
): Promise<{ readonly rssMb: number; readonly cpu: number }> {
  // What starting the pods left behind is done by then.
  await pause(20_000);
  const before = await usage(world);
  await pause(30_000);
  const { rssMb, cpuMs } = await usage(world);
  return { rssMb, cpu: ((cpuMs - before.cpuMs) / 30_000) * 100 };
}
