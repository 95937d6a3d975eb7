import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { compare, disputes, type Seen } from '../../../test/support/reference/comparison.js';

/*
 * The evaluator against a slow one that is written from the resource's text: no compiling, no index, no ranks. The long
 * run is test/proof/evaluator.test.ts.
 */

describe('the evaluator', () => {
  it('answers as the slow, obvious one does, for the same kind of reason', () => {
    const seen: Seen = { asked: 0, by: new Map() };
    fc.assert(
      fc.property(disputes(12), (dispute) => {
        compare(dispute, seen);
      }),
      { numRuns: 2000 },
    );
    // Every way to decide must be common, or the comparison proves little.
    for (const by of ['allow', 'deny', 'closed', 'default', 'request'] as const) {
      expect((seen.by.get(by) ?? 0) / seen.asked).toBeGreaterThan(0.02);
    }
    expect((seen.by.get('allow') ?? 0) / seen.asked).toBeGreaterThan(0.1);
  });
});
