import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { join } from 'node:path';
import { kumaRenderer } from '../../src/access/mesh/kuma/renderer.js';
import { linkerdRenderer } from '../../src/access/mesh/linkerd/renderer.js';
import { render, type KubernetesObject, type Renderer } from '../../src/access/mesh/renderer.js';
import { ZoneClock } from '../../src/access/policy/time-window.js';
import { startKubeSchema, type KubeSchema } from '../rig/kube-schema.js';
import * as rig from '../rig/rig.js';
import { compileWorld, language, proof, WORLD } from '../support/policies.js';
import { asking, worlds } from '../support/policy-worlds.js';

/* What is rendered for Linkerd and Kuma is taken by their own CRDs, as the API server's code reads these. */

const crd = (name: string): string => join('test', 'rig', 'crds', `${name}.yaml`);
const zones = new ZoneClock();

const MESHES: readonly [string, Renderer, readonly string[]][] = [
  [
    'linkerd',
    linkerdRenderer({ probeNetworks: ['10.0.0.0/8'] }),
    ['Server', 'AuthorizationPolicy', 'MeshTLSAuthentication', 'NetworkAuthentication', 'HTTPRoute'],
  ],
  ['kuma', kumaRenderer(), ['MeshTrafficPermission']],
];

const suite = rig.isSkipped('kube-schema') ? describe.skip : describe;

suite.each(MESHES)('the CRDs of %s', (mesh, renderer, kinds) => {
  let schema: KubeSchema;
  beforeAll(async () => {
    schema = await startKubeSchema([crd(mesh)]);
  }, rig.rigTimeout);
  afterAll(() => schema.close());

  it('take every object that is rendered', async () => {
    const seen = new Set<string>();
    await fc.assert(
      fc.asyncProperty(
        worlds(language(), asking(), 1),
        fc.constantFrom('Allow' as const, 'Deny' as const),
        async ({ inventory, inputs }, defaultAction) => {
          const set = compileWorld(inputs, inventory, { defaultAction });
          const { objects } = render(renderer, { set, inventory, time: WORLD.now, zones });
          for (const { kind } of objects) seen.add(kind);
          const problems = await schema.validate(objects);
          const wrong = objects.flatMap((object, index) =>
            (problems[index] ?? ['was not looked at']).map((problem) => ({ object, problem })),
          );
          expect(wrong).toEqual([]);
        },
      ),
      proof(150),
    );
    expect([...seen].sort()).toEqual([...kinds].sort());
  }, 120_000);

  it('refuse them with another field, or a list where a text is wanted', async () => {
    const base = (spec: KubernetesObject['spec']): KubernetesObject => {
      const apiVersion = mesh === 'kuma' ? 'kuma.io/v1alpha1' : 'policy.linkerd.io/v1beta3';
      return {
        apiVersion,
        kind: mesh === 'kuma' ? 'MeshTrafficPermission' : 'Server',
        metadata: { name: 'x', namespace: 'a' },
        ...(spec === undefined ? {} : { spec }),
      };
    };
    const problems = await schema.validate([
      base({ signet: true }),
      base({ targetRef: [], podSelector: [] }),
    ]);
    expect(problems.map((list) => list.length > 0)).toEqual([true, true]);
  });
});
