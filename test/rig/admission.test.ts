/** What the API server takes and what Signet takes offline, from files, by the same schemas and rules: held against each other. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { join } from 'node:path';
import { parse } from 'yaml';
import { admitObject } from '../../src/resources/admit.js';
import { crdFor, kinds } from '../../src/resources/crd.js';
import type { SignetKind } from '../../src/resources/kinds.js';
import { RIGHT } from '../support/right-resources.js';
import { until } from '../support/until.js';
import { startControlPlane, type ControlPlane } from './control-plane.js';
import type { KubeAnswer } from './kube-client.js';
import * as rig from './rig.js';

type Json = Readonly<Record<string, unknown>>;

const objectOf = (kind: SignetKind, spec: unknown): Json => ({
  apiVersion: 'signet.dev/v1alpha1',
  kind,
  metadata: { name: 'x' },
  spec,
});

function pathOf(kind: SignetKind): string {
  const { names, scope } = crdFor(kind)['spec'] as {
    readonly names: { readonly plural: string };
    readonly scope: string;
  };
  const namespace = scope === 'Namespaced' ? '/namespaces/default' : '';
  return `/apis/signet.dev/v1alpha1${namespace}/${names.plural}`;
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('the API server and our own admission', () => {
  let plane: ControlPlane;

  beforeAll(async () => {
    plane = await startControlPlane();
    const { code, stderr } = await plane.kubectl(['apply', '-f', join(import.meta.dirname, '../../crds')]);
    expect([code, stderr]).toEqual([0, '']);
    for (const kind of kinds)
      await until(`${kind} served`, async () => (await plane.request('GET', pathOf(kind))).status === 200);
  }, rig.rigTimeout);
  afterAll(() => plane?.close());

  const dryRun = (kind: SignetKind, spec: unknown): Promise<KubeAnswer> =>
    plane.request('POST', `${pathOf(kind)}?dryRun=All&fieldValidation=Strict`, objectOf(kind, spec));

  it.each(kinds)('both take a right %s, and fill in the same defaults', async (kind) => {
    const spec: unknown = parse(RIGHT[kind]);
    const { status, body } = await dryRun(kind, spec);
    expect([status, (body as { readonly message?: string }).message]).toEqual([201, undefined]);
    expect((body as Json)['spec']).toEqual(admitObject(kind, objectOf(kind, spec)).object?.['spec']);
  });

  it('never take offline what the API server refuses; and what both take, they read as the same', async () => {
    const outcomes = { both: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...kinds),
        fc.array(change, { minLength: 1, maxLength: 3 }),
        async (kind, changes) => {
          const spec = parse(RIGHT[kind]) as object;
          for (const { at, to } of changes) apply(spec, at, to);
          const { object, problems } = admitObject(kind, objectOf(kind, spec));
          const { status, body } = await dryRun(kind, spec);
          if (status === 201) {
            if (object === undefined) return; // Signet knows more than a CRD can say.
            outcomes.both++;
            expect((body as Json)['spec']).toEqual(object['spec']);
            return;
          }
          outcomes.refused++;
          expect([400, 422]).toContain(status);
          expect([(body as Json)['message'], problems.length > 0]).toEqual([expect.anything(), true]);
        },
      ),
      { numRuns: 600 },
    );
    expect(Math.min(outcomes.both, outcomes.refused)).toBeGreaterThan(20);
  }, 120_000);
});

interface Place {
  readonly in: Record<string, unknown>;
  readonly key: string;
}

/** What becomes of a value: it goes away, or another takes its place, which is mostly one that is right somewhere. */
const change = fc.record({
  at: fc.nat(),
  to: fc.oneof(
    { weight: 3, arbitrary: fc.constant(undefined) },
    { weight: 3, arbitrary: fc.constantFrom(...kinds.flatMap((kind) => valuesIn(parse(RIGHT[kind])))) },
    fc.constantFrom(
      '',
      'a',
      'A',
      '0s',
      '90s',
      '1.5h',
      '99999h',
      'spiffe://a.org/b',
      '::/0',
      '1.2.3.4',
      0,
      -1,
      false,
      [],
      {},
    ),
    fc.jsonValue(),
  ),
});

function apply(spec: object, at: number, to: unknown): void {
  const places = placesIn(spec);
  const place = places[at % places.length];
  if (place === undefined) return;
  if (to !== undefined) place.in[place.key] = structuredClone(to);
  else if (Array.isArray(place.in)) place.in.splice(Number(place.key), 1);
  else Reflect.deleteProperty(place.in, place.key);
}

function valuesIn(spec: unknown): unknown[] {
  return placesIn(spec).map((place) => place.in[place.key]);
}

/** Every place of a value in it, however deep. */
function placesIn(node: unknown): Place[] {
  if (typeof node !== 'object' || node === null) return [];
  const own = node as Record<string, unknown>;
  return Object.keys(own).flatMap((key) => [{ in: own, key }, ...placesIn(own[key])]);
}
