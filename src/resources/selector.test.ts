import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { LabelSelector, LabelSelectorRequirement } from './meta.js';
import { labelSelectorMatches, labelSelectorProblem } from './selector.js';

const key = fc.constantFrom('app', 'tier', 'toString', '__proto__');
const value = fc.constantFrom('a', 'b', '');
const labels = fc.array(fc.tuple(key, value)).map((pairs) => {
  const map: Record<string, string> = {};
  for (const [name, text] of pairs) {
    Object.defineProperty(map, name, { value: text, enumerable: true, writable: true, configurable: true });
  }
  return map;
});
const requirement = fc.oneof(
  fc.record({
    key,
    operator: fc.constantFrom('In' as const, 'NotIn' as const),
    values: fc.array(value, { minLength: 1 }),
  }),
  fc.record({ key, operator: fc.constantFrom('Exists' as const, 'DoesNotExist' as const) }),
);

describe('labelSelectorMatches', () => {
  it('selects everything when it says nothing', () => {
    expect(labelSelectorMatches({}, {})).toBe(true);
    expect(labelSelectorMatches({ matchLabels: {}, matchExpressions: [] }, { a: 'b' })).toBe(true);
  });

  it('wants every label, and nothing of the prototype', () => {
    expect(labelSelectorMatches({ matchLabels: { app: 'a' } }, { app: 'a', tier: 'x' })).toBe(true);
    expect(labelSelectorMatches({ matchLabels: { app: 'a', tier: 'x' } }, { app: 'a' })).toBe(false);
    expect(labelSelectorMatches({ matchExpressions: [{ key: 'toString', operator: 'Exists' }] }, {})).toBe(
      false,
    );
  });

  it('selects nothing by an operator that it does not know', () => {
    const selector = { matchExpressions: [{ key: 'app', operator: 'Near' }] } as unknown as LabelSelector;
    expect(labelSelectorMatches(selector, { app: 'a' })).toBe(false);
    expect(labelSelectorProblem(selector)).toContain('Near');
  });

  it('answers NotIn as not In, DoesNotExist as not Exists, and matchLabels as In', () => {
    const one = (r: LabelSelectorRequirement, l: Record<string, string>): boolean =>
      labelSelectorMatches({ matchExpressions: [r] }, l);
    fc.assert(
      fc.property(key, fc.array(value, { minLength: 1 }), labels, (name, values, map) => {
        expect(one({ key: name, operator: 'NotIn', values }, map)).toBe(
          !one({ key: name, operator: 'In', values }, map),
        );
        expect(one({ key: name, operator: 'DoesNotExist' }, map)).toBe(
          !one({ key: name, operator: 'Exists' }, map),
        );
        const wanted = values.slice(0, 1);
        expect(one({ key: name, operator: 'In', values: wanted }, map)).toBe(
          Object.hasOwn(map, name) && map[name] === wanted[0],
        );
      }),
    );
  });

  it('holds for all requirements exactly when it holds for each', () => {
    fc.assert(
      fc.property(fc.array(requirement), labels, (requirements, map) => {
        const each = requirements.every((r) => labelSelectorMatches({ matchExpressions: [r] }, map));
        expect(labelSelectorMatches({ matchExpressions: requirements }, map)).toBe(each);
      }),
    );
  });
});

describe('labelSelectorProblem', () => {
  it.each<[LabelSelector, RegExp]>([
    [{ matchLabels: { 'a b': 'c' } }, /no label key/],
    [{ matchLabels: { a: 'b c' } }, /no label value/],
    [{ matchExpressions: [{ key: 'a', operator: 'In' }] }, /needs values/],
    [{ matchExpressions: [{ key: 'a', operator: 'NotIn', values: [] }] }, /needs values/],
    [{ matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] }, /takes no values/],
    [{ matchExpressions: [{ key: 'a', operator: 'In', values: ['b c'] }] }, /no label value/],
  ])('finds what is wrong with %j', (selector, message) => {
    expect(labelSelectorProblem(selector)).toMatch(message);
  });

  it('finds nothing wrong with a right one', () => {
    const selector: LabelSelector = {
      matchLabels: { 'app.kubernetes.io/name': 'web', empty: '' },
      matchExpressions: [{ key: 'tier', operator: 'In', values: ['a'] }],
    };
    expect(labelSelectorProblem(selector)).toBeUndefined();
  });
});
