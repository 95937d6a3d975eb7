/** The longest value that is compared as a number or an instant, in characters. */
const MAX_TEXT = 1024;

/** A text, number or boolean as the text that policies compare with: numbers and booleans by their JSON text. */
export function scalarText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') return String(value);
  return typeof value === 'number' && Number.isFinite(value) ? JSON.stringify(value) : undefined;
}

// RFC 3339 §5.6; a text without an offset would be read in the machine's zone.
const INSTANT =
  /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/;

/** An RFC 3339 instant in milliseconds since the epoch; undefined when the text is none. */
export function parseInstant(text: string): number | undefined {
  if (text.length > 40 || !INSTANT.test(text)) return undefined;
  const time = Date.parse(text);
  if (Number.isNaN(time)) return undefined;
  // 30 February would silently be 2 March.
  const midnight = Date.parse(`${text.slice(0, 10)}T00:00:00Z`);
  return new Date(midnight).getUTCDate() === Number(text.slice(8, 10)) ? time : undefined;
}

const DECIMAL = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,3}))?$/;

interface Decimal {
  readonly digits: bigint;
  /** The value is `digits` × 10^`exponent`. */
  readonly exponent: number;
}

function parseDecimal(text: string): Decimal | undefined {
  if (text.length > MAX_TEXT) return undefined;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = DECIMAL.exec(text) ?? [];
  if (whole === '') return undefined;
  return { digits: BigInt(`${sign}${whole}${fraction}`), exponent: Number(exponent) - fraction.length };
}

/**
 * The order of two texts that are both decimal numbers, or both instants: negative, 0 or positive; undefined when they
 * have none. Exact: `0.1` and `0.10` are equal, however long they are.
 */
export function compareOrdered(a: string, b: string): number | undefined {
  const left = parseDecimal(a);
  const right = parseDecimal(b);
  if (left !== undefined && right !== undefined) {
    const exponent = Math.min(left.exponent, right.exponent);
    const scaled = (decimal: Decimal): bigint => decimal.digits * 10n ** BigInt(decimal.exponent - exponent);
    const [x, y] = [scaled(left), scaled(right)];
    return x < y ? -1 : x > y ? 1 : 0;
  }
  const from = parseInstant(a);
  const until = parseInstant(b);
  return from === undefined || until === undefined ? undefined : from - until;
}

/** Whether a text is something that has an order. */
export function isOrdered(text: string): boolean {
  return parseDecimal(text) !== undefined || parseInstant(text) !== undefined;
}
