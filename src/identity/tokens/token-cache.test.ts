import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { TokenCache } from './token-cache.js';

describe('the cache of verified tokens', () => {
  it('holds what a plain list of the last uses would hold, never more than its bounds', () => {
    const bounds = { entries: 4, weight: 20 };
    const action = fc.oneof(
      fc.record({
        kind: fc.constant('set'),
        key: fc.nat(7),
        weight: fc.integer({ min: 1, max: 12 }),
      }),
      fc.record({ kind: fc.constantFrom('get', 'delete'), key: fc.nat(7), weight: fc.constant(0) }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const cache = new TokenCache<number>(bounds);
        let model: { key: string; value: number; weight: number }[] = [];
        actions.forEach((step, index) => {
          const key = String(step.key);
          const held = model.find((entry) => entry.key === key);
          const others = model.filter((entry) => entry.key !== key);
          if (step.kind === 'get') {
            expect(cache.get(key)).toBe(held?.value);
            model = held === undefined ? others : [...others, held];
          } else if (step.kind === 'delete') {
            cache.delete(key);
            model = others;
          } else {
            cache.set(key, index, step.weight);
            model = [...others, { key, value: index, weight: step.weight }];
            while (model.length > bounds.entries || weightOf(model) > bounds.weight) model.shift();
          }
          expect([cache.size, cache.weight]).toEqual([model.length, weightOf(model)]);
        });
      }),
    );
  });

  it('holds nothing that is heavier than all it may hold', () => {
    const cache = new TokenCache<string>({ entries: 4, weight: 20 });
    cache.set('a', 'a', 21);
    expect([cache.get('a'), cache.size, cache.weight]).toEqual([undefined, 0, 0]);
  });

  it('drops what is swept', () => {
    const cache = new TokenCache<string>({ entries: 4, weight: 20 });
    for (const name of ['a', 'b', 'c']) cache.set(name, name, 3);
    cache.sweep((value) => value === 'b');
    expect([cache.get('a'), cache.get('b'), cache.get('c'), cache.weight]).toEqual([
      undefined,
      'b',
      undefined,
      3,
    ]);
  });
});

function weightOf(entries: readonly { readonly weight: number }[]): number {
  return entries.reduce((sum, { weight }) => sum + weight, 0);
}
