import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startCilium, type Cilium } from './cilium.js';
import * as rig from './rig.js';

const api = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: prod}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: web, io.cilium.k8s.policy.serviceaccount: front}}]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}]
      rules: {http: [{method: GET, path: "/public(/.*)?"}]}
`;
const db = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: prod}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{ipBlock: {cidr: 192.168.0.0/16}}], ports: [{port: 5432}]}]
`;
const admin = `apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: admin}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: prod}}}
  ingress: [{name: no-dev, action: Deny, from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: dev}}}]}]
`;

(rig.isSkipped('cilium') ? describe.skip : describe)('Cilium, as an oracle', () => {
  let cilium: Cilium;
  beforeAll(async () => {
    cilium = await startCilium();
  }, rig.rigTimeout);
  afterAll(() => cilium.close());

  it('judges its own policies, NetworkPolicy and ClusterNetworkPolicy together', async () => {
    const front = { namespace: 'web', serviceAccount: 'front' } as const;
    const to = { namespace: 'prod', labels: { app: 'api' } } as const;
    const open = { namespace: 'prod', labels: { app: 'open' } } as const;
    const target = { namespace: 'prod', labels: { app: 'db' } } as const;
    const { objects, decisions } = await cilium.decide([api, db, admin].join('---\n'), [
      { from: front, to, port: 8080, http: { method: 'GET', path: '/public/x' } },
      { from: front, to, port: 8080, http: { method: 'GET', path: '/publicity' } },
      { from: front, to, port: 8080 },
      { from: { ...front, serviceAccount: 'other' }, to, port: 8080 },
      { from: { ip: '192.168.7.7' }, to: target, port: 5432 },
      { from: { ip: '192.169.7.7' }, to: target, port: 5432 },
      { from: { namespace: 'dev' }, to: open, port: 1 },
      { from: { namespace: 'web' }, to: open, port: 1 },
    ]);
    expect(objects.map(({ name, accepted }) => [name, accepted])).toEqual([
      ['prod/api', true],
      ['prod/db', true],
      ['admin', true],
    ]);
    expect(decisions.map(({ decision }) => decision)).toEqual([
      'allow',
      'deny',
      'l7',
      'deny',
      'allow',
      'deny',
      'deny',
      'allow',
    ]);
    expect(decisions[0]?.ingress).toMatchObject({ redirect: true, rules: ['api'] });
  });

  it('refuses what Cilium refuses though its CRD takes it, and unknown fields; and starts anew each time', async () => {
    const wrong = (spec: string): string =>
      `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: wrong, namespace: prod}\nspec: ${spec}\n`;
    const { objects, decisions } = await cilium.decide(
      [
        wrong('{endpointSelector: {}, ingress: [{fromEndpoints: [{}], fromCIDR: ["10.0.0.0/8"]}]}'),
        wrong(
          '{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "80"}], rules: {http: [{path: "/x["}]}}]}]}',
        ),
        wrong('{endpointSelector: {}, ingres: []}'),
        db.replace('podSelector', 'podSelect'),
      ].join('---\n'),
      [{ from: { namespace: 'dev' }, to: { namespace: 'prod', labels: { app: 'db' } }, port: 1 }],
    );
    expect(objects.map(({ accepted }) => accepted)).toEqual([false, false, false, false]);
    expect(decisions[0]?.decision).toBe('allow');
  });

  it('tells a question that cannot be asked from a denial', async () => {
    const { decisions } = await cilium.decide('', [
      { from: { ip: 'nowhere' }, to: { namespace: 'prod' }, port: 1 },
    ]);
    expect(decisions[0]).toMatchObject({ decision: 'error' });
  });
});
