import type { Registration } from '../../identity/registration/registration.js';
import type { VolumeSettings } from '../csi/settings.js';
import type { Identity, SubjectView } from '../views.js';
import { hintDirectory, takenNames } from './plan.js';

/** An identity of the pod that gets files. */
export interface Chosen {
  /** Empty: the volume itself. */
  readonly directory: string;
  readonly registration: Registration;
  /** Absent while there is no SVID. */
  readonly identity: Identity | undefined;
  /** Asked for by name, or the one that the volume itself is of: without it the volume is not whole. */
  readonly required: boolean;
}

/** Whose files belong in a volume now. */
export interface Selection {
  readonly chosen: readonly Chosen[];
  /** What is asked for and not registered, for people. */
  readonly absent: readonly string[];
  /** Hints whose directory would have the name of something else. Only where all hints are asked for. */
  readonly clashing: readonly string[];
}

/** The identities that the settings ask for, of those that the pod has. */
export function select(view: SubjectView, settings: VolumeSettings): Selection {
  const { registrations, identities } = view;
  const chosen: Chosen[] = [];
  const absent: string[] = [];
  const clashing: string[] = [];
  const choose = (directory: string, registration: Registration, required: boolean): void => {
    const identity = identities.find((one) => one.registration === registration);
    chosen.push({ directory, registration, identity, required });
  };
  const byHint = (hint: string): Registration | undefined => registrations.find((one) => one.hint === hint);

  // The default is the first of those that are registered, signed or not: files must not change over to a lesser one
  // because the server is slow.
  const main = settings.hint === undefined ? registrations[0] : byHint(settings.hint);
  if (main === undefined) absent.push(settings.hint === undefined ? 'an identity' : hinted(settings.hint));
  else choose('', main, true);

  if (settings.hints === '*') {
    const taken = takenNames(settings);
    for (const registration of registrations) {
      if (registration.hint === '') continue;
      if (taken.has(hintDirectory(registration.hint))) clashing.push(registration.hint);
      else choose(hintDirectory(registration.hint), registration, false);
    }
  } else
    for (const hint of settings.hints) {
      const registration = byHint(hint);
      if (registration === undefined) absent.push(hinted(hint));
      else choose(hintDirectory(hint), registration, true);
    }
  return { chosen, absent, clashing };
}

function hinted(hint: string): string {
  return `an identity with hint ${JSON.stringify(hint)}`;
}
