import type { IpBlock } from '../policy/model.js';

/** All addresses of a block that lie in none of `except`, blocks inside it. */
export interface IpPeer {
  readonly block: IpBlock;
  readonly except: readonly IpBlock[];
}

/** A block without the blocks that are named inside it: to every named block, its addresses are in or out together. */
export interface Region {
  readonly block: IpBlock;
  readonly inner: readonly Region[];
}

const root = (length: 4 | 16): IpBlock => ({
  text: length === 4 ? '0.0.0.0/0' : '::/0',
  bytes: Array.from({ length }, () => 0),
  prefix: 0,
});

/** All addresses, of both kinds. */
export const EVERYWHERE: readonly IpBlock[] = [root(4), root(16)];

/** Whether every address of `inner` lies in `outer`. */
export function coversBlock(outer: IpBlock, inner: IpBlock): boolean {
  if (outer.bytes.length !== inner.bytes.length || outer.prefix > inner.prefix) return false;
  for (let bit = 0; bit < outer.prefix; bit += 8) {
    const mask = (0xff << Math.max(0, 8 - (outer.prefix - bit))) & 0xff;
    const at = bit / 8;
    if (((outer.bytes[at] ?? 0) & mask) !== ((inner.bytes[at] ?? 0) & mask)) return false;
  }
  return true;
}

/** Whether two blocks share no address: of two blocks one holds the other, or they are apart. */
export function disjointBlocks(a: IpBlock, b: IpBlock): boolean {
  return !coversBlock(a, b) && !coversBlock(b, a);
}

/** The address space cut along blocks. Regions are nested as the blocks are; the outermost are all of IPv4 and IPv6. */
export function cutRegions(blocks: readonly IpBlock[]): readonly Region[] {
  const distinct = new Map(blocks.map((block) => [textOf(block), block]));
  for (const all of EVERYWHERE) distinct.set(textOf(all), all);
  const sorted = [...distinct.values()].sort((a, b) => a.prefix - b.prefix);
  const regions: { readonly block: IpBlock; readonly inner: Region[] }[] = [];
  const outermost: Region[] = [];
  for (const block of sorted) {
    const region = { block, inner: [] };
    // The last that covers it is the closest, since prefixes grow.
    const parent = regions.findLast((candidate) => coversBlock(candidate.block, block));
    if (parent === undefined) outermost.push(region);
    else parent.inner.push(region);
    regions.push(region);
  }
  return outermost;
}

/** The regions that are meant, as few peers; what is left out of one that is meant is in its `except`. */
export function peersOfRegions(
  regions: readonly Region[],
  meant: (region: Region) => boolean,
): readonly IpPeer[] {
  return regions.flatMap((region) => {
    if (!meant(region)) return peersOfRegions(region.inner, meant);
    const except: Region[] = [];
    collectHoles(region, meant, except);
    return [
      { block: region.block, except: except.map(({ block }) => block) },
      ...except.flatMap((hole) => peersOfRegions(hole.inner, meant)),
    ];
  });
}

function collectHoles(region: Region, meant: (region: Region) => boolean, holes: Region[]): void {
  for (const inner of region.inner) {
    if (meant(inner)) collectHoles(inner, meant, holes);
    else holes.push(inner);
  }
}

/** Every region, outer ones first. */
export function flattenRegions(regions: readonly Region[]): readonly Region[] {
  return regions.flatMap((region) => [region, ...flattenRegions(region.inner)]);
}

/** The canonical text of a block, as Kubernetes wants it (RFC 5952 for IPv6). */
export function textOf({ bytes, prefix }: IpBlock): string {
  if (bytes.length === 4) return `${bytes.join('.')}/${prefix}`;
  const groups = Array.from(
    { length: 8 },
    (_, index) => ((bytes[2 * index] ?? 0) << 8) | (bytes[2 * index + 1] ?? 0),
  );
  const texts = groups.map((group) => group.toString(16)).join(':');
  // The longest run of zeros, the first of equal ones, is left out.
  const runs = [...texts.matchAll(/(?<![0-9a-f])0(?::0)+(?![0-9a-f])/g)];
  const longest = runs.reduce<RegExpExecArray | undefined>(
    (best, run) => (best === undefined || run[0].length > best[0].length ? run : best),
    undefined,
  );
  if (longest === undefined) return `${texts}/${prefix}`;
  const before = texts.slice(0, longest.index).replace(/:$/, '');
  const after = texts.slice(longest.index + longest[0].length).replace(/^:/, '');
  return `${before}::${after}/${prefix}`;
}
