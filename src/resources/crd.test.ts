import { describe, expect, it } from '@jest/globals';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { allCrds, crdFor, kinds } from './crd.js';
import type { JsonSchema } from './schema-json.js';

const folder = join(import.meta.dirname, '../../crds');

type Json = Readonly<Record<string, unknown>>;

/** Calls `look` for every schema in a schema. */
function walk(schema: Json, path: string, look: (schema: Json, path: string) => void): void {
  look(schema, path);
  for (const [key, child] of Object.entries((schema['properties'] ?? {}) as Json)) {
    walk(child as Json, `${path}.${key}`, look);
  }
  if (schema['items'] !== undefined) walk(schema['items'] as Json, `${path}[]`, look);
  if (schema['additionalProperties'] !== undefined)
    walk(schema['additionalProperties'] as Json, `${path}{}`, look);
}

function rootSchemaOf(crd: JsonSchema): Json {
  const { versions } = crd['spec'] as { versions: { schema: { openAPIV3Schema: Json } }[] };
  return versions[0]?.schema.openAPIV3Schema ?? {};
}

describe('the CustomResourceDefinitions', () => {
  it('are in crds/ as they are generated; run `npm run generate` when this fails', () => {
    const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
    expect(files.sort()).toEqual(
      allCrds()
        .map(({ file }) => file)
        .sort(),
    );
    for (const { file, content } of allCrds()) expect(readFileSync(join(folder, file), 'utf8')).toBe(content);
  });

  it('say as YAML what they say as objects', () => {
    allCrds().forEach(({ content }, index) => {
      const kind = kinds[index];
      expect(kind).toBeDefined();
      if (kind !== undefined) expect(parse(content)).toEqual(JSON.parse(JSON.stringify(crdFor(kind))));
    });
  });

  it.each(kinds)('%s has a structural schema in which everything is described and bounded', (kind) => {
    walk(rootSchemaOf(crdFor(kind)), kind, (schema, path) => {
      expect([path, typeof schema['type']]).toEqual([path, 'string']);
      // These are the API server's own.
      if (/^[A-Za-z]+\.(apiVersion|kind|metadata)$/.test(path)) return;
      if (!path.endsWith('{}'))
        expect([path, schema['description']]).toEqual([path, expect.stringMatching(/^.{5,}/)]);
      const bounds = {
        array: schema['maxItems'],
        string: schema['maxLength'] ?? schema['enum'],
        // One of the two makes a schema structural, both are refused.
        object: schema['additionalProperties'] === undefined ? schema['properties'] : schema['maxProperties'],
        integer: schema['maximum'],
        boolean: true,
      }[schema['type'] as string];
      // Without bounds the API server takes a rule over the value for endlessly costly.
      expect([path, bounds]).not.toEqual([path, undefined]);
    });
  });

  it.each(kinds)('%s has a default only where the default is right itself', (kind) => {
    walk(rootSchemaOf(crdFor(kind)), kind, (schema, path) => {
      const { default: value, enum: values, type, pattern } = schema;
      if (value === undefined) return;
      const typeOf = type === 'integer' ? 'number' : type;
      expect([path, typeof value]).toEqual([path, typeOf]);
      if (values !== undefined) expect(values).toContain(value);
      if (pattern !== undefined) expect(value).toMatch(new RegExp(pattern as string, 'u'));
    });
  });

  it('have names that do not meet', () => {
    const all = kinds.flatMap((kind) => {
      const { names } = crdFor(kind)['spec'] as {
        names: { plural: string; singular: string; shortNames: string[] };
      };
      return [names.plural, names.singular, ...names.shortNames];
    });
    expect(new Set(all).size).toBe(all.length);
  });
});
