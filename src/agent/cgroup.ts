/** Where the kubelet keeps the cgroups of its pods, as this process sees them. */
export type PodCgroups =
  /** Below these cgroups, each as its path's parts: the kubelet's `cgroupRoot`, and whatever the node itself is in. */
  | { readonly kind: 'below'; readonly roots: readonly (readonly string[])[] }
  /** This process has a cgroup namespace of its own and sees others' cgroups only from where it is itself. */
  | { readonly kind: 'hidden' };

/** In which cgroups a process is. */
export type CgroupPlace =
  | { readonly kind: 'pod'; readonly uid: string; readonly container?: string }
  | { readonly kind: 'none' }
  | Unclear;

/** It cannot be told, or it is a container of no pod: neither a pod nor a process of the machine. */
interface Unclear {
  readonly kind: 'unclear';
  readonly why: string;
}

/** A UID as the API server makes them, or the hash of a static pod's manifest. */
const UID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}';
/** The same in a systemd unit's name, where `-` parts the levels. */
const UNIT_UID = '[0-9a-f]{8}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{12}|[0-9a-f]{32}';
const CONTAINER = '[0-9a-f]{64}';

const CGROUPFS_POD = new RegExp(`^pod(${UID})$`);
/** `kubepods-burstable-pod<uid>.slice`, after the names of the slices it is in; a runtime may add its container to it. */
const SYSTEMD_POD = new RegExp(
  `^(?:[^/]+-)?kubepods(?:-(?:burstable|besteffort))?-pod(${UNIT_UID})\\.slice(?::[a-z-]+:(${CONTAINER}))?$`,
);
const SYSTEMD_KUBEPODS = /^(?:[^/]+-)?kubepods(?:-(?:burstable|besteffort))?\.slice$/;
const CGROUPFS_KUBEPODS = /^(?:kubepods|burstable|besteffort)$/;
const OF_CONTAINER = new RegExp(`^(?:[a-z-]+-)?(${CONTAINER})(?:\\.scope)?$`);
/** What container programs call their cgroups, whoever runs them. */
const SOME_CONTAINER = new RegExp(`(?:^|[-:])${CONTAINER}(?:\\.scope)?$`);

/**
 * Finds out where pods' cgroups are, from this process's own (`/proc/self/cgroup`), which is one of `ownPod` if it runs in a
 * pod. A process of the machine sees all from the root.
 */
export function findPodCgroups(ownCgroups: string, ownPod: string, hasOwnNamespace: boolean): PodCgroups {
  const paths = pathsOf(ownCgroups);
  const roots = new Map<string, readonly string[]>();
  for (const path of paths) {
    const parts = partsOf(path);
    for (let at = 0; at < parts.length; at++) {
      if (podAt(parts, at)?.uid !== ownPod) continue;
      const root = rootOf(parts, at);
      roots.set(root.join('/'), root);
      break;
    }
  }
  if (roots.size > 0) return { kind: 'below', roots: [...roots.values()] };
  return hasOwnNamespace && paths.every((path) => path === '/')
    ? { kind: 'hidden' }
    : { kind: 'below', roots: [[]] };
}

/**
 * In which pod a process is, by its cgroups (`/proc/PID/cgroup`, cgroups(7)): v1, v2 and both at once, as the kubelet names
 * them with either driver (cgroupfs or systemd).
 *
 * Only what lies where the kubelet puts it counts, and of that the outermost: below its own cgroup a container may make
 * others and name them as it likes, and so may a user of the machine below his session.
 */
export function placeOf(cgroups: string, pods: PodCgroups): CgroupPlace {
  const paths = pathsOf(cgroups);
  if (paths.length === 0) return unclear('the kernel does not say in which cgroups it is');
  const found = new Map<string, Set<string | undefined>>();
  for (const path of paths) {
    const pod = podOf(path, pods);
    if (pod !== undefined) found.set(pod.uid, (found.get(pod.uid) ?? new Set()).add(pod.container));
  }
  const [first, another] = found;
  if (another !== undefined) return unclear('its cgroups are those of several pods');
  if (first !== undefined) {
    const [uid, containers] = first;
    const [container, ...others] = [...containers].filter((one) => one !== undefined);
    return { kind: 'pod', uid, ...(container === undefined || others.length > 0 ? {} : { container }) };
  }
  if (pods.kind === 'hidden' || paths.some((path) => path === '/..' || path.startsWith('/../')))
    return unclear(
      'its cgroups cannot be seen from the agent: run the agent in the cgroup namespace of the node',
    );
  return paths.some((path) => isContainer(path, pods.roots))
    ? unclear('it is in a container that belongs to no pod')
    : { kind: 'none' };
}

/** Whether it is in a container, or in the pods' cgroups and in no pod. A node may itself be in a container. */
function isContainer(path: string, roots: readonly (readonly string[])[]): boolean {
  const parts = partsOf(path);
  const rest = parts.slice(Math.max(...roots.map((root) => common(parts, root))));
  return rest.some((part) => SOME_CONTAINER.test(part)) || isKubepods(rest[0] ?? '');
}

/** How many of the first parts are the same. */
function common(parts: readonly string[], root: readonly string[]): number {
  const differs = root.findIndex((part, at) => parts[at] !== part);
  return differs < 0 ? root.length : differs;
}

function podOf(path: string, pods: PodCgroups): { uid: string; container?: string } | undefined {
  const parts = partsOf(path);
  if (pods.kind === 'hidden') {
    // From a container's cgroup, `..` leads up to one that holds other pods, too: its children are the kubelet's.
    const up = parts.findIndex((part) => part !== '..');
    return up > 0 ? firstPod(parts.slice(up)) : undefined;
  }
  for (const root of pods.roots) {
    if (common(parts, root) < root.length) continue;
    const pod = firstPod(parts.slice(root.length));
    if (pod !== undefined) return pod;
  }
  return undefined;
}

/** The pod that a path leads to through nothing but the kubelet's own cgroups. */
function firstPod(parts: readonly string[]): { uid: string; container?: string } | undefined {
  for (let at = 0; at < parts.length; at++) {
    const pod = podAt(parts, at);
    if (pod !== undefined) return pod;
    if (!isKubepods(parts[at] ?? '')) return undefined;
  }
  return undefined;
}

function podAt(parts: readonly string[], at: number): { uid: string; container?: string } | undefined {
  const part = parts[at] ?? '';
  const unit = SYSTEMD_POD.exec(part);
  const uid = unit?.[1]?.replaceAll('_', '-') ?? CGROUPFS_POD.exec(part)?.[1];
  if (uid === undefined) return undefined;
  const container = unit?.[2] ?? OF_CONTAINER.exec(parts[at + 1] ?? '')?.[1];
  return { uid, ...(container === undefined ? {} : { container }) };
}

/** What comes before the kubelet's own cgroups on the way to a pod's. */
function rootOf(parts: readonly string[], pod: number): readonly string[] {
  let at = pod;
  while (at > 0 && isKubepods(parts[at - 1] ?? '')) at--;
  return parts.slice(0, at);
}

const isKubepods = (part: string): boolean => SYSTEMD_KUBEPODS.test(part) || CGROUPFS_KUBEPODS.test(part);

/** The paths of all hierarchies: `id:controllers:path` lines, of which a path may have a `:`, too. */
function pathsOf(cgroups: string): readonly string[] {
  return cgroups.split('\n').flatMap((line) => /^\d+:[^:]*:(\/.*)$/.exec(line)?.[1] ?? []);
}

function partsOf(path: string): readonly string[] {
  return path.split('/').filter((part) => part !== '');
}

function unclear(why: string): Unclear {
  return { kind: 'unclear', why };
}
