import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { HandlersOf } from '../../rpc/definition.js';
import {
  NodeServiceCapability_RPC_Type as Capability,
  VolumeHealthErrorType,
  VolumeUsage_Unit as Unit,
} from '../../rpc/gen/csi/csi.js';
import type { Mounts } from '../../rpc/mount/mounts.js';
import { StatusError } from '../../rpc/service.js';
import type { csiIdentityService, csiNodeService } from '../../rpc/services.js';
import { checkVolumeId, readPublishRequest } from './publish-request.js';
import type { ShownVolume, VolumeKeeper } from './volume-keeper.js';

/** The driver's name, in pods and in the CSIDriver object. */
export const CSI_DRIVER = 'csi.signet.dev';

/** What both services need. */
export interface CsiServiceParts {
  readonly volumes: VolumeKeeper;
  readonly mounts: Mounts;
  readonly kubeletDirectory: string;
  /** This node, as the server calls it. */
  readonly nodeName: string;
  /** Of Signet. */
  readonly version: string;
}

const CAPABILITIES = [
  Capability.VOLUME_MOUNT_GROUP,
  Capability.GET_VOLUME_STATS,
  Capability.GET_VOLUME_HEALTH,
] as const;

/** CSI's Identity service. */
export function csiIdentityHandlers(parts: CsiServiceParts): HandlersOf<typeof csiIdentityService> {
  return {
    getPluginInfo: () => Promise.resolve({ name: CSI_DRIVER, vendorVersion: parts.version }),
    // Ephemeral volumes have no controller, and are wherever their pod is.
    getPluginCapabilities: () => Promise.resolve({}),
    probe: () => Promise.resolve({ ready: !parts.volumes.closed }),
  };
}

/** CSI's Node service. What it does not have (staging, expansion) answers Unimplemented. */
export function csiNodeHandlers(parts: CsiServiceParts): HandlersOf<typeof csiNodeService> {
  const { volumes, mounts, kubeletDirectory, nodeName } = parts;
  return {
    nodeGetInfo: () => Promise.resolve({ nodeId: nodeName }),
    nodeGetCapabilities: () =>
      Promise.resolve({
        capabilities: CAPABILITIES.map((type) => ({ type: { $case: 'rpc' as const, value: { type } } })),
      }),
    nodePublishVolume: async (request, context) => {
      await volumes.publish(readPublishRequest(request, kubeletDirectory), context);
      return {};
    },
    // Not ended with the call: what is begun is brought to its end, and the kubelet asks again.
    nodeUnpublishVolume: async ({ volumeId, targetPath }, context) => {
      await volumes.unpublish(checkVolumeId(volumeId), targetPath, context);
      return {};
    },
    nodeGetVolumeStats: async ({ volumeId, volumePath }) => {
      const { dataDirectory } = find(volumes, volumeId, volumePath);
      const [{ total, available }, used] = [mounts.space(dataDirectory), await usage(dataDirectory)];
      const bytes = { unit: Unit.BYTES, total, available, used: used.bytes };
      // How many files there may be is bounded for all volumes together; of one, what there is says enough.
      const inodes = { unit: Unit.INODES, total: used.files, available: 0, used: used.files };
      return { usage: [bytes, inodes] };
    },
    nodeGetVolumeHealth: ({ volumeId, volumePublishPath }) => {
      const { problem } = find(volumes, volumeId, volumePublishPath, true);
      const status = VolumeHealthErrorType.DEGRADED;
      const healthStatuses =
        problem === undefined ? [] : [{ status, reason: 'IdentityMissing', message: problem }];
      return Promise.resolve({ volumeHealth: { volumeId, healthStatuses } });
    },
  };
}

/** @throws StatusError InvalidArgument, NotFound */
function find(volumes: VolumeKeeper, id: string, path: string, anyPath = false): ShownVolume {
  checkVolumeId(id);
  if (path === '' && !anyPath) throw new StatusError('InvalidArgument', 'volume path missing in request');
  const found = volumes.volume(id);
  if (found === undefined || (path !== '' && path !== found.volume.targetPath))
    throw new StatusError('NotFound', 'no such volume is published there');
  return found;
}

/** What the files of a volume take. Nobody but the agent writes there, so it is small and does not loop. */
async function usage(directory: string): Promise<{ readonly bytes: number; readonly files: number }> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true });
  let bytes = 0;
  for (const entry of entries)
    if (entry.isFile()) {
      // It may be replaced meanwhile.
      const found = await stat(join(entry.parentPath, entry.name)).catch(() => undefined);
      bytes += found?.size ?? 0;
    }
  return { bytes, files: entries.length };
}
