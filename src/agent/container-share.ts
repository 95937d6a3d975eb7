import { shortContainerId } from '../identity/registration/containers.js';
import type { Registration } from '../identity/registration/registration.js';

/** What a caller gets of the registrations of its pod. */
export interface ContainerShare {
  /** Those for the whole pod, and those for the caller's container, in order. */
  readonly given: readonly Registration[];
  /** Whether some of the others may turn out to be the caller's: nothing is known of its container yet. */
  readonly awaited: boolean;
}

/**
 * Shares the registrations of a pod out to a caller in one of its containers (an ID), or in one that is not told: a pod's own
 * socket cannot, and then what is for single containers is given to nobody.
 */
export function shareOf(
  registrations: readonly Registration[],
  container: string | undefined,
): ContainerShare {
  if (registrations.every(({ containers }) => containers === undefined))
    return { given: registrations, awaited: false };
  const given: Registration[] = [];
  const id = container === undefined ? undefined : shortContainerId(container);
  let isKnown = false;
  for (const registration of registrations) {
    const { containers } = registration;
    const isOf = containers === undefined || (id !== undefined && containers.ids.includes(id));
    if (isOf) given.push(registration);
    if (containers !== undefined && id !== undefined) isKnown ||= isOf || containers.others.includes(id);
  }
  return { given, awaited: id !== undefined && given.length < registrations.length && !isKnown };
}
