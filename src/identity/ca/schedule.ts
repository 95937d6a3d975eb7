import type { Authority, AuthorityKind, AuthoritySet } from './authority-set.js';
import { AUTHORITY_KINDS, inSlot, isTimely } from './authority-set.js';

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const LONGEST_PREPARE_MS = 30 * DAY_MS;
const LONGEST_ACTIVATE_MS = 7 * DAY_MS;
const LONGEST_GRACE_MS = DAY_MS;

/** What the decisions look at beside the authorities. */
export interface Moment {
  /** Wall time, milliseconds since the epoch. */
  readonly now: number;
  /** For how many milliseconds, on a clock that never jumps, this process has had the authority in its published bundle. */
  publishedForMs(authority: Authority): number;
  /** How long consumers get to take up a new bundle before its new authority signs. */
  readonly publishDelayMs: number;
}

function lifetime(authority: Authority): number {
  return Math.max(0, authority.notAfter - authority.notBefore);
}

/** When the successor is to be prepared: with half of the lifetime left, at most 30 days before the end. */
export function prepareAt(active: Authority): number {
  return active.notAfter - Math.min(lifetime(active) / 2, LONGEST_PREPARE_MS);
}

/** When the successor is to sign: with a sixth of the lifetime left, at most 7 days before the end. */
export function activateAt(active: Authority): number {
  return active.notAfter - Math.min(lifetime(active) / 6, LONGEST_ACTIVATE_MS);
}

/**
 * When an old authority leaves the bundle. Nothing that it signed is valid after its end; the grace after it (a
 * lifetime, at most a day) is for a clock that ran ahead and is set back, so that the jump costs nobody their trust.
 */
export function retireAt(old: Authority): number {
  return old.notAfter + Math.min(lifetime(old), LONGEST_GRACE_MS);
}

/** Whether a new authority of this kind is to be prepared. */
export function shouldPrepare(set: AuthoritySet, kind: AuthorityKind, now: number): boolean {
  if (inSlot(set, kind, 'prepared') !== undefined) return false;
  const active = inSlot(set, kind, 'active');
  // One that is not valid yet is as good as none: the clock went back, perhaps by years.
  return active === undefined || !isTimely(active, now) || now >= prepareAt(active);
}

/** Whether the prepared authority is to be thrown away, because the clock says that it could not sign anything now. */
export function shouldDiscard(set: AuthoritySet, kind: AuthorityKind, now: number): boolean {
  const prepared = inSlot(set, kind, 'prepared');
  return prepared !== undefined && !isTimely(prepared, now);
}

/**
 * Whether the prepared authority is to become active. Without an active one that may sign there is nothing to wait
 * for; else it waits for its turn, and for the consumers' time, which ends at the latest with the active one's life.
 */
export function shouldActivate(set: AuthoritySet, kind: AuthorityKind, moment: Moment): boolean {
  const prepared = inSlot(set, kind, 'prepared');
  if (prepared === undefined || !prepared.published || !isTimely(prepared, moment.now)) return false;
  const active = inSlot(set, kind, 'active');
  if (active === undefined || !isTimely(active, moment.now)) return true;
  return moment.now >= activateAt(active) && moment.publishedForMs(prepared) >= moment.publishDelayMs;
}

/** Whether an old authority leaves the bundle now. */
export function shouldRetire(authority: Authority, now: number): boolean {
  return authority.slot === 'old' && now >= retireAt(authority);
}

/** Milliseconds until one of the decisions above may change by the mere passing of time; Infinity if none will. */
export function nextDecisionIn(set: AuthoritySet, moment: Moment): number {
  const { now } = moment;
  const times: number[] = [];
  for (const kind of AUTHORITY_KINDS) {
    const active = inSlot(set, kind, 'active');
    const prepared = inSlot(set, kind, 'prepared');
    if (prepared !== undefined) {
      times.push(prepared.notAfter);
      times.push(now + moment.publishDelayMs - moment.publishedForMs(prepared));
    }
    if (active !== undefined) times.push(prepareAt(active), activateAt(active), active.notAfter);
  }
  for (const authority of set.authorities) if (authority.slot === 'old') times.push(retireAt(authority));
  return Math.min(Infinity, ...times.filter((time) => time > now).map((time) => time - now));
}
