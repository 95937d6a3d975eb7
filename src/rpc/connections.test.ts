import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { Share } from './connections.js';
import { ConnectionPool } from './connections.js';

describe('ConnectionPool', () => {
  it('keeps every bound and every reserve, whoever comes and goes', () => {
    const limits = { maxConnections: 10, reservedConnectionsPerListener: 2 };
    const step = fc.record({ listener: fc.nat({ max: 4 }), enter: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const pool = new ConnectionPool(limits);
        const shares: Share[] = Array.from({ length: 5 }, (_, index) => ({
          name: `pod/${index}`,
          max: 6,
          count: 0,
        }));
        for (const { listener, enter } of steps) {
          const share = shares[listener];
          if (share === undefined) throw new Error('no share');
          const before = share.count;
          if (enter) {
            const entered = pool.enter(share);
            if (before < limits.reservedConnectionsPerListener) expect(entered).toBe(true);
            expect(share.count).toBe(entered ? before + 1 : before);
          } else if (before > 0) pool.leave(share);
          expect(share.count).toBeLessThanOrEqual(share.max);
          expect(pool.size).toBe(shares.reduce((sum, { count }) => sum + count, 0));
          expect(pool.size).toBeLessThanOrEqual(
            limits.maxConnections + 5 * limits.reservedConnectionsPerListener,
          );
        }
      }),
    );
  });
});
