import type { Clock } from '../lib/clock.js';

/** What rotation needs to know of an SVID. Times are wall time, in milliseconds since the epoch. */
export interface RotatingSvid {
  readonly notBefore: number;
  readonly notAfter: number;
  /** When this agent got it. */
  readonly receivedAt: number;
  /** The same in monotonic milliseconds. */
  readonly receivedMonotonic: number;
  /** When the server signed it, by its clock. */
  readonly signedAt: number;
  /** From {@link renewalTime}. */
  readonly renewAt: number;
  /** Subject key ID (hex) of the authority that signed it. */
  readonly authorityId: string;
}

/** Why an SVID must be replaced. */
export type RotationReason = 'expired' | 'tainted' | 'clock' | 'due';

/**
 * The longest time, in monotonic milliseconds, between two looks at the wall clock. A timer that waits for a wall time
 * computed once would sleep through a jump of the clock; looking again this often bounds what a jump can cost.
 */
export const LONGEST_LOOK_MS = 30_000;

/** The share of the half-life that is drawn at random, so that SVIDs signed together are not renewed together. */
const JITTER = 0.1;

/**
 * When to renew an SVID: half-way through the life that is left to it on receipt, ± 10 %.
 *
 * From receipt, not from `notBefore`: that one lies in the past by the issuer's cushion, and with a lifetime near the
 * cushion the SVID would be due the moment it came.
 *
 * @param fraction a random number in [0, 1)
 */
export function renewalTime(
  validity: { readonly signedAt: number; readonly notAfter: number },
  receivedAt: number,
  fraction: number,
): number {
  const from = Math.min(Math.max(receivedAt, validity.signedAt), validity.notAfter);
  const half = (validity.notAfter - from) / 2;
  return from + half * (1 - JITTER + 2 * JITTER * fraction);
}

/**
 * The wall time that an SVID is judged by: never earlier than it must be, since the SVID had been signed when it came. So none
 * lives longer than it was made for because the clock of this machine is behind, or was set back.
 */
export function timeFor(
  svid: Pick<RotatingSvid, 'signedAt' | 'receivedMonotonic'>,
  clock: Pick<Clock, 'now' | 'monotonic'>,
): number {
  return Math.max(clock.now(), svid.signedAt + clock.monotonic() - svid.receivedMonotonic);
}

/** When {@link timeFor} reaches the end of the SVID, in monotonic milliseconds, unless the wall clock brings that earlier. */
export function monotonicEnd(
  svid: Pick<RotatingSvid, 'signedAt' | 'notAfter' | 'receivedMonotonic'>,
): number {
  return svid.receivedMonotonic + svid.notAfter - svid.signedAt;
}

/** Whether the SVID is past its end: such a one is never handed out. */
export function isExpired(
  svid: Pick<RotatingSvid, 'signedAt' | 'notAfter' | 'receivedMonotonic'>,
  clock: Pick<Clock, 'now' | 'monotonic'>,
): boolean {
  return timeFor(svid, clock) >= svid.notAfter;
}

/** Whether, and why, the SVID must be replaced now. */
export function rotationReason(
  svid: RotatingSvid,
  clock: Pick<Clock, 'now' | 'monotonic'>,
  tainted: ReadonlySet<string>,
): RotationReason | undefined {
  if (isExpired(svid, clock)) return 'expired';
  if (tainted.has(svid.authorityId)) return 'tainted';
  // The clock was set back since: peers on this machine now see an SVID of the future. One that was so already when it
  // came is the server's clock running ahead; asking again would bring the same.
  if (clock.now() < svid.notBefore && svid.receivedAt >= svid.notBefore) return 'clock';
  return timeFor(svid, clock) >= svid.renewAt ? 'due' : undefined;
}

/**
 * How long to sleep, in milliseconds, before looking at the SVIDs again: until the first is due or expires, which is in
 * `firstMs`, at least `granularityMs` (one look serves all that fall due together), at most {@link LONGEST_LOOK_MS}.
 */
export function lookAgainIn(firstMs: number | undefined, granularityMs: number): number {
  if (firstMs === undefined) return LONGEST_LOOK_MS;
  return Math.min(LONGEST_LOOK_MS, Math.max(granularityMs, firstMs));
}
