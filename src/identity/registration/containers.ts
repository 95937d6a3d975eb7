import { digest } from './digest.js';
import { type Failure, failure } from './outcome.js';
import type {
  ContainerFacts,
  ContainerSelector,
  PodFacts,
  Registration,
  RegistrationContainers,
} from './registration.js';

/** The digest at the end of what a node says that a container runs. Of an image without one, that of its configuration. */
const IMAGE_DIGEST = /(?:^|[@/])(sha256:[0-9a-f]{64})$/;
/** As the API server has it, or as what keeps pods by the ten thousand does: cut. */
const CONTAINER_ID = /^(?:[a-z0-9.+-]+:\/\/)?([0-9a-f]{32})(?:[0-9a-f]{32})?$/;
/** Before what a revision says of containers. */
const CONTAINERS_MARK = '/';

/** Whether every field that the selector sets matches the container. What is not known does not match. */
export function containerSelectorMatches(selector: ContainerSelector, container: ContainerFacts): boolean {
  return containerMisses(selector, container).length === 0;
}

/** What keeps the selector from matching, each as a clause for a person; empty when it matches. */
export function containerMisses(selector: ContainerSelector, container: ContainerFacts): readonly string[] {
  const { names, imageDigests } = selector;
  const misses: string[] = [];
  if (names === undefined && imageDigests === undefined) return ['it selects no container'];
  if (names?.includes(container.name) === false)
    misses.push(`the container is ${container.name}, it wants ${oneOf(names)}`);
  if (imageDigests === undefined) return misses;
  const image = IMAGE_DIGEST.exec(container.imageID ?? '')?.[1];
  if (image === undefined) misses.push('the digest of its image is not known');
  else if (!imageDigests.includes(image))
    misses.push(`the image has digest ${image}, it wants ${oneOf(imageDigests)}`);
  return misses;
}

function oneOf(values: readonly string[]): string {
  const shown = values.slice(0, 4).join(' or ');
  return values.length > 4 ? `${shown} or ${values.length - 4} more` : shown;
}

/**
 * The first half of a container's ID, by which it is known here: 128 bits that runtimes draw at random. Undefined when it is
 * none of that form.
 */
export function containerIdOf({ containerID }: ContainerFacts): string | undefined {
  return CONTAINER_ID.exec(containerID)?.[1];
}

/** The same of an ID as a cgroup has it. */
export function shortContainerId(id: string): string {
  return id.slice(0, 32);
}

/** Why the selector will match none of the pod's containers, whatever comes. */
export function containerFailure(
  selector: ContainerSelector | undefined,
  pod: PodFacts,
): Failure | undefined {
  const names = selector?.names;
  const { containerNames } = pod;
  if (names === undefined || containerNames === undefined) return undefined;
  if (names.some((name) => containerNames.includes(name))) return undefined;
  return failure(
    'NoSuchContainer',
    `spec.containerSelector.names: the pod has no container ${oneOf(names)}; it has ${oneOf(containerNames)}`,
  );
}

/**
 * The registration for those containers of the pod alone that the selector selects, all of them without one. Which these
 * are is part of its revision; its SVID does not depend on it.
 */
export function ofContainers(
  registration: Registration,
  selector: ContainerSelector | undefined,
  pod: PodFacts,
): Registration {
  const containers = select(selector, pod.containers ?? []);
  const revision = `${registration.revision}${CONTAINERS_MARK}${digest([containers.ids, containers.others])}`;
  return { ...registration, containers, revision };
}

function select(
  selector: ContainerSelector | undefined,
  containers: readonly ContainerFacts[],
): RegistrationContainers {
  const ids: string[] = [];
  const others: string[] = [];
  for (const container of containers) {
    const id = containerIdOf(container);
    if (id === undefined) continue;
    (selector === undefined || containerSelectorMatches(selector, container) ? ids : others).push(id);
  }
  return { ids: ids.sort(), others: others.sort() };
}

/** The revision of what is signed for a registration: that of the registration but for its containers. */
export function svidRevision({ revision }: Registration): string {
  const mark = revision.indexOf(CONTAINERS_MARK);
  return mark < 0 ? revision : revision.slice(0, mark);
}
