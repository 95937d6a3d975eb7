import { quote } from './names.js';

/** What is wrong with a CIDR block, and what to write; undefined when it is one. */
export function cidrProblem(text: string): { readonly message: string; readonly fix: string } | undefined {
  const slash = text.indexOf('/');
  const address = text.slice(0, slash);
  const length = text.slice(slash + 1);
  const bits = parseAddress(address);
  if (
    slash < 0 ||
    bits === undefined ||
    !/^(0|[1-9][0-9]{0,2})$/.test(length) ||
    Number(length) > bits.width
  ) {
    return {
      message: `${quote(text)} is no CIDR block`,
      fix: 'write an address and the length of its prefix: "10.0.0.0/8", "2001:db8::/32"',
    };
  }
  const host = BigInt(bits.width - Number(length));
  const network = (bits.value >> host) << host;
  if (network !== bits.value) {
    return {
      message: `${quote(text)} has bits set behind its prefix: it may not be the block that was meant`,
      fix: `write ${quote(`${formatAddress(network, bits.width)}/${length}`)}`,
    };
  }
  return undefined;
}

interface Address {
  readonly value: bigint;
  readonly width: 32 | 128;
}

function parseAddress(text: string): Address | undefined {
  return text.includes(':') ? parseV6(text) : parseV4(text);
}

function parseV4(text: string): Address | undefined {
  const parts = text.split('.');
  // A leading zero is octal to some readers and decimal to others.
  if (
    parts.length !== 4 ||
    !parts.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part) && Number(part) <= 255)
  ) {
    return undefined;
  }
  return { value: parts.reduce((value, part) => (value << 8n) | BigInt(part), 0n), width: 32 };
}

function parseV6(text: string): Address | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [head = '', tail] = halves;
  const left = groups(head);
  const right = tail === undefined ? [] : groups(tail);
  if (left === undefined || right === undefined) return undefined;
  const missing = 8 - left.length - right.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  const all = [...left, ...Array.from({ length: missing }, () => 0), ...right];
  return { value: all.reduce((value, group) => (value << 16n) | BigInt(group), 0n), width: 128 };
}

function groups(text: string): number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  if (!parts.every((part) => /^[0-9A-Fa-f]{1,4}$/.test(part))) return undefined;
  return parts.map((part) => Number.parseInt(part, 16));
}

function formatAddress(value: bigint, width: 32 | 128): string {
  const [size, count, base, mark] = width === 32 ? ([8n, 4, 10, '.'] as const) : ([16n, 8, 16, ':'] as const);
  const parts = Array.from({ length: count }, (_, index) => {
    const shift = size * BigInt(count - 1 - index);
    return ((value >> shift) & ((1n << size) - 1n)).toString(base);
  });
  return parts.join(mark);
}
