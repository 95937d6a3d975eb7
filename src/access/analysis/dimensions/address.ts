import type { IpBlock } from '../../policy/model.js';
import type { Dimension, Leaf, Space, ValueClass } from '../space.js';

/** Where a request comes from: one address for every set of blocks that hold one, and none known. */
export interface AddressDimension {
  readonly dimension: Dimension;
  inBlocks(blocks: readonly IpBlock[]): Leaf;
}

interface Address {
  /** 4 or 16 bytes as a number. */
  readonly value: bigint;
  readonly bytes: 4 | 16;
}

// ::ffff:0:0/96 are IPv4 addresses, so no IPv6 witness may lie there.
const MAPPED_FROM = 0xffff_0000_0000n;
const MAPPED_END = 0x1_0000_0000_0000n;

export function addressDimension(space: Space, blocks: readonly IpBlock[]): AddressDimension {
  const distinct = [...new Map(blocks.map((block) => [block.text, block])).values()];
  const addresses = new Map<string, Address>();
  for (const address of [...representatives(distinct, 4), ...representatives(distinct, 16)]) {
    const key = distinct.map((block) => (holds(block, address) ? '1' : '0')).join('');
    if (!addresses.has(key)) addresses.set(key, address);
  }
  const known = [...addresses.values()];
  const dimension = space.add('address', 'source address', [
    ...known.map((address): ValueClass => {
      const text = addressText(address);
      const around = distinct.filter((block) => holds(block, address));
      const narrowest = around.reduce<IpBlock | undefined>(
        (best, block) => (best === undefined || block.prefix > best.prefix ? block : best),
        undefined,
      );
      return {
        words: narrowest === undefined ? 'outside the named blocks' : `in ${narrowest.text}`,
        ...(narrowest === undefined ? { rest: true } : {}),
        put: (draft) => void (draft.sourceIp = text),
      };
    }),
    { words: 'not known', unseen: true, odd: 1, put: (draft) => void (draft.sourceIp = undefined) },
  ]);
  return {
    dimension,
    inBlocks(asked) {
      const inside = space.known(dimension, (index) => {
        const address = known[index];
        return address !== undefined && asked.some((block) => holds(block, address));
      });
      return space.onlyWhere(
        space.where(dimension, (index) => index < known.length),
        inside,
      );
    },
  };
}

/** One address of every stretch between the borders of blocks. */
function representatives(blocks: readonly IpBlock[], bytes: 4 | 16): readonly Address[] {
  const bits = BigInt(bytes * 8);
  const end = 1n << bits;
  const borders = new Set<bigint>([0n]);
  if (bytes === 16) borders.add(MAPPED_FROM).add(MAPPED_END);
  for (const block of blocks) {
    if (block.bytes.length !== bytes) continue;
    const from = toNumber(block.bytes);
    borders.add(from);
    borders.add(from + (1n << (bits - BigInt(block.prefix))));
  }
  const sorted = [...borders].filter((border) => border < end).sort((a, b) => (a < b ? -1 : 1));
  return sorted.flatMap((from, index): readonly Address[] => {
    if (bytes === 16 && from >= MAPPED_FROM && from < MAPPED_END) return [];
    const next = sorted[index + 1] ?? end;
    // Not the first address where there is another: that of a network looks odd as a caller's.
    return [{ value: next - from > 1n ? from + 1n : from, bytes }];
  });
}

function holds(block: IpBlock, { value, bytes }: Address): boolean {
  if (block.bytes.length !== bytes) return false;
  const shift = BigInt(bytes * 8 - block.prefix);
  return value >> shift === toNumber(block.bytes) >> shift;
}

function toNumber(bytes: readonly number[]): bigint {
  return bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

function addressText({ value, bytes }: Address): string {
  const part = (width: bigint, index: number, count: number): bigint =>
    (value >> (width * BigInt(count - 1 - index))) & ((1n << width) - 1n);
  if (bytes === 4) return Array.from({ length: 4 }, (_, index) => part(8n, index, 4)).join('.');
  return Array.from({ length: 8 }, (_, index) => part(16n, index, 8).toString(16)).join(':');
}
