import type { MountPlace } from '../../rpc/mount/mounts.js';
import { StatusError } from '../../rpc/service.js';

/** Where the kubelet wants a volume, as its path says. */
export interface VolumeTarget {
  /** The pod, by its UID. */
  readonly podUid: string;
  readonly place: MountPlace;
}

/** The specification wants 128 bytes at least; a path has 4096 (path_resolution(7)). */
const LONGEST_PATH = 4_096;

/** A UID as API server and kubelet make them; it becomes the name of a listener. */
export function isPodUid(value: string): boolean {
  return /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?$/.test(value);
}

/**
 * Reads `<kubelet directory>/pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount`: the kubelet mounts the volumes of a pod
 * nowhere else, so nothing else is touched, whoever asks.
 *
 * @throws StatusError InvalidArgument
 */
export function parseTarget(kubeletDirectory: string, path: string): VolumeTarget {
  if (path === '') throw new StatusError('InvalidArgument', 'target path missing in request');
  const prefix = `${kubeletDirectory.replace(/\/+$/, '')}/`;
  const relative = path.length <= LONGEST_PATH && path.startsWith(prefix) ? path.slice(prefix.length) : '';
  const found = /^pods\/([^/]+)\/volumes\/kubernetes\.io~csi\/([A-Za-z0-9._~-]{1,255})\/mount$/.exec(
    relative,
  );
  const [, podUid = '', volume = ''] = found ?? [];
  if (!isPodUid(podUid) || volume === '.' || volume === '..')
    throw new StatusError(
      'InvalidArgument',
      `the target path is not ${prefix}pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount: set the agent's --kubelet-directory to the kubelet's --root-dir`,
      { code: 'VolumeTargetInvalid' },
    );
  return { podUid, place: { root: kubeletDirectory, path: relative } };
}
