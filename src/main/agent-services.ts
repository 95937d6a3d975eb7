import { join } from 'node:path';
import type { PolicyStore } from '../agent/access/policy-store.js';
import type { Agent } from '../agent/agent.js';
import { sharedSocketProblem } from '../agent/locator.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { openAgentCsi } from './agent-csi.js';
import { untilRelieved } from './agent-relief.js';
import { openNodeAuthorization } from './node-authorization.js';
import { closeAll, type OpenSocket } from './open-sockets.js';
import type { Operations } from './operations.js';
import { createWorkloadServices, openSharedSockets } from './workload-services.js';

/** Where an agent serves the workloads of its node. */
export interface ServingOptions {
  readonly stateDirectory: string;
  /** The kubelet's `--root-dir`; without it there is no CSI driver. */
  readonly kubeletDirectory: string | undefined;
  /** Whether there are sockets for all processes of the node. */
  readonly sharedSocket: boolean;
  /** Whether callers are told why they were denied. */
  readonly tellReasons: boolean;
  readonly maxConnectionsPerPod: number | undefined;
  /** How long an agent that is told to stop goes on until another one has taken over. Milliseconds. */
  readonly graceMs: number;
}

export interface AgentServicesParts {
  readonly options: ServingOptions;
  readonly agent: Agent;
  readonly policies: PolicyStore;
  readonly nodeName: string;
  /** The pod that this agent is; empty when it is none. */
  readonly podUid: string;
  readonly version: string;
  readonly operations: Operations;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** All that an agent serves. */
export interface AgentServices {
  /** Resolves when another agent serves it, or after the grace. */
  relieved(): Promise<void>;
  /** Ends all streams with `Unavailable`. Sockets stay on disk, volumes stay mounted. */
  close(): Promise<void>;
}

/**
 * Takes the sockets of this node over, those of the pods before those that new pods come by. Call it when all is there
 * that is to be served: whoever asks was being served by another agent until now.
 *
 * @throws MountError, SocketFileError; SignetError `HostPidMissing`; nothing is left open then
 */
export async function openAgentServices(parts: AgentServicesParts): Promise<AgentServices> {
  const { options, agent, operations, clock, random, logger } = parts;
  const { stateDirectory, kubeletDirectory, maxConnectionsPerPod } = options;
  const { metrics } = operations;
  const access = openNodeAuthorization({
    ...{ agent, policies: parts.policies, clock, random, logger, tellReasons: options.tellReasons },
  });
  const services = createWorkloadServices({
    ...{ agent, access, clock, random, logger },
    ...(maxConnectionsPerPod === undefined ? {} : { maxConnectionsPerListener: maxConnectionsPerPod }),
  });
  metrics.readOne('workloadConnections', () => services.workloads.connections);
  // Closed in the reverse order of opening.
  const closers: { close(): unknown }[] = [access, services];
  try {
    let shared: readonly OpenSocket[] = [];
    if (options.sharedSocket) {
      const problem = sharedSocketProblem(parts.podUid);
      if (problem !== undefined) throw new SignetError('HostPidMissing', `${problem}; set hostPID: true`);
      shared = await openSharedSockets(services, {
        workloadApi: join(stateDirectory, 'api.sock'),
        applicationApi: join(stateDirectory, 'authz.sock'),
        takeOver: true,
      });
    }
    const csi =
      kubeletDirectory === undefined
        ? undefined
        : await openAgentCsi({
            ...{ agent, services, stateDirectory, kubeletDirectory, metrics, clock, random, logger },
            ...{ nodeName: parts.nodeName, version: parts.version },
          });
    if (csi !== undefined) closers.push(csi);
    return {
      async relieved() {
        const { graceMs } = options;
        const relieved = await untilRelieved({
          ...{ sockets: shared, driverEnded: csi?.ended, clock, graceMs },
        });
        logger.info('the agent stops', { relieved });
      },
      close: () => closeAll(closers.reverse()),
    };
  } catch (error) {
    await closeAll(closers.reverse());
    throw error;
  }
}
