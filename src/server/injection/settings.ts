import { didYouMean } from '../../lib/did-you-mean.js';
import {
  FILES_ANNOTATION,
  MOUNT_PATH_ANNOTATION,
  PROXY_ANNOTATION,
  INBOUND_ANNOTATION,
  OUTBOUND_ANNOTATION,
  AUTHORIZATION_ANNOTATION,
  CAPTURE_ANNOTATION,
  REWRITE_PROBES_ANNOTATION,
  INJECTION_ANNOTATIONS,
} from './annotations.js';
import type { NewPod } from './pod.js';
import { annotationField, shown, type Problem } from './problems.js';
import { readProxySettings, type ProxySettings } from './proxy-settings.js';

const OURS = /^signet\.dev\/(inject|proxy|rewrite)-/;
const DEFAULT_MOUNT_PATH = '/run/spiffe';
/** With a socket's name it must fit a socket address (unix(7)): 107 bytes. */
const LONGEST_MOUNT_PATH = 64;
/** A list of everything that can be asked for is far shorter. */
const LONGEST_VALUE = 4096;

/** What a pod asks for by its annotations. */
export interface InjectionSettings {
  /** Where the volume is seen in each container. */
  readonly mountPath: string;
  /** As the volume attribute `files`; undefined: sockets alone. */
  readonly files: string | undefined;
  readonly proxy: ProxySettings | undefined;
}

/** Reads the annotations of a pod. All problems are told, not the first alone: each round costs somebody a roll-out. */
export function readInjectionSettings({ annotations }: Pick<NewPod, 'annotations'>): {
  readonly settings: InjectionSettings;
  readonly problems: readonly Problem[];
} {
  const problems: Problem[] = [];
  const add = (name: string, message: string): void =>
    void problems.push({ field: annotationField(name), message });
  for (const name of Object.keys(annotations)) {
    if (!OURS.test(name) || INJECTION_ANNOTATIONS.includes(name)) continue;
    const near = didYouMean(name, INJECTION_ANNOTATIONS);
    add(
      name,
      `is no annotation of Signet's${near === undefined ? '' : `; did you mean ${near}?`}; there are ${INJECTION_ANNOTATIONS.join(', ')}`,
    );
  }
  const read = (name: string): string | undefined => {
    const value = Object.hasOwn(annotations, name) ? annotations[name] : undefined;
    if (value === undefined || value.length <= LONGEST_VALUE) return value;
    add(name, `is longer than ${LONGEST_VALUE} characters; shorten it`);
    return undefined;
  };
  const mountPath = read(MOUNT_PATH_ANNOTATION) ?? DEFAULT_MOUNT_PATH;
  const wrong = mountPathProblem(mountPath);
  if (wrong !== undefined) add(MOUNT_PATH_ANNOTATION, wrong);
  const proxy = readProxySettings(
    {
      wanted: read(PROXY_ANNOTATION),
      inbound: read(INBOUND_ANNOTATION),
      outbound: read(OUTBOUND_ANNOTATION),
      authorization: read(AUTHORIZATION_ANNOTATION),
      capture: read(CAPTURE_ANNOTATION),
      rewriteProbes: read(REWRITE_PROBES_ANNOTATION),
    },
    add,
  );
  return { settings: { mountPath, files: read(FILES_ANNOTATION), proxy }, problems };
}

function mountPathProblem(path: string): string | undefined {
  if (!/^(\/[A-Za-z0-9._-]+)+$/.test(path) || path.split('/').some((part) => part === '.' || part === '..'))
    return `is ${shown(path)}; give an absolute path of letters, digits, ".", "_" and "-", e.g. ${DEFAULT_MOUNT_PATH}`;
  if (path.length > LONGEST_MOUNT_PATH)
    return `has ${path.length} characters; give at most ${LONGEST_MOUNT_PATH}, so that the path of a socket in it can be used`;
  return undefined;
}
