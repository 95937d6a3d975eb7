import type { TimeWindow } from './model.js';

const MINUTE = 60_000;
const DAY_MINUTES = 1440;
const HORIZON = 8 * DAY_MINUTES;

interface LocalTime {
  /** 1 (Monday) to 7 (Sunday). */
  readonly day: number;
  /** Minutes since midnight. */
  readonly minute: number;
}

const WEEKDAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];

/** Whether there is a time zone of this name. */
export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** Reads clocks of time zones, each at most once a minute. Makes one formatter per zone: they are dear to make and cheap to use. */
export class ZoneClock {
  readonly #formats = new Map<string, Intl.DateTimeFormat>();
  readonly #last = new Map<string, { readonly minute: number; readonly local: LocalTime }>();

  /** What the clock of a zone shows; `time` in milliseconds since the epoch. */
  local(zone: string, time: number): LocalTime {
    const minute = Math.floor(time / MINUTE);
    const last = this.#last.get(zone);
    if (last?.minute === minute) return last.local;
    const parts: Record<string, string> = {};
    for (const { type, value } of this.#format(zone).formatToParts(minute * MINUTE)) parts[type] = value;
    const local = {
      day: WEEKDAYS.indexOf(parts['weekday'] ?? '') + 1,
      minute: Number(parts['hour']) * 60 + Number(parts['minute']),
    };
    this.#last.set(zone, { minute, local });
    return local;
  }

  #format(zone: string): Intl.DateTimeFormat {
    let format = this.#formats.get(zone);
    if (format === undefined) {
      format = new Intl.DateTimeFormat('en-US', {
        timeZone: zone,
        weekday: 'short',
        hour: '2-digit',
        minute: '2-digit',
        hourCycle: 'h23',
      });
      this.#formats.set(zone, format);
    }
    return format;
  }
}

/** Whether a window is open at an instant. */
export function isOpen(window: TimeWindow, time: number, clock: ZoneClock): boolean {
  const { day, minute } = clock.local(window.timeZone, time);
  const { days, from, until } = window;
  if (from < until) return minute >= from && minute < until && days.includes(day);
  // Over midnight: the evening belongs to a day on which it opens, the morning to the day after one.
  const yesterday = day === 1 ? 7 : day - 1;
  return (minute >= from && days.includes(day)) || (minute < until && days.includes(yesterday));
}

/**
 * The next instant, after `time`, at which a window opens or closes; undefined when it never does. Clocks that are put
 * forward or back are taken into account.
 */
export function nextChange(window: TimeWindow, time: number, clock: ZoneClock): number | undefined {
  const now = isOpen(window, time, clock);
  let low = Math.floor(time / MINUTE);
  const end = low + HORIZON;
  while (low < end) {
    const { minute } = clock.local(window.timeZone, low * MINUTE);
    // Never more than to the next full hour, since that is when clocks are changed.
    const toBoundary = [window.from, window.until]
      .map((boundary) => boundary - minute)
      .filter((distance) => distance > 0);
    const high = low + Math.min(...toBoundary, 60 - (minute % 60));
    if (isOpen(window, high * MINUTE, clock) !== now) return between(window, [low, high], now, clock);
    low = high;
  }
  return undefined;
}

function between(
  window: TimeWindow,
  [from, to]: readonly [number, number],
  now: boolean,
  clock: ZoneClock,
): number {
  let low = from;
  let high = to;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (isOpen(window, middle * MINUTE, clock) === now) low = middle;
    else high = middle;
  }
  return high * MINUTE;
}
