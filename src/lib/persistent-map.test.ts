import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { PersistentMap } from './persistent-map.js';

const keys = Array.from({ length: 300 }, (_, index) => `key-${index}`);

describe('a persistent map', () => {
  it('is as a Map is after every change, and so is each one before', () => {
    const change = fc.record({
      key: fc.constantFrom(...keys),
      value: fc.option(fc.nat(), { nil: undefined }),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.constantFrom(...keys)),
        fc.array(change, { minLength: 1, maxLength: 300 }),
        (first, changes) => {
          const model = new Map(first.map((key, index) => [key, index]));
          let map = PersistentMap.from(model);
          const versions: [PersistentMap<number>, ReadonlyMap<string, number>][] = [[map, new Map(model)]];
          for (const { key, value } of changes) {
            if (value === undefined) model.delete(key);
            else model.set(key, value);
            map = map.with(key, value);
            versions.push([map, new Map(model)]);
          }
          for (const [version, expected] of versions) {
            expect(version.size).toBe(expected.size);
            expect(keys.filter((key) => version.get(key) !== expected.get(key))).toEqual([]);
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  it('grows from nothing to many entries', () => {
    let map = PersistentMap.from(new Map<string, number>());
    for (let index = 0; index < 5000; index++) map = map.with(`/ns/${index}`, index);
    expect(map.size).toBe(5000);
    expect(map.get('/ns/4999')).toBe(4999);
    expect(map.get('/ns/5000')).toBeUndefined();
  });
});
