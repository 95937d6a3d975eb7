/** An IP address: 4 or 16 bytes, most significant first. */
export type IpBytes = readonly number[];

/** The addresses that share a prefix. */
export interface IpBlock {
  /** As written, `10.0.0.0/8`. */
  readonly text: string;
  /** The network address; bits behind the prefix are 0. */
  readonly bytes: IpBytes;
  /** Length of the prefix in bits. */
  readonly prefix: number;
}

/** A block, or what is wrong with the text and what to write. */
export type ParsedBlock =
  | { readonly ok: true; readonly block: IpBlock }
  | { readonly ok: false; readonly message: string; readonly fix: string };

/**
 * The bytes of an IPv4 or IPv6 address; undefined when the text is none. An IPv4 address that is written inside IPv6
 * (`::ffff:10.0.0.1`, RFC 4291 §2.5.5.2) is the IPv4 address, so that no rule about it is passed by.
 */
export function parseIpAddress(text: string): IpBytes | undefined {
  if (!text.includes(':')) return parseV4(text);
  const bytes = parseV6(text);
  return bytes !== undefined && isMapped(bytes) ? bytes.slice(12) : bytes;
}

/** A CIDR block: an address and the length of its prefix. Bits behind the prefix are a mistake. */
export function parseIpBlock(text: string): ParsedBlock {
  const slash = text.indexOf('/');
  const length = text.slice(slash + 1);
  const address = text.slice(0, slash);
  // An address of both kinds at once would make people guess which of the two the prefix counts in.
  const mixed = address.includes(':') && address.includes('.');
  const bytes = address.includes(':') ? parseV6(address) : parseV4(address);
  if (mixed || slash < 0 || bytes === undefined || !/^(0|[1-9][0-9]{0,2})$/.test(length))
    return noBlock(text);
  const prefix = Number(length);
  if (prefix > bytes.length * 8) return noBlock(text);
  const network = bytes.map((byte, index) => byte & byteMask(prefix, index));
  if (network.some((byte, index) => byte !== bytes[index])) {
    return {
      ok: false,
      message: `${JSON.stringify(text)} has bits set behind its prefix: it may not be the block that was meant`,
      fix: `write "${formatIpAddress(network)}/${length}"`,
    };
  }
  if (isMapped(network) && prefix >= 96) {
    return { ok: true, block: { text, bytes: network.slice(12), prefix: prefix - 96 } };
  }
  return { ok: true, block: { text, bytes: network, prefix } };
}

/** Whether a block holds an address. */
export function blockHolds({ bytes, prefix }: IpBlock, address: IpBytes): boolean {
  if (bytes.length !== address.length) return false;
  for (let index = 0; index * 8 < prefix; index++) {
    if (((address[index] ?? 0) & byteMask(prefix, index)) !== bytes[index]) return false;
  }
  return true;
}

export function formatIpAddress(bytes: IpBytes): string {
  if (bytes.length === 4) return bytes.join('.');
  return Array.from({ length: 8 }, (_, index) =>
    (((bytes[index * 2] ?? 0) << 8) | (bytes[index * 2 + 1] ?? 0)).toString(16),
  ).join(':');
}

function noBlock(text: string): ParsedBlock {
  const shown = text.length > 80 ? `${text.slice(0, 77)}…` : text;
  return {
    ok: false,
    message: `${JSON.stringify(shown)} is no CIDR block`,
    fix: 'write an address and the length of its prefix: "10.0.0.0/8", "2001:db8::/32"',
  };
}

/** The bits of one byte that belong to the prefix. */
function byteMask(prefix: number, index: number): number {
  const bits = Math.min(8, Math.max(0, prefix - index * 8));
  return (0xff << (8 - bits)) & 0xff;
}

function isMapped(bytes: IpBytes): boolean {
  return (
    bytes.length === 16 &&
    bytes.slice(0, 10).every((byte) => byte === 0) &&
    bytes[10] === 0xff &&
    bytes[11] === 0xff
  );
}

function parseV4(text: string): IpBytes | undefined {
  const parts = text.split('.');
  // A leading zero is octal to some readers and decimal to others.
  const right = parts.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part) && Number(part) <= 255);
  return parts.length === 4 && right ? parts.map(Number) : undefined;
}

function parseV6(text: string): IpBytes | undefined {
  if (text.length > 45) return undefined;
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [head = '', tail] = halves;
  const left = groups(head, tail === undefined);
  const right = tail === undefined ? [] : groups(tail, true);
  if (left === undefined || right === undefined) return undefined;
  const missing = 16 - left.length - right.length;
  if (tail === undefined ? missing !== 0 : missing < 2) return undefined;
  return [...left, ...Array.from({ length: missing }, () => 0), ...right];
}

/** Bytes of groups of hexadecimal digits; the last one may be an IPv4 address where the address ends. */
function groups(text: string, last: boolean): number[] | undefined {
  if (text === '') return [];
  const bytes: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (last && index === parts.length - 1 && part.includes('.')) {
      const v4 = parseV4(part);
      if (v4 === undefined) return undefined;
      bytes.push(...v4);
      continue;
    }
    if (!/^[0-9A-Fa-f]{1,4}$/.test(part)) return undefined;
    const value = Number.parseInt(part, 16);
    bytes.push(value >> 8, value & 0xff);
  }
  return bytes;
}
