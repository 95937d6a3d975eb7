import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { BodyBudget, type BodyAccount } from './body-budget.js';

describe('what request bodies take together', () => {
  it('is never more than the bound, nor half of it for one peer, and all is given back', () => {
    const step = fc.record({
      peer: fc.constantFrom('a', 'b', 'c'),
      bytes: fc.integer({ min: 1, max: 60 }),
      close: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const budget = new BodyBudget(100);
        const open: { readonly peer: string; readonly account: BodyAccount; bytes: number }[] = [];
        const held = (of: readonly { readonly bytes: number }[]): number =>
          of.reduce((sum, { bytes }) => sum + bytes, 0);
        for (const { peer, bytes, close } of steps) {
          const account = budget.open(peer);
          const before = held(open);
          const ofPeer = held(open.filter((one) => one.peer === peer));
          const taken = account.take(bytes);
          expect(taken).toBe(before + bytes <= 100 && ofPeer + bytes <= 50);
          open.push({ peer, account, bytes: taken ? bytes : 0 });
          expect(budget.taken).toBe(held(open));
          if (close) open.shift()?.account.close();
        }
        for (const { account } of open) {
          account.close();
          account.close();
          expect(account.take(1)).toBe(false);
        }
        expect(budget.taken).toBe(0);
      }),
    );
  });
});
