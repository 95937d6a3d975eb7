import type { Registration } from '../../../identity/registration/registration.js';
import type { Watched } from '../../../lib/watched.js';
import type { NodeChange, RegistrationView } from '../../registrations.js';
import { revokedText, type Revocations } from './revocations.js';

/**
 * The registrations without those that are revoked: nothing is signed for these, and agents drop what they hold for them
 * as for one that is gone. When a revocation ends or is deleted, they come back.
 */
export function trustedRegistrations(
  all: RegistrationView,
  inForce: Watched<Revocations>,
  registrationsOf: (podUid: string) => readonly Registration[],
): RegistrationView {
  const isTrusted = (registration: Registration): boolean => inForce.value.of(registration) === undefined;
  return {
    ready: all.ready,
    get(id) {
      const registration = all.get(id);
      return registration !== undefined && isTrusted(registration) ? registration : undefined;
    },
    forNode: (nodeName) => all.forNode(nodeName).filter(isTrusted),
    watch(nodeName, onChange) {
      let before = inForce.value;
      const endAll = all.watch(nodeName, ({ changed, removed }) => {
        const revoked = changed.filter((registration) => !isTrusted(registration));
        onChange({
          changed: changed.filter(isTrusted),
          removed: [...removed, ...revoked.map(({ id }) => id)],
        });
      });
      const endRevocations = inForce.watch((now) => {
        const change = differenceOf(all.forNode(nodeName), before, now);
        before = now;
        if (change.changed.length > 0 || change.removed.length > 0) onChange(change);
      });
      return () => {
        endAll();
        endRevocations();
      };
    },
    explainPod(uid, nodeName, container) {
      const [first, ...more] = registrationsOf(uid).filter(
        (one) => nodeName === undefined || one.nodeName === nodeName,
      );
      const revocation = first === undefined ? undefined : inForce.value.of(first);
      // One that is not revoked is served.
      if (first === undefined || revocation === undefined || more.some(isTrusted))
        return all.explainPod(uid, nodeName, container);
      return `${first.spiffeId.uri}: ${revokedText(revocation)}`.slice(0, 1000);
    },
    explainProcess: (facts) => all.explainProcess(facts),
  };
}

function differenceOf(
  registrations: readonly Registration[],
  before: Revocations,
  now: Revocations,
): NodeChange {
  const changed: Registration[] = [];
  const removed: string[] = [];
  for (const registration of registrations) {
    const [was, is] = [before.of(registration), now.of(registration)];
    if (was === undefined && is !== undefined) removed.push(registration.id);
    if (was !== undefined && is === undefined) changed.push(registration);
  }
  return { changed, removed };
}
