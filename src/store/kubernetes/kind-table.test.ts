import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { StoreChange } from '../store.js';
import { KindTable } from './kind-table.js';
import { isLater } from './resource-version.js';
import type { ApiObject } from './watch.js';

interface Fields {
  readonly spec?: unknown;
  readonly status?: unknown;
}

function object(name: string, version: number, uid: string, fields: Fields = {}): ApiObject {
  const metadata = { namespace: 'shop', name, uid, generation: 1, resourceVersion: String(version) };
  return { apiVersion: 'signet.dev/v1alpha1', kind: 'Thing', metadata, ...fields };
}

describe('resource versions', () => {
  it('come one after another as numbers do, however long; what is no number is newer than all but itself', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 1n, max: 2n ** 80n }), fc.bigInt({ min: 1n, max: 2n ** 80n }), (a, b) => {
        expect(isLater(String(a), String(b))).toBe(a > b);
      }),
    );
    expect([isLater('x', '1'), isLater('1', 'x'), isLater('x', 'x')]).toEqual([true, true, false]);
  });
});

describe('a table of a kind', () => {
  it('tells exactly what changed: who replays the changes has what there is', () => {
    const name = fc.constantFrom('a', 'b', 'c');
    const spec = fc.integer({ min: 0, max: 2 });
    const step = fc.oneof(
      fc.record({ do: fc.constant('put' as const), name, spec, anew: fc.boolean() }),
      fc.record({ do: fc.constant('remove' as const), name }),
      fc.record({ do: fc.constant('replace' as const), names: fc.subarray(['a', 'b', 'c']), spec }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const table = new KindTable('Thing', true);
        const truth = new Map<string, ApiObject>();
        const replay = new Map<string, StoreChange['after']>();
        let version = 10;
        const next = (key: string, value: number, anew: boolean): ApiObject => {
          const uid = anew ? undefined : truth.get(key)?.metadata.uid;
          return object(key, ++version, uid ?? `uid-${version}`, { spec: value, status: version });
        };
        const take = (changes: readonly StoreChange[]): void => {
          for (const { key, before, after } of changes) {
            expect(replay.get(key)?.metadata.uid).toBe(before?.metadata.uid);
            if (before !== undefined && after !== undefined) {
              expect(after.metadata.uid).toBe(before.metadata.uid);
              // A change of the status alone, which is ours, is no news.
              expect((after as Fields).spec).not.toBe((before as Fields).spec);
            }
            if (after === undefined) replay.delete(key);
            else replay.set(key, after);
          }
        };
        for (const one of steps) {
          if (one.do === 'put') {
            const made = next(one.name, one.spec, one.anew);
            truth.set(one.name, made);
            take(table.put(made));
          } else if (one.do === 'remove') {
            const gone = truth.get(one.name);
            truth.delete(one.name);
            if (gone !== undefined) take(table.remove(gone));
          } else {
            const listed = one.names.map((key): [string, ApiObject] => [key, next(key, one.spec, false)]);
            truth.clear();
            for (const [key, made] of listed) truth.set(key, made);
            take(table.replace([...truth.values()]));
          }
          expect(new Set(table.list())).toEqual(new Set(truth.values()));
          const seen = [...replay.values()].map((one) => [one?.metadata.uid, (one as Fields).spec]);
          const real = [...truth.values()].map((one) => [one.metadata.uid, (one as Fields).spec]);
          expect(new Set(seen.map(String))).toEqual(new Set(real.map(String)));
        }
      }),
      { numRuns: 300 },
    );
  });

  it('knows the status that was written until the watch shows it, and then what the watch shows', () => {
    const table = new KindTable('Thing', true);
    table.put(object('a', 10, 'u', { status: { n: 1 } }));
    table.wrote('shop/a', { n: 2 }, object('a', 12, 'u', { status: { n: 2 } }));
    expect(table.status('shop/a')).toEqual({ n: 2 });
    // What was there before the write comes late.
    table.put(object('a', 11, 'u', { status: { n: 1 } }));
    expect(table.status('shop/a')).toEqual({ n: 2 });
    // Somebody else has written since, and the watch shows that alone (after a new list).
    table.put(object('a', 15, 'u', { status: { n: 9 } }));
    expect(table.status('shop/a')).toEqual({ n: 9 });
  });

  it('does not take its own answer for news when the watch was faster', () => {
    const table = new KindTable('Thing', true);
    table.put(object('a', 10, 'u', { status: { n: 1 } }));
    table.put(object('a', 12, 'u', { status: { n: 2 } }));
    table.put(object('a', 13, 'u', { status: { n: 3 } }));
    table.wrote('shop/a', { n: 2 }, object('a', 12, 'u', { status: { n: 2 } }));
    expect(table.status('shop/a')).toEqual({ n: 3 });
  });

  it('orders answers that come in another order than their writes', () => {
    const table = new KindTable('Thing', true);
    table.put(object('a', 10, 'u'));
    table.wrote('shop/a', { n: 2 }, object('a', 12, 'u', { status: { n: 2 } }));
    table.wrote('shop/a', { n: 1 }, object('a', 11, 'u', { status: { n: 1 } }));
    expect(table.status('shop/a')).toEqual({ n: 2 });
  });

  it('knows that a status which the API server keeps otherwise than given has been given', () => {
    const table = new KindTable('Thing', true);
    table.put(object('a', 10, 'u'));
    // An older CRD drops what it does not know.
    table.wrote('shop/a', { n: 1, added: 2 }, object('a', 11, 'u', { status: { n: 1 } }));
    expect(table.hasStatus('shop/a', { n: 1, added: 2 })).toBe(true);
    expect(table.hasStatus('shop/a', { n: 2, added: 2 })).toBe(false);
    table.put(object('a', 11, 'u', { status: { n: 1 } }));
    expect(table.hasStatus('shop/a', { n: 1, added: 2 })).toBe(true);
    // Somebody has written into it: then it is to be written again.
    table.put(object('a', 12, 'u', { status: { n: 7 } }));
    expect(table.hasStatus('shop/a', { n: 1, added: 2 })).toBe(false);
    // Another object of the same name.
    table.put(object('a', 13, 'v', { status: { n: 1 } }));
    expect(table.hasStatus('shop/a', { n: 1, added: 2 })).toBe(false);
  });

  it('forgets what was written of an object that is gone', () => {
    const table = new KindTable('Thing', true);
    table.put(object('a', 10, 'u'));
    table.wrote('shop/a', { n: 1 }, object('a', 11, 'u', { status: { n: 1 } }));
    table.remove(object('a', 12, 'u'));
    expect(table.status('shop/a')).toBeUndefined();
    table.wrote('shop/a', { n: 1 }, object('a', 11, 'u', { status: { n: 1 } }));
    table.put(object('a', 13, 'v'));
    expect(table.status('shop/a')).toBeUndefined();
  });
});
