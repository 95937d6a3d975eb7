import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  appliedHash,
  contains,
  isAppliedBy,
  isEdited,
  marked,
  ownerOf,
  type DesiredObject,
} from './applied-content.js';
import { AppliedMirror } from './applied-mirror.js';
import type { ApiObject } from './watch.js';

type Fields = Record<string, unknown>;

/** The same with fields added to objects at random places, as defaults are; lists stay as long. */
function withDefaults(value: unknown, add: (path: string) => boolean, path = ''): unknown {
  if (Array.isArray(value))
    return (value as unknown[]).map((one, at) => withDefaults(one, add, `${path}/${at}`));
  if (typeof value !== 'object' || value === null) return value;
  const all: Fields = Object.fromEntries(
    Object.entries(value).map(([name, one]) => [name, withDefaults(one, add, `${path}/${name}`)]),
  );
  return add(path) ? { ...all, 'default-of-the-server': 1 } : all;
}

/** All ways to change one leaf, or to take one field or item away. */
function spoiled(value: unknown): unknown[] {
  if (Array.isArray(value)) {
    const list = value as unknown[];
    return [
      ...list.map((_, at) => list.filter((_, other) => other !== at)),
      [...list, 'another'],
      ...list.flatMap((one, at) => spoiled(one).map((bad) => list.with(at, bad))),
    ];
  }
  if (typeof value === 'object' && value !== null)
    return Object.entries(value as Fields).flatMap(([name, one]) =>
      spoiled(one).map((bad) => ({ ...value, [name]: bad })),
    );
  return value === null ? [] : [typeof value === 'string' ? `${value}!` : JSON.stringify(value)];
}

const json = fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<unknown>;

const wanted: DesiredObject & { spec: unknown } = {
  ...{ apiVersion: 'x/v1', kind: 'X', metadata: { name: 'a', namespace: 'n', labels: { own: 'yes' } } },
  spec: { b: 1, a: [{ d: 1, c: 2 }] },
};

function seen(version: number, uid = 'u', managedFields: unknown[] = [], object = wanted): ApiObject {
  const metadata = {
    ...object.metadata,
    uid,
    generation: 1,
    resourceVersion: String(version),
    managedFields,
  };
  return { ...object, metadata };
}

describe('whether an object is as it was wanted', () => {
  it('is so whatever defaults the API server adds, and not so when anything wanted differs', () => {
    fc.assert(
      fc.property(json, fc.array(fc.boolean(), { minLength: 1 }), (value, choices) => {
        let turn = 0;
        const actual = withDefaults(value, () => choices[turn++ % choices.length] ?? false);
        expect(contains(actual, value)).toBe(true);
        for (const bad of spoiled(value)) expect([bad, contains(bad, value)]).toEqual([bad, false]);
      }),
      { numRuns: 300 },
    );
  });

  it('shows by a hash that depends on nothing but what is said, in whatever order', () => {
    const one = marked(wanted, 'set', 'me');
    const turned = { ...wanted, spec: { a: [{ c: 2, d: 1 }], b: 1 } };
    expect(appliedHash(marked(turned, 'set', 'me'))).toBe(appliedHash(one));
    const others = [
      marked(wanted, 'other', 'me'),
      marked(wanted, 'set', 'you'),
      marked({ ...wanted, spec: { b: 2, a: [{ d: 1, c: 2 }] } } as DesiredObject, 'set', 'me'),
    ];
    expect(new Set([one, ...others].map(appliedHash)).size).toBe(4);
    expect(one.metadata.labels).toMatchObject({ own: 'yes', 'app.kubernetes.io/managed-by': 'signet' });
    expect(ownerOf(seen(1, 'u', [], { ...wanted, ...one }), 'set')).toBe('me');
    expect(ownerOf(seen(1, 'u', [], { ...wanted, ...one }), 'other')).toBeUndefined();
  });

  it('knows who has written into it by the managed fields', () => {
    const entry = (manager: string, fields: object, more: object = {}): object => ({
      ...{ manager, operation: 'Update', fieldsV1: fields, ...more },
    });
    const edited = (...entries: object[]): boolean => isEdited(seen(1, 'u', entries), 'signet');
    expect(edited()).toBe(false);
    expect(edited(entry('signet', { 'f:spec': {} }, { operation: 'Apply' }))).toBe(false);
    expect(edited(entry('istiod', { 'f:status': {} }, { subresource: 'status' }))).toBe(false);
    expect(edited(entry('gc', { 'f:metadata': {}, 'f:status': {} }))).toBe(false);
    expect(edited(entry('kubectl-edit', { 'f:spec': { 'f:a': {} } }))).toBe(true);
    const applied = seen(1, 'u', [entry('signet', { 'f:spec': {} }, { operation: 'Apply' })]);
    expect([isAppliedBy(applied, 'signet'), isAppliedBy(applied, 'other')]).toEqual([true, false]);
    expect(isAppliedBy(seen(1, 'u', [entry('signet', { 'f:spec': {} })]), 'signet')).toBe(false);
  });
});

describe('the mirror of a set', () => {
  const of = (mirror: AppliedMirror) => mirror.get('n/a')?.object.metadata;

  it('does not let what the watch shows late cover what was written', () => {
    const mirror = new AppliedMirror('set', 'signet');
    mirror.replace([seen(5)]);
    mirror.wrote(seen(9));
    expect(mirror.put(seen(7))).toEqual([]);
    expect(of(mirror)?.resourceVersion).toBe('9');
    // Nor a list that was begun before.
    mirror.replace([seen(8)]);
    expect(of(mirror)?.resourceVersion).toBe('9');
  });

  it('believes a list that is older than what the watch has shown: the API server was restored from a backup', () => {
    const mirror = new AppliedMirror('set', 'signet');
    mirror.replace([seen(5)]);
    mirror.wrote(seen(9));
    expect(mirror.put(seen(9))).toEqual([]);
    expect(mirror.replace([seen(7)])).toHaveLength(1);
    expect(of(mirror)?.resourceVersion).toBe('7');
  });

  it('does not show again what was deleted, until the watch has said that it is gone', () => {
    const mirror = new AppliedMirror('set', 'signet');
    mirror.replace([seen(5)]);
    mirror.deleted('n/a', 'u');
    expect(mirror.put(seen(6))).toEqual([]);
    expect(of(mirror)).toBeUndefined();
    // Made anew at once, and the end of the former comes after.
    mirror.put(seen(8, 'v'));
    expect(mirror.remove(seen(7))).toEqual([]);
    expect(of(mirror)?.uid).toBe('v');
  });

  it('shows an object that was taken out of the set as gone, unless it was put back since', () => {
    const mirror = new AppliedMirror('set', 'signet');
    mirror.replace([seen(5)]);
    mirror.put(seen(9));
    expect(mirror.remove(seen(7))).toEqual([]);
    expect(mirror.remove(seen(10))).toMatchObject([{ key: 'n/a', after: undefined }]);
  });
});
