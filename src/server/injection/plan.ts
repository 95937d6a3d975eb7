import {
  CAPTURE_ANNOTATION,
  FILES_ANNOTATION,
  INJECT_LABEL,
  MOUNT_PATH_ANNOTATION,
  PROXY_ANNOTATION,
} from './annotations.js';
import { CAPTURE_CONTAINER, captureContainer } from './capture-container.js';
import { readNewPod, type Container, type Fields, type Mount, type NewPod } from './pod.js';
import { annotationField, shown, type Problem } from './problems.js';
import { PROXY_CONTAINER, proxyContainer } from './proxy-container.js';
import { planProbes } from './proxy-probes.js';
import { readInjectionSettings, type InjectionSettings } from './settings.js';

/**
 * One step of a JSON Patch (RFC 6902). Nothing is ever taken away, but that a probe of a port behind the proxy asks the
 * proxy.
 */
export interface PatchStep {
  readonly op: 'add' | 'replace';
  readonly path: string;
  readonly value: unknown;
}

/** What is made of the attributes of a volume of ours. */
export type VolumeReading = { readonly socket: string } | { readonly problem: string };

/** What the plan rests on besides the pod. */
export interface InjectionContext {
  /** Where the pod is created. */
  readonly namespace: string;
  /** Where nothing is injected: what runs there must not wait for us. */
  readonly skippedNamespaces: ReadonlySet<string>;
  /** Of Envoy; undefined where the cluster has none to offer. */
  readonly proxyImage: string | undefined;
  /** Of Signet, for what captures ports; undefined where the cluster does not offer it. */
  readonly captureImage: string | undefined;
  /** Reads the attributes of a volume as the agent will. */
  readonly readVolume: (attributes: Readonly<Record<string, string>>) => VolumeReading;
}

/** What is done about a pod. Warnings are for whoever created it. */
export type InjectionPlan =
  | { readonly do: 'nothing'; readonly warnings: readonly string[] }
  | { readonly do: 'patch'; readonly patch: readonly PatchStep[]; readonly warnings: readonly string[] }
  | { readonly do: 'refuse'; readonly problems: readonly Problem[] };

export const CSI_DRIVER = 'csi.signet.dev';
/** What a pod waits for before it is ready. */
export const IDENTITY_GATE = 'signet.dev/identity';
const VOLUME = 'signet';
const ENDPOINT_VARIABLE = 'SPIFFE_ENDPOINT_SOCKET';
const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror';

/** The volume that the pod has, or is to have. */
interface VolumePlan {
  readonly name: string;
  readonly socket: string;
  /** Undefined when it is there already. */
  readonly added: Fields | undefined;
  /** Written by hand under another name: who wrote it says who sees it. */
  readonly byHand: boolean;
}

/**
 * What a pod that asks for an identity gets: a volume with its socket, seen by every container, whose programs are told
 * where the socket is; a readiness gate; a proxy if wanted. Whoever is asked about is taken for chosen, but for pods that
 * cannot have it. A pod that has all this already is left as it is, so that planning again changes nothing.
 */
export function planInjection(object: Fields, context: InjectionContext): InjectionPlan {
  const pod = readNewPod(object);
  if (isSkipped(pod, context)) return { do: 'nothing', warnings: [] };
  const impossible = whyNot(pod);
  if (impossible !== undefined) return without(pod, impossible);
  const label = pod.labels[INJECT_LABEL];
  if (label !== undefined && label !== 'true')
    return refuse({
      field: `metadata.labels[${JSON.stringify(INJECT_LABEL)}]`,
      message: `is ${shown(label)}; it must be "true" or "false"`,
    });
  const { settings, problems } = readInjectionSettings(pod);
  const missing = notOffered(settings, context);
  if (missing !== undefined) return refuse(...problems, missing);
  const volume = planVolume(pod, settings, context);
  if (!('name' in volume)) return refuse(...problems, volume);
  const patch: PatchStep[] = [];
  const found: Problem[] = [...problems];
  if (!volume.byHand) found.push(...addToContainers(pod, volume, settings, patch));
  if (volume.added !== undefined) add(patch, '/spec/volumes', pod.has.volumes, [volume.added]);
  const warnings = [...volumeWarnings(pod, context)];
  if (settings.proxy !== undefined) {
    const added = addProxy(pod, volume, settings, context, patch);
    found.push(...added.problems);
    warnings.push(...added.warnings);
  }
  if (!pod.readinessGates.includes(IDENTITY_GATE))
    add(patch, '/spec/readinessGates', pod.has.readinessGates, [{ conditionType: IDENTITY_GATE }]);
  if (found.length > 0) return refuse(...found);
  return patch.length === 0 ? { do: 'nothing', warnings } : { do: 'patch', patch, warnings };
}

/** What whoever writes volumes of ours by hand should know: the kubelet would tell it only when the pod starts. */
export function checkVolumes(
  object: Fields,
  context: Pick<InjectionContext, 'readVolume'>,
): readonly string[] {
  return volumeWarnings(readNewPod(object), context);
}

function refuse(...problems: readonly Problem[]): InjectionPlan {
  return { do: 'refuse', problems };
}

/** What the cluster would need for what is asked. */
function notOffered(
  { proxy }: InjectionSettings,
  { proxyImage, captureImage }: InjectionContext,
): Problem | undefined {
  if (proxy === undefined) return undefined;
  if (proxyImage === undefined)
    return {
      field: annotationField(PROXY_ANNOTATION),
      message:
        'asks for a proxy, and this cluster offers none; ask its administrator to set injector.proxy.image of the Signet chart',
    };
  if (proxy.capture && captureImage === undefined)
    return {
      field: annotationField(CAPTURE_ANNOTATION),
      message:
        'asks for captured ports, and this cluster does not offer them; ask its administrator to set injector.capture.enabled of the Signet chart',
    };
  return undefined;
}

/** Whether a pod is none that anything is done about. */
function isSkipped(pod: NewPod, { namespace, skippedNamespaces }: InjectionContext): boolean {
  return (
    skippedNamespaces.has(namespace) ||
    // A static pod is the kubelet's, whatever the API server thinks of it.
    Object.hasOwn(pod.annotations, MIRROR_ANNOTATION) ||
    pod.labels[INJECT_LABEL] === 'false'
  );
}

/** Why nothing can be added to a pod. */
function whyNot({ os, hostNetwork }: NewPod): string | undefined {
  if (os === 'windows') return 'it runs on Windows, where Signet has no agent';
  return hostNetwork ? 'it is in the network of its node' : undefined;
}

/** An identity that is not added is missed; a proxy that is not would let everybody in to who is taken to be behind it. */
function without(pod: NewPod, reason: string): InjectionPlan {
  if (Object.hasOwn(pod.annotations, PROXY_ANNOTATION) && pod.annotations[PROXY_ANNOTATION] !== 'false')
    return refuse({
      field: annotationField(PROXY_ANNOTATION),
      message: `asks for a proxy, and this pod can have none: ${reason}; take the annotation away, or label the pod ${INJECT_LABEL}: "false"`,
    });
  const byHand = pod.hostNetwork ? '; write a volume of csi.signet.dev by hand if it needs one' : '';
  return {
    do: 'nothing',
    warnings: [
      `no identity is added to this pod: ${reason}${byHand}; label it ${INJECT_LABEL}: "false" to say that this is meant`,
    ],
  };
}

function planVolume(
  pod: NewPod,
  { files }: InjectionSettings,
  { readVolume }: InjectionContext,
): VolumePlan | Problem {
  const index = pod.volumes.findIndex(({ name }) => name === VOLUME);
  const named = pod.volumes[index];
  if (named !== undefined && named.driver !== CSI_DRIVER)
    return {
      field: `spec.volumes[${index}].name`,
      message: `is "${VOLUME}", the name of the volume that is added, and it is no volume of ${CSI_DRIVER}; give it another name`,
    };
  const present = named ?? pod.volumes.find(({ driver }) => driver === CSI_DRIVER);
  if (present !== undefined) {
    const read = readVolume(present.attributes);
    // A warning says what is wrong with it.
    const socket = 'socket' in read ? read.socket : 'api.sock';
    return { name: present.name, socket, added: undefined, byHand: present !== named };
  }
  const attributes: Readonly<Record<string, string>> = files === undefined ? {} : { files };
  const read = readVolume(attributes);
  if ('problem' in read) return { field: annotationField(FILES_ANNOTATION), message: read.problem };
  const csi = {
    ...{ driver: CSI_DRIVER, readOnly: true },
    ...(files === undefined ? {} : { volumeAttributes: attributes }),
  };
  return { name: VOLUME, socket: read.socket, added: { name: VOLUME, csi }, byHand: false };
}

function addToContainers(
  pod: NewPod,
  volume: VolumePlan,
  settings: InjectionSettings,
  patch: PatchStep[],
): readonly Problem[] {
  const problems: Problem[] = [];
  for (const kind of ['initContainers', 'containers'] as const)
    for (const [index, container] of pod[kind].entries()) {
      // From an earlier round; it has more rights than others, and no need of an identity.
      if (
        settings.proxy?.capture === true &&
        kind === 'initContainers' &&
        container.name === CAPTURE_CONTAINER
      )
        continue;
      const problem = addToContainer(container, `/spec/${kind}/${index}`, volume, settings, patch);
      if (problem !== undefined)
        problems.push({ field: `spec.${kind}[${index}].volumeMounts`, message: problem });
    }
  return problems;
}

/** Returns what is in the way. */
function addToContainer(
  container: Container,
  path: string,
  { name, socket }: VolumePlan,
  { mountPath }: InjectionSettings,
  patch: PatchStep[],
): string | undefined {
  const tellsItself = container.env.includes(ENDPOINT_VARIABLE);
  const present = container.mounts.find((mount) => mount.name === name);
  if (present === undefined) {
    const other = container.mounts.find((mount) => isIn(mount, mountPath));
    if (other !== undefined)
      // It has arranged itself for another socket.
      return tellsItself
        ? undefined
        : `container ${shown(container.name)} has volume ${shown(other.name)} at ${other.mountPath}, and the identity is to be at ${mountPath}; choose another place by ${MOUNT_PATH_ANNOTATION}`;
    add(patch, `${path}/volumeMounts`, container.has.volumeMounts, [{ name, mountPath, readOnly: true }]);
  }
  // Through a subPath, nobody knows where the socket is.
  if (tellsItself || (present !== undefined && present.subPath !== '')) return undefined;
  const value = `unix://${(present?.mountPath ?? mountPath).replace(/\/+$/, '')}/${socket}`;
  add(patch, `${path}/env`, container.has.env, [{ name: ENDPOINT_VARIABLE, value }]);
  return undefined;
}

/** At this place, or below it, where a read-only volume has no room for it. */
function isIn({ mountPath }: Mount, place: string): boolean {
  const at = mountPath.replaceAll(/\/+/g, '/').replace(/\/$/, '');
  return at === place || at.startsWith(`${place}/`);
}

/** What came in the way, and what whoever created the pod should know. */
interface Added {
  readonly problems: readonly Problem[];
  readonly warnings: readonly string[];
}

function addProxy(
  pod: NewPod,
  volume: VolumePlan,
  { proxy, mountPath }: InjectionSettings,
  { proxyImage, captureImage }: InjectionContext,
  patch: PatchStep[],
): Added {
  // From an earlier round.
  const isThere = pod.initContainers.some(({ name }) => name === PROXY_CONTAINER);
  if (proxy === undefined || proxyImage === undefined || isThere) return { problems: [], warnings: [] };
  const names = [PROXY_CONTAINER, ...(proxy.capture ? [CAPTURE_CONTAINER] : [])];
  const taken = (['initContainers', 'containers'] as const).flatMap((kind) =>
    pod[kind].flatMap(({ name }, index) =>
      names.includes(name)
        ? [
            {
              field: `spec.${kind}[${index}].name`,
              message: `is "${name}", the name of a container that is added; give it another name`,
            },
          ]
        : [],
    ),
  );
  const { rewritten, checks, problems, warnings } = planProbes(pod, proxy);
  for (const { path, value } of rewritten) patch.push({ op: 'replace', path, value });
  const { name, socket } = volume;
  const added = [
    ...(proxy.capture && captureImage !== undefined ? [captureContainer(captureImage, proxy)] : []),
    proxyContainer({ image: proxyImage, proxy, probes: checks, volume: name, mountPath, socket }),
  ];
  // The first, so that they run before all others; last in the patch, so that their places are still right above.
  if (!pod.has.initContainers) patch.push({ op: 'add', path: '/spec/initContainers', value: added });
  else
    for (const [index, value] of added.entries())
      patch.push({ op: 'add', path: `/spec/initContainers/${index}`, value });
  return { problems: [...taken, ...problems], warnings };
}

/** Adds to the end of a list, or makes the list. */
function add(patch: PatchStep[], path: string, exists: boolean, values: readonly unknown[]): void {
  if (!exists) patch.push({ op: 'add', path, value: values });
  else for (const value of values) patch.push({ op: 'add', path: `${path}/-`, value });
}

function volumeWarnings(
  pod: NewPod,
  { readVolume }: Pick<InjectionContext, 'readVolume'>,
): readonly string[] {
  return pod.volumes.flatMap(({ driver, attributes }, index) => {
    if (driver !== CSI_DRIVER) return [];
    const read = readVolume(attributes);
    return 'problem' in read ? [`spec.volumes[${index}].csi.volumeAttributes: ${read.problem}`] : [];
  });
}
