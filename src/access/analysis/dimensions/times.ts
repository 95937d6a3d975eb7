import type { Policy, Rule, TimeWindow } from '../../policy/model.js';
import { holdsAt, timeHolds } from '../../policy/effective.js';
import { isOpen, type ZoneClock } from '../../policy/time-window.js';

const MINUTE = 60_000;
const DAY = 1440 * MINUTE;
const WEEK = 7 * DAY;
/** Clocks of zones move against each other within a year, the same way every year. */
const HORIZON = 55 * WEEK;
/** More instants than this are not looked at; a set of windows needs some thousand. */
const MAX_INSTANTS = 200_000;

/** An instant of each stretch of time that validities and windows tell apart. */
export interface TimeClass {
  readonly time: number;
  readonly words: string;
}

/**
 * Every combination of validities and windows that comes up at `from` or later, with its first instant. Windows recur
 * every week, and clocks of zones move against each other by the same rules every year; so after each instant at which a
 * validity begins or ends, a good year is looked at where there are windows.
 */
export function timeClasses(
  policies: readonly Policy[],
  from: number,
  clock: ZoneClock,
): readonly TimeClass[] {
  const borders = new Set([from]);
  for (const { validity } of policies) {
    for (const border of [validity?.from, validity?.until]) {
      if (border !== undefined && border > from) borders.add(border);
    }
  }
  const windows = distinctWindows(policies.flatMap(({ rules }) => rules));
  const sorted = [...borders].sort((a, b) => a - b);
  const found = new Map<string, TimeClass>();
  const open = new Map<number, string>();
  for (const [index, start] of sorted.entries()) {
    const end = Math.min(sorted[index + 1] ?? Infinity, start + HORIZON);
    for (const time of instants(windows, start, end, clock)) {
      let state = open.get(time);
      if (state === undefined) {
        state = windows.map((window) => (isOpen(window, time, clock) ? '1' : '0')).join('');
        open.set(time, state);
      }
      const key = `${index} ${state}`;
      if (!found.has(key)) found.set(key, { time, words: `at ${new Date(time).toISOString()}` });
    }
  }
  return [...found.values()];
}

/** Whether the rules of a policy hold at an instant, and whether those conditions of a rule that are about time do. */
export function ruleHoldsAt(policy: Policy, rule: Rule, time: number, clock: ZoneClock): boolean {
  return holdsAt(policy, time) && timeHolds(rule.when, time, clock);
}

function distinctWindows(rules: readonly Rule[]): readonly TimeWindow[] {
  const windows = new Map<string, TimeWindow>();
  for (const { when } of rules) {
    for (const window of [...(when?.during ?? []), ...(when?.outside ?? [])]) {
      windows.set(JSON.stringify([window.days, window.from, window.until, window.timeZone]), window);
    }
  }
  return [...windows.values()];
}

/** `start`, and where windows may open or close until `end`: in weeks in which clocks stand as in no week before. */
function instants(
  windows: readonly TimeWindow[],
  start: number,
  end: number,
  clock: ZoneClock,
): readonly number[] {
  const zones = [...new Set(windows.map(({ timeZone }) => timeZone))];
  if (zones.length === 0) return [start];
  const times = new Set([start]);
  const seenWeeks = new Set<string>();
  for (let week = start; week < end; week += WEEK) {
    const offsets = Array.from({ length: 8 }, (_, day) =>
      zones.map((zone) => offset(zone, week + day * DAY, clock)).join(','),
    );
    const key = offsets.join(';');
    if (seenWeeks.has(key)) continue;
    seenWeeks.add(key);
    for (const window of windows) addChanges(window, [week, Math.min(end, week + WEEK + DAY)], clock, times);
    if (times.size > MAX_INSTANTS) break;
  }
  return [...times].sort((a, b) => a - b);
}

/** Instants at which a window may open or close, whatever its days: half an hour apart at most around moved clocks. */
function addChanges(
  { from, until, timeZone }: TimeWindow,
  [start, end]: readonly [number, number],
  clock: ZoneClock,
  times: Set<number>,
): void {
  let at = Math.ceil(start / MINUTE) * MINUTE;
  while (at < end) {
    const { minute } = clock.local(timeZone, at);
    if (minute === from || minute === until % 1440 || minute === 0) times.add(at);
    const next = [from, until, 1440]
      .map((boundary) => (boundary > minute ? boundary - minute : boundary + 1440 - minute))
      .reduce((a, b) => Math.min(a, b));
    // Never more than to the next full hour, since that is when clocks are changed; that hour itself may be a border.
    const step = Math.min(next, 60 - (minute % 60));
    const before = clock.local(timeZone, at + step * MINUTE).minute;
    if (before !== (minute + step) % 1440) times.add(at + step * MINUTE);
    at += step * MINUTE;
  }
}

/** What a zone's clock shows against UTC, in minutes of the day. */
function offset(zone: string, time: number, clock: ZoneClock): number {
  const utc = Math.floor(time / MINUTE) % 1440;
  return (clock.local(zone, time).minute - utc + 1440) % 1440;
}
