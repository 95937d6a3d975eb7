import { type PeerCredentials, StatusError } from '../rpc/service.js';
import { findPodCgroups, placeOf, type PodCgroups } from './cgroup.js';
import { readLink, readSmallFile } from './procfs.js';

/** Where a caller runs: in a pod, or on the machine itself. */
export type CallerLocation =
  { readonly kind: 'pod'; readonly uid: string; readonly container?: string } | { readonly kind: 'machine' };

/** @throws StatusError Unauthenticated */
export function checkAlive(credentials: PeerCredentials): void {
  if (!credentials.isAlive())
    throw new StatusError(
      'Unauthenticated',
      'the calling process is gone; its identity cannot be told any more',
    );
}

/** The initial cgroup namespace (linux/proc_ns.h, PROC_CGROUP_INIT_INO). */
const INITIAL_CGROUP_NAMESPACE = 'cgroup:[4026531835]';

/** Tells callers apart by their cgroups, on a node where the agent itself is `ownPod`. */
export function createLocator(
  proc: string,
  ownPod: string,
): (credentials: PeerCredentials) => CallerLocation {
  const pods = podCgroups(proc, ownPod);
  return (credentials) => {
    const directory = `${proc}/${credentials.pid}`;
    const place = placeOf(readSmallFile(`${directory}/cgroup`) ?? '', pods);
    const foreign = place.kind === 'none' ? foreignNamespace(proc, directory) : undefined;
    // Last: what was read above is the caller's only if it lived all the while.
    checkAlive(credentials);
    if (place.kind === 'pod') return place;
    const why = place.kind === 'unclear' ? place.why : foreign;
    if (why !== undefined)
      throw new StatusError('Unauthenticated', `the calling process cannot be told apart: ${why}`, {
        code: 'CallerUnclear',
      });
    return { kind: 'machine' };
  };
}

/** What is in a container of any kind is no process of the machine, whatever its cgroup is called. */
function foreignNamespace(proc: string, directory: string): string | undefined {
  for (const name of ['pid', 'user'] as const) {
    const own = readLink(`${proc}/self/ns/${name}`);
    const its = readLink(`${directory}/ns/${name}`);
    if (its === undefined) return `its ${name} namespace cannot be read`;
    if (its !== own) return `it is in another ${name} namespace, and in no pod`;
  }
  return undefined;
}

/**
 * Why callers in pods cannot be told apart at all; undefined when they can. The kernel names a caller by its process id, and
 * an agent without the host's process ids sees none (pid 0) of all that are not in its own pod.
 */
export function sharedSocketProblem(ownPod: string, proc = '/proc'): string | undefined {
  const pods = podCgroups(proc, ownPod);
  const first = readSmallFile(`${proc}/1/cgroup`) ?? '';
  const place = placeOf(first, pods);
  // An agent that cannot see where it is sees the same of whoever is in its container.
  const isOwn =
    (place.kind === 'pod' && place.uid === ownPod) ||
    (pods.kind === 'hidden' && first === readSmallFile(`${proc}/self/cgroup`));
  return isOwn
    ? 'the agent runs without hostPID: no caller of the shared socket can be told apart'
    : undefined;
}

function podCgroups(proc: string, ownPod: string): PodCgroups {
  const hasOwnNamespace = readLink(`${proc}/self/ns/cgroup`) !== INITIAL_CGROUP_NAMESPACE;
  return findPodCgroups(readSmallFile(`${proc}/self/cgroup`) ?? '', ownPod, hasOwnNamespace);
}
