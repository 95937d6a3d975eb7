import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { compare, disputes, type Seen } from '../support/reference/comparison.js';
import { proof, proofRuns } from '../support/policies.js';

/*
 * The evaluator is the oracle of every renderer's proof; this is its own. SIGNET_PROOF_RUNS=25000 compares a million
 * pairs of a policy set and a request.
 */

const REQUESTS = 40;

describe('the evaluator and the reference that is written from the words of the language', () => {
  it('give one answer', () => {
    const seen: Seen = { asked: 0, by: new Map() };
    const runs = proofRuns(150);
    fc.assert(
      fc.property(disputes(REQUESTS), (dispute) => {
        compare(dispute, seen);
      }),
      proof(150),
    );
    expect(seen.asked).toBe(runs * REQUESTS);
    for (const by of ['allow', 'deny', 'closed', 'default', 'request'] as const) {
      expect((seen.by.get(by) ?? 0) / seen.asked).toBeGreaterThan(0.02);
    }
  }, 1_800_000);
});
