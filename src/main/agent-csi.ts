import type { Agent } from '../agent/agent.js';
import { serveCsi, type CsiServer } from '../agent/csi/serve.js';
import { VolumeKeeper } from '../agent/csi/volume-keeper.js';
import { createOpenFiles } from '../agent/files/open-files.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { Metrics } from '../operate/metrics/metrics.js';
import { linuxMounts } from '../rpc/mount/linux.js';
import { volumeContent } from './volume-content.js';
import type { WorkloadServices } from './workload-services.js';

/** What the CSI driver of an agent is composed of. */
export interface AgentCsiParts {
  readonly agent: Agent;
  readonly services: WorkloadServices;
  readonly nodeName: string;
  readonly stateDirectory: string;
  /** The kubelet's `--root-dir`. */
  readonly kubeletDirectory: string;
  /** Of Signet. */
  readonly version: string;
  readonly metrics: Pick<Metrics, 'count' | 'read'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/**
 * Serves the volumes of this node: first those that there are, then those that the kubelet asks for.
 *
 * @throws MountError, SocketFileError
 */
export async function openAgentCsi(parts: AgentCsiParts): Promise<CsiServer> {
  const { agent, services, metrics, clock, random, logger } = parts;
  const { kubeletDirectory, nodeName, version } = parts;
  const mounts = await linuxMounts();
  const openFiles = createOpenFiles({ parts: agent.parts, random });
  const volumes = new VolumeKeeper({
    ...{ mounts, kubeletDirectory, clock, logger, stateDirectory: parts.stateDirectory },
    openContent: volumeContent({ services, openFiles, clock, metrics }),
    registrationOf: (uid) => agent.podOf(uid),
  });
  return serveCsi({ volumes, mounts, kubeletDirectory, nodeName, version, clock, random, logger });
}
