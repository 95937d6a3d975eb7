import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { KubernetesObject } from '../../../access/mesh/renderer.js';
import { DesiredObjects, meshOf, objectId, ownerName } from './desired-objects.js';
import { MESHES, type Mesh } from './meshes.js';

const mesh = MESHES.find(({ name }) => name === 'istio') as Mesh;
const pick = <T>(items: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...items);

/** Objects of few names, so that they come again, in another namespace and of other policies too. */
const objects: fc.Arbitrary<KubernetesObject> = fc
  .record({
    name: pick(['a', 'b', 'c']),
    namespace: pick(['one', 'two', undefined]),
    kind: pick(['AuthorizationPolicy', 'PeerAuthentication']),
    action: pick(['ALLOW', 'DENY']),
    policies: fc.uniqueArray(pick(['one/p', 'two/p', 'p', 'one/q']), { maxLength: 3 }),
  })
  .map(({ name, namespace, kind, action, policies }) => ({
    ...{ apiVersion: 'security.istio.io/v1', kind, spec: { action } },
    metadata: {
      ...{ name, annotations: { 'signet.dev/policies': policies.join(',') } },
      ...(namespace === undefined ? {} : { namespace }),
    },
  }));

const changes = fc.array(
  fc.record({ changed: fc.array(objects, { maxLength: 4 }), removed: fc.array(objects, { maxLength: 4 }) }),
);
const policiesOf = (object: KubernetesObject): readonly string[] =>
  (object.metadata.annotations?.['signet.dev/policies'] ?? '')
    .split(',')
    .filter((name) => name !== '')
    .map((name) => (name.includes('/') ? `AccessPolicy/${name}` : `ClusterAccessPolicy/${name}`));
const ownerOf = ({ metadata }: KubernetesObject): string => ownerName('istio', metadata.namespace ?? '');

describe('what a mesh is to have', () => {
  it('is what was changed last and not removed, whatever came before; policies and owners are counted by it', () => {
    fc.assert(
      fc.property(changes, (steps) => {
        const desired = new DesiredObjects(mesh);
        const model = new Map<string, KubernetesObject>();
        for (const { changed, removed } of steps) {
          const touched = desired.change({ changed, removed });
          for (const one of removed) model.delete(objectId(one));
          for (const one of changed) model.set(objectId(one), one);
          for (const one of [...changed, ...removed]) expect(touched).toContain(ownerOf(one));
        }
        const there = [...model.values()];
        const owners = new Set(there.map(ownerOf));
        expect([...desired.owners()].sort()).toEqual([...owners].sort());
        for (const owner of owners) {
          expect(meshOf(owner)).toBe('istio');
          const given = desired.of(owner, () => undefined);
          const denying = given.map((one) => (one as KubernetesObject).spec?.['action'] === 'DENY');
          expect(denying).toEqual(denying.toSorted().toReversed());
          expect(given.map((one) => objectId(one as KubernetesObject)).sort()).toEqual(
            there
              .filter((one) => ownerOf(one) === owner)
              .map(objectId)
              .sort(),
          );
        }
        for (const policy of ['AccessPolicy/one/p', 'AccessPolicy/two/p', 'ClusterAccessPolicy/p']) {
          const mine = there.filter((one) => policiesOf(one).includes(policy));
          expect(desired.countOf(policy)).toBe(mine.length);
          expect([...desired.ownersOf(policy)].sort()).toEqual([...new Set(mine.map(ownerOf))].sort());
        }
      }),
    );
  });

  it('is owned by a policy only where the API server takes it, and where nothing but that policy is said', () => {
    let owned = 0;
    fc.assert(
      fc.property(fc.array(objects), (changed) => {
        const desired = new DesiredObjects(mesh);
        desired.change({ changed, removed: [] });
        for (const owner of desired.owners()) {
          for (const one of desired.of(owner, (policy) => `uid of ${policy}`)) {
            const references = (one.metadata.ownerReferences ?? []) as { kind: string; uid: string }[];
            const policies = policiesOf(one);
            const [only] = policies;
            const { namespace } = one.metadata;
            const local =
              only?.startsWith('Cluster') === true || only?.startsWith(`AccessPolicy/${namespace}/`);
            const may = policies.length === 1 && namespace !== undefined && local === true;
            const want = may && one.kind === 'AuthorizationPolicy' ? [`uid of ${only}`] : [];
            expect(references.map(({ uid }) => uid)).toEqual(want);
            owned += references.length;
          }
        }
      }),
    );
    expect(owned).toBeGreaterThan(0);
  });

  it('is the same object as long as nothing about it is other, and another when its policy is made anew', () => {
    const desired = new DesiredObjects(mesh);
    const one: KubernetesObject = {
      ...{ apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy', spec: { action: 'ALLOW' } },
      metadata: { name: 'a', namespace: 'one', annotations: { 'signet.dev/policies': 'one/p' } },
    };
    desired.change({ changed: [one], removed: [] });
    const [first] = desired.of('istio/one', () => 'old');
    expect(desired.of('istio/one', () => 'old')[0]).toBe(first);
    const [second] = desired.of('istio/one', () => 'new');
    expect(second?.metadata.ownerReferences).toMatchObject([{ uid: 'new', name: 'p', kind: 'AccessPolicy' }]);
  });
});
