import { SignetError } from './errors.js';

/** A text that is no duration. */
export class DurationError extends SignetError {}

/** Seconds of each unit. */
const UNITS: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, h: 3600 };
const WHOLE = /^(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+$/;
const PART = /([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)/g;
const MAX_LENGTH = 32;
/** A thousand years: beyond that no date can be computed with it. */
const MAX_SECONDS = 1000 * 366 * 86_400;

/**
 * A duration as Go and Kubernetes write it, `1h30m`, `90s`, `1.5h`, `500ms`, in seconds. Never negative; no days,
 * because a day is not always 24 hours to a reader.
 *
 * @throws DurationError `DurationInvalid`
 */
export function parseDuration(text: string): number {
  if (text.length > MAX_LENGTH || !WHOLE.test(text)) {
    const shown = text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text;
    throw new DurationError(
      'DurationInvalid',
      `"${shown}" is no duration; write hours, minutes and seconds: "1h", "30m", "1h30m", "90s"${daysHint(text)}`,
    );
  }
  let milliseconds = 0;
  // Summed in milliseconds, so that whole ones add up without a rest.
  for (const [, amount = '', unit = ''] of text.matchAll(PART)) {
    milliseconds += Math.round(Number(amount) * (UNITS[unit] ?? 0) * 1000);
  }
  if (milliseconds / 1000 > MAX_SECONDS) {
    throw new DurationError(
      'DurationInvalid',
      `"${text}" is longer than a thousand years; write a shorter duration`,
    );
  }
  return milliseconds / 1000;
}

function daysHint(text: string): string {
  const days = /^([0-9]{1,6})d$/.exec(text)?.[1];
  return days === undefined ? '' : ` (${days} days are "${Number(days) * 24}h")`;
}

/** A duration in the form that {@link parseDuration} reads, in the largest units: `1h30m`, `90.5s` as `1m30.5s`. */
export function formatDuration(seconds: number): string {
  const whole = Math.round(Math.max(0, seconds) * 1000);
  const hours = Math.floor(whole / 3_600_000);
  const minutes = Math.floor((whole % 3_600_000) / 60_000);
  const rest = (whole % 60_000) / 1000;
  const parts = [
    hours > 0 ? `${hours}h` : '',
    minutes > 0 ? `${minutes}m` : '',
    rest > 0 || whole === 0 ? `${rest}s` : '',
  ];
  return parts.join('');
}
