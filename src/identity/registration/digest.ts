import { hash } from 'node:crypto';

/** 96 bits of SHA-256 over plain values, as text: the same in every process. */
export function digest(values: readonly unknown[]): string {
  return hash('sha256', JSON.stringify(values), 'buffer').toString('base64url', 0, 12);
}
