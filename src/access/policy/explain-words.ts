import type { LabelRequirement, TimeWindow } from './model.js';

/** The longest text of a request or policy that is shown, in characters. */
const MAX_SHOWN = 200;

/** A text that may come from anywhere, short and on one line. */
export function shortened(text: string): string {
  const safe = text.slice(0, MAX_SHOWN).replaceAll(/\p{C}/gu, '\uFFFD');
  return text.length > MAX_SHOWN ? `${safe}…` : safe;
}

/** Requirements of labels as kubectl writes them. */
export function requirementsInWords(requirements: readonly LabelRequirement[]): string {
  return requirements
    .map((requirement) => {
      const { key } = requirement;
      switch (requirement.kind) {
        case 'in':
          return `${key} in (${[...requirement.values].join(', ')})`;
        case 'notIn':
          return `${key} notin (${[...requirement.values].join(', ')})`;
        case 'exists':
          return key;
        case 'absent':
          return `!${key}`;
      }
    })
    .join(', ');
}

const DAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];

/** `Mon, Tue 09:00–17:00 Europe/Berlin`. */
export function windowInWords({ days, from, until, timeZone }: TimeWindow): string {
  const clock = (minute: number): string =>
    `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;
  const which = days.length === 7 ? '' : `${days.map((day) => DAYS[day - 1]).join(', ')} `;
  return `${which}${clock(from)}–${clock(until)} ${timeZone}`;
}
