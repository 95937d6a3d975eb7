import type { NodePublishVolumeRequest, VolumeCapability } from '../../rpc/gen/csi/csi.js';
import { VolumeCapability_AccessMode_Mode as Mode } from '../../rpc/gen/csi/csi.js';
import { StatusError } from '../../rpc/service.js';
import { parseVolumeSettings, VolumeSettingsError } from './settings.js';
import { parseTarget } from './target.js';
import type { Volume } from './volumes.js';

/** What the kubelet adds to a volume's attributes (CSIDriver.spec.podInfoOnMount). */
const KUBELET_PREFIX = 'csi.storage.k8s.io/';
const SINGLE_NODE: readonly number[] = [
  Mode.SINGLE_NODE_WRITER,
  Mode.SINGLE_NODE_READER_ONLY,
  Mode.SINGLE_NODE_SINGLE_WRITER,
  Mode.SINGLE_NODE_MULTI_WRITER,
];
/** One beyond is (gid_t)-1, which means nobody's. */
const LARGEST_GROUP = 0xffff_fffe;
const DNS_NAME = /^[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?$/;

/** A volume, with its attributes as they were written: they are read again whenever it is. */
export interface RequestedVolume {
  readonly volume: Volume;
  readonly attributes: Readonly<Record<string, string>>;
}

/** The specification's bound for names, in printable ASCII: it goes into logs. */
export function checkVolumeId(id: string): string {
  if (id === '') throw new StatusError('InvalidArgument', 'volume ID missing in request');
  if (!/^[\x21-\x7e]{1,128}$/.test(id))
    throw new StatusError('InvalidArgument', 'the volume ID is not 1 to 128 printable ASCII characters');
  return id;
}

/**
 * Reads a request to publish a volume. All of it is checked: it comes from the kubelet, but its attributes were written
 * by whoever made the pod.
 *
 * @throws StatusError InvalidArgument, FailedPrecondition
 */
export function readPublishRequest(
  request: NodePublishVolumeRequest,
  kubeletDirectory: string,
): RequestedVolume {
  const id = checkVolumeId(request.volumeId);
  const target = parseTarget(kubeletDirectory, request.targetPath);
  const group = readCapability(request.volumeCapability);
  refuseStrayFields(request);
  const attributes: Record<string, string> = {};
  const kubelet = new Map<string, string>();
  for (const [name, value] of Object.entries(request.volumeContext)) {
    if (name.startsWith(KUBELET_PREFIX)) kubelet.set(name.slice(KUBELET_PREFIX.length), value);
    else attributes[name] = value;
  }
  if (kubelet.get('ephemeral') !== 'true')
    throw new StatusError(
      'InvalidArgument',
      'csi.signet.dev has ephemeral volumes only: write it in the pod (spec.volumes[].csi), not in a PersistentVolume; and the CSIDriver object needs podInfoOnMount: true',
    );
  const podUid = kubelet.get('pod.uid') ?? '';
  // The path is the kubelet's own; the rest could have been written by the pod where podInfoOnMount is off.
  if (podUid !== target.podUid)
    throw new StatusError(
      'PermissionDenied',
      'the target path belongs to another pod than the one that the volume is for',
    );
  const volume: Volume = {
    id,
    podUid,
    namespace: podInfo(kubelet, 'pod.namespace'),
    podName: podInfo(kubelet, 'pod.name'),
    serviceAccount: podInfo(kubelet, 'serviceAccount.name'),
    targetPath: request.targetPath,
    ...(group === undefined ? {} : { group }),
    settings: settingsOf(attributes),
  };
  return { volume, attributes };
}

function settingsOf(attributes: Readonly<Record<string, string>>): Volume['settings'] {
  try {
    return parseVolumeSettings(attributes);
  } catch (error) {
    if (error instanceof VolumeSettingsError)
      throw new StatusError('InvalidArgument', error.message, { code: error.code, cause: error });
    throw error;
  }
}

function podInfo(kubelet: ReadonlyMap<string, string>, name: string): string {
  const value = kubelet.get(name) ?? '';
  if (!DNS_NAME.test(value))
    throw new StatusError(
      'InvalidArgument',
      `${KUBELET_PREFIX}${name} is missing or no name: the CSIDriver object needs podInfoOnMount: true`,
    );
  return value;
}

/** The group of the files, if there is one. */
function readCapability(capability: VolumeCapability | undefined): number | undefined {
  if (capability === undefined)
    throw new StatusError('InvalidArgument', 'volume capability missing in request');
  if (capability.accessType?.$case !== 'mount')
    throw new StatusError('InvalidArgument', 'the volume is a directory: volumeMode Block is not possible');
  if (!SINGLE_NODE.includes(capability.accessMode?.mode ?? Mode.UNKNOWN))
    throw new StatusError(
      'InvalidArgument',
      'the volume is on one node: use an access mode of a single node',
    );
  const { fsType, mountFlags, volumeMountGroup } = capability.accessType.value;
  if (fsType !== '')
    throw new StatusError('InvalidArgument', 'fsType cannot be chosen: leave it out of the volume');
  if (mountFlags.length > 0)
    throw new StatusError('InvalidArgument', 'mount options cannot be chosen: leave them out');
  if (volumeMountGroup === '') return undefined;
  const group = Number(volumeMountGroup);
  if (!/^\d{1,10}$/.test(volumeMountGroup) || group > LARGEST_GROUP)
    throw new StatusError(
      'InvalidArgument',
      `the volume's group is no number from 0 to ${LARGEST_GROUP}: mend the pod's fsGroup`,
    );
  return group;
}

/** What the driver has no use for is refused, not passed over: somebody thinks that it does something. */
function refuseStrayFields(request: NodePublishVolumeRequest): void {
  // The mount is read-only in any case, but container runtimes make it writable again unless the pod says so: a container
  // could then replace its sockets by links, and have the agent write where they lead.
  if (!request.readonly)
    throw new StatusError(
      'InvalidArgument',
      'the volume must be read-only: write readOnly: true beside driver: csi.signet.dev',
    );
  if (request.stagingTargetPath !== '')
    throw new StatusError('InvalidArgument', 'volumes are not staged: the staging path must be empty');
  if (Object.keys(request.secrets).some((name) => !name.startsWith(KUBELET_PREFIX)))
    throw new StatusError(
      'InvalidArgument',
      'nodePublishSecretRef is not used: leave it out of the volume, which gets its secrets from the agent',
    );
}
