import { parseDuration } from '../../lib/duration.js';
import { attributePath } from './attributes.js';
import { compileCel } from './cel.js';
import { claimPath, readClaimName } from './claims.js';
import type {
  AttributeMatch,
  ClaimMatch,
  Conditions,
  PostureMatch,
  TimeWindow,
  TokenMatch,
} from './model.js';
import { readList, readObject, readTexts, readWord, shown, type ProblemReport } from './read.js';
import { isOrdered } from './scalar.js';
import { readSelector } from './selector.js';
import { isTimeZone } from './time-window.js';
import { readOperatorAndValues } from './values.js';

type Fields = Readonly<Record<string, unknown>>;

const KNOWN = [
  'token',
  'during',
  'outside',
  'sourceLabels',
  'targetLabels',
  'sourcePosture',
  'attributes',
  'cel',
];

/** The `when` of a rule; undefined when it has none. */
export function readConditions(value: unknown, field: string, report: ProblemReport): Conditions | undefined {
  if (value === undefined) return undefined;
  const record = readObject(value, field, KNOWN, report);
  if (record === undefined) return undefined;
  if (KNOWN.every((name) => record[name] === undefined)) {
    report.add(field, 'says nothing; leave it out, or say when');
    return undefined;
  }
  const labels = (name: 'sourceLabels' | 'targetLabels'): Pick<Conditions, typeof name> =>
    record[name] === undefined ? {} : { [name]: readSelector(record[name], `${field}.${name}`, report) };
  const token = readToken(record['token'], `${field}.token`, report);
  const during = readWindows(record['during'], `${field}.during`, report);
  const outside = readWindows(record['outside'], `${field}.outside`, report);
  const sourcePosture = readPosture(record['sourcePosture'], `${field}.sourcePosture`, report);
  const attributes = readAttributes(record['attributes'], `${field}.attributes`, report);
  const cel = readCel(record['cel'], `${field}.cel`, report);
  return {
    ...(token === undefined ? {} : { token }),
    ...(during === undefined ? {} : { during }),
    ...(outside === undefined ? {} : { outside }),
    ...labels('sourceLabels'),
    ...labels('targetLabels'),
    ...(sourcePosture === undefined ? {} : { sourcePosture }),
    ...(attributes === undefined ? {} : { attributes }),
    ...(cel === undefined ? {} : { cel }),
  };
}

function readToken(value: unknown, field: string, report: ProblemReport): TokenMatch | undefined {
  if (value === undefined) return undefined;
  const lists = ['issuers', 'audiences', 'subjects', 'amr', 'acr'] as const;
  const record = readObject(value, field, [...lists, 'claims', 'maxAuthAge'], report);
  if (record === undefined) return undefined;
  const texts = lists.map(
    (name) => [name, readTexts(record[name], `${field}.${name}`, report, (text) => text)] as const,
  );
  const claims = readList(record['claims'], `${field}.claims`, report)?.flatMap(
    (entry, index) => readClaim(entry, `${field}.claims[${index}]`, report) ?? [],
  );
  const maxAuthAge = readDuration(record['maxAuthAge'], `${field}.maxAuthAge`, report);
  return {
    ...(Object.fromEntries(texts.filter(([, list]) => list !== undefined)) as TokenMatch),
    ...(claims === undefined ? {} : { claims }),
    ...(maxAuthAge === undefined ? {} : { maxAuthAge }),
  };
}

function readClaim(value: unknown, field: string, report: ProblemReport): ClaimMatch | undefined {
  const record = readObject(value, field, ['claim', 'operator', 'values'], report);
  if (record === undefined) return undefined;
  const name = readClaimName(record['claim'], `${field}.claim`, report);
  const operators = ['In', 'NotIn', 'Exists', 'DoesNotExist', 'ContainsAll'] as const;
  const match = readOperatorAndValues(record, operators, field, report);
  return name === undefined || match === undefined ? undefined : { path: claimPath(name), ...match };
}

/** In milliseconds. */
function readDuration(value: unknown, field: string, report: ProblemReport): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'string') {
    report.add(field, `${shown(value)} is no duration; write "5m", "1h"`);
    return undefined;
  }
  try {
    return parseDuration(value) * 1000;
  } catch (thrown) {
    report.add(field, thrown instanceof Error ? thrown.message : `${shown(value)} is no duration`);
    return undefined;
  }
}

const DAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'] as const;
const EVERY_DAY = [1, 2, 3, 4, 5, 6, 7];

function readWindows(
  value: unknown,
  field: string,
  report: ProblemReport,
): readonly TimeWindow[] | undefined {
  return readList(value, field, report)?.flatMap((entry, index) => {
    const at = `${field}[${index}]`;
    const record = readObject(entry, at, ['days', 'from', 'until', 'timeZone'], report);
    if (record === undefined) return [];
    const list = readList(record['days'], `${at}.days`, report);
    const days = list?.flatMap((day, position) => {
      const word = readWord(day, `${at}.days[${position}]`, DAYS, undefined, report);
      return word === undefined ? [] : [DAYS.indexOf(word) + 1];
    });
    const from = readTimeOfDay(record['from'], `${at}.from`, 1439, report);
    const until = readTimeOfDay(record['until'], `${at}.until`, 1440, report);
    const timeZone = record['timeZone'];
    if (typeof timeZone !== 'string' || !isTimeZone(timeZone)) {
      report.add(
        `${at}.timeZone`,
        `there is no time zone ${shown(timeZone)}; write e.g. Europe/Berlin or UTC`,
      );
      return [];
    }
    return from === undefined || until === undefined
      ? []
      : [{ days: days ?? EVERY_DAY, from, until, timeZone }];
  });
}

/** Minutes since midnight. */
function readTimeOfDay(
  value: unknown,
  field: string,
  most: number,
  report: ProblemReport,
): number | undefined {
  const [, hours, minutes] = (typeof value === 'string' && /^(\d\d):([0-5]\d)$/.exec(value)) || [];
  const minute = Number(hours) * 60 + Number(minutes);
  if (hours !== undefined && minute <= most) return minute;
  report.add(field, `${shown(value)} is no time of day; write hours and minutes: "09:00"`);
  return undefined;
}

function readPosture(value: unknown, field: string, report: ProblemReport): PostureMatch | undefined {
  if (value === undefined) return undefined;
  const record = readObject(value, field, ['imageDigests', 'allowedImages', 'noPrivileged'], report);
  if (record === undefined) return undefined;
  const flag = (name: 'imageDigests' | 'noPrivileged'): PostureMatch => {
    const said = record[name];
    if (said !== undefined && typeof said !== 'boolean') {
      report.add(`${field}.${name}`, `${shown(said)} must be true or false`);
    }
    return said === true ? { [name]: true } : {};
  };
  const allowedImages = readTexts(record['allowedImages'], `${field}.allowedImages`, report, (text) => text);
  return {
    ...flag('imageDigests'),
    ...(allowedImages === undefined ? {} : { allowedImages }),
    ...flag('noPrivileged'),
  };
}

const ORDERS = ['GreaterThan', 'AtLeast', 'LessThan', 'AtMost'] as const;
const ATTRIBUTE_OPERATORS = [
  'In',
  'NotIn',
  'Exists',
  'DoesNotExist',
  'Equals',
  'NotEquals',
  ...ORDERS,
] as const;

function readAttributes(
  value: unknown,
  field: string,
  report: ProblemReport,
): readonly AttributeMatch[] | undefined {
  return readList(value, field, report)?.flatMap((entry, index) => {
    const at = `${field}[${index}]`;
    const record = readObject(entry, at, ['attribute', 'operator', 'values', 'other'], report);
    return record === undefined ? [] : (readAttribute(record, at, report) ?? []);
  });
}

function readAttribute(record: Fields, field: string, report: ProblemReport): AttributeMatch | undefined {
  const path = readAttributePath(record['attribute'], `${field}.attribute`, report);
  const { other: otherText, ...rest } = record;
  if (otherText === undefined) {
    const match = readOperatorAndValues(rest, ATTRIBUTE_OPERATORS, field, report);
    if (path === undefined || match === undefined) return undefined;
    checkComparable(match, field, report);
    return { path, ...match };
  }
  const comparing = ['Equals', 'NotEquals', ...ORDERS] as const;
  // Without an operator it would be In, which compares with values.
  const operator = readWord(record['operator'], `${field}.operator`, comparing, undefined, report);
  if (record['values'] !== undefined)
    report.add(`${field}.values`, 'does not go with other; write one of them');
  const other = readAttributePath(otherText, `${field}.other`, report);
  if (path === undefined || other === undefined || operator === undefined) return undefined;
  return { path, operator, values: [], other };
}

function checkComparable(
  { operator, values }: Pick<AttributeMatch, 'operator' | 'values'>,
  field: string,
  report: ProblemReport,
): void {
  const one = !['In', 'NotIn', 'Exists', 'DoesNotExist'].includes(operator);
  if (one && values.length > 1) {
    report.add(`${field}.values`, `${operator} compares with one value; only In and NotIn take more`);
  }
  const [value] = values;
  if ((ORDERS as readonly string[]).includes(operator) && value !== undefined && !isOrdered(value)) {
    report.add(
      `${field}.values[0]`,
      `${shown(value)} is neither a decimal number nor a time such as 2026-01-31T18:00:00Z`,
    );
  }
}

function readAttributePath(
  value: unknown,
  field: string,
  report: ProblemReport,
): readonly string[] | undefined {
  const path = typeof value === 'string' ? attributePath(value) : undefined;
  if (path === undefined) {
    report.add(
      field,
      `${shown(value)} is no attribute; write "subject.", "resource.", "action." or "environment." and a name`,
    );
  }
  return path;
}

function readCel(value: unknown, field: string, report: ProblemReport): Conditions['cel'] {
  if (value === undefined) return undefined;
  if (typeof value !== 'string') {
    report.add(field, 'must be a text: a CEL expression');
    return undefined;
  }
  const compiled = compileCel(value);
  if (compiled.ok) return compiled.condition;
  report.add(field, `${shown(value)}: ${compiled.message}; ${compiled.fix}`);
  return undefined;
}
