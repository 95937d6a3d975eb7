/** Sets the wall clock of the node's agent, and of nothing else: namespaces have no wall clock of their own. */
import { execFile } from 'node:child_process';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Manifest, NodeWorld } from './world.js';

const run = promisify(execFile);
const LIBRARY = 'set-clock.so';
const SHIFT = 'clock-shift';
/** The agent has the kubelet's directory as the node has it. */
const inAgent = (name: string): string => `/var/lib/kubelet/${name}`;

export interface AgentClock {
  /** Seconds; less than 0 for a clock that is behind. It holds at once. */
  setAhead(seconds: number): Promise<void>;
}

/** Values of the chart with which the agent lives by that clock. */
export const agentClockValues: Manifest = {
  agent: {
    extraEnv: [
      { name: 'LD_PRELOAD', value: inAgent(LIBRARY) },
      { name: 'CLOCK_SHIFT', value: inAgent(SHIFT) },
    ],
  },
};

/** Puts the clock onto a node, before Signet is installed there. */
export async function putAgentClock(world: NodeWorld): Promise<AgentClock> {
  const folder = join(world.cluster.nodeDirectory, 'kubelet');
  const source = join(import.meta.dirname, 'set-clock.c');
  await run('gcc', ['-O2', '-Wall', '-Werror', '-shared', '-fPIC', '-o', join(folder, LIBRARY), source]);
  await writeFile(join(folder, SHIFT), Buffer.alloc(8));
  return {
    async setAhead(seconds) {
      const value = Buffer.alloc(8);
      value.writeBigInt64LE(BigInt(seconds));
      // In place: it is mapped.
      const file = await open(join(folder, SHIFT), 'r+');
      try {
        await file.write(value, 0, 8, 0);
      } finally {
        await file.close();
      }
    },
  };
}
