import { randomBytes } from 'node:crypto';

/** Randomness, passed in so that tests repeat. */
export interface Random {
  /** `size` cryptographically strong bytes. */
  bytes(size: number): Uint8Array;
  /** A number in [0, 1), for jitter only: never for secrets. */
  fraction(): number;
}

/** The kernel's randomness. */
export const systemRandom: Random = {
  bytes: (size) => randomBytes(size),
  fraction: () => Math.random(),
};
