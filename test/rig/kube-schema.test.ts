import { beforeAll, describe, expect, it } from '@jest/globals';
import { startKubeSchema, validateObjects } from './kube-schema.js';
import * as rig from './rig.js';

const cilium = (name: string, spec: unknown): unknown => ({
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name, namespace: 'prod' },
  spec,
});
const clusterPolicy = (priority: number): unknown => ({
  apiVersion: 'policy.networking.k8s.io/v1alpha2',
  kind: 'ClusterNetworkPolicy',
  metadata: { name: 'admin' },
  spec: {
    tier: 'Admin',
    priority,
    subject: { namespaces: {} },
    ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }],
  },
});

(rig.isSkipped('kube-schema') ? describe.skip : describe)('the API server, as an oracle', () => {
  let files: string[];
  beforeAll(async () => {
    files = [await rig.crds('cilium'), await rig.crds('network-policy'), await rig.crds('istio')];
  }, rig.rigTimeout);

  it('takes objects that keep to their CRDs', async () => {
    const objects = [cilium('fine', { endpointSelector: {}, ingress: [{}] }), clusterPolicy(10)];
    expect(await validateObjects(objects, files)).toEqual([]);
  });

  it('refuses unknown fields, wrong types, values out of range, broken CEL rules and unknown kinds, each by name', async () => {
    const checker = await startKubeSchema(files);
    const problems = await checker.validate([
      cilium('unknown', { endpointSelector: {}, ingres: [] }),
      cilium('type', { endpointSelector: {}, ingress: [{ fromCIDR: [7] }] }),
      clusterPolicy(1001),
      {
        apiVersion: 'security.istio.io/v1',
        kind: 'AuthorizationPolicy',
        metadata: { name: 'cel', namespace: 'foo' },
        spec: { selector: { matchLabels: { app: 'a' } }, targetRefs: [{ kind: 'Service', name: 's' }] },
      },
      { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' } },
      cilium('fine', { endpointSelector: {}, ingress: [{}] }),
    ]);
    await checker.close();
    expect(problems.map((list) => list.join())).toEqual([
      expect.stringContaining('unknown field spec.ingres'),
      expect.stringContaining('must be of type cidr'),
      expect.stringContaining('1000'),
      expect.stringContaining('only one of targetRefs or selector'),
      expect.stringContaining('no CRD serves v1 Pod'),
      '',
    ]);
  });

  it('names the object of each problem', async () => {
    expect(await validateObjects([clusterPolicy(-1)], files)).toEqual([
      expect.stringMatching(/^ClusterNetworkPolicy admin: .*priority/),
    ]);
  });
});
