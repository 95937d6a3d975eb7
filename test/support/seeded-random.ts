import type { Random } from '../../src/lib/random.js';

/** Randomness that repeats (mulberry32): for tests only. */
export function seededRandom(seed = 1): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    bytes: (size) => Uint8Array.from({ length: size }, () => Math.floor(next() * 256)),
    fraction: next,
  };
}
