import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startIstio, type Istio } from './istio.js';
import * as rig from './rig.js';

const web = 'spiffe://cluster.local/ns/foo/sa/web';
const workload = { namespace: 'foo' } as const;

const policy = (name: string, spec: string): string =>
  `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: ${name}, namespace: foo}\nspec: ${spec}\n`;
const allowWeb = policy(
  'allow-web',
  '{rules: [{from: [{source: {principals: ["cluster.local/ns/foo/sa/web"]}}], to: [{operation: {methods: [GET], paths: ["/a/*"]}}]}]}',
);

(rig.isSkipped('istio') ? describe.skip : describe)('Istio, as an oracle', () => {
  let istio: Istio;
  beforeAll(async () => {
    istio = await startIstio();
  }, rig.rigTimeout);
  afterAll(() => istio.close());

  it('enforces what istiod renders, in a real Envoy, by identity, method, path and transport', async () => {
    const rendered = await istio.load(workload, allowWeb);
    expect(rendered.selected).toEqual({ ALLOW: ['foo/allow-web'] });
    expect(rendered.httpFilters).toHaveLength(1);
    const decisions = await istio.decide([
      { source: web, path: '/a/b' },
      { source: 'spiffe://cluster.local/ns/foo/sa/other', path: '/a/b' },
      { source: web, path: '/a/b', method: 'POST' },
      { source: web, path: '/b' },
      { path: '/a/b' },
      { source: web, port: 9000 },
    ]);
    expect(decisions.map(({ decision, by }) => `${decision} ${by}`)).toEqual([
      'allow route',
      'deny rbac',
      'deny rbac',
      'deny rbac',
      'deny rbac',
      'deny connection',
    ]);
    expect(decisions[0]?.peer).toBe(web);
  });

  it('answers from the set that was loaded last, for any source address, method and token', async () => {
    const deny = policy(
      'deny-net',
      '{action: DENY, rules: [{from: [{source: {ipBlocks: ["10.1.0.0/16"]}}]}]}',
    );
    const jwt = `apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: jwt, namespace: foo}\nspec: {jwtRules: [{issuer: i, jwks: '__TEST_JWKS__'}]}\n`;
    await istio.load(workload, `${deny}---\n${jwt}`);
    const decisions = await istio.decide([
      { source: web, sourceIp: '10.1.2.3' },
      { source: web, sourceIp: '10.2.2.3', method: 'POST', path: '/b' },
      { source: web, jwt: { iss: 'i', sub: 's' } },
      { source: web, jwtRaw: 'e30.e30.e30' },
    ]);
    expect(decisions.map(({ decision }) => decision)).toEqual(['deny', 'allow', 'allow', 'deny']);
    expect(decisions[0]?.details).toContain('ns[foo]-policy[deny-net]');
  });

  it('refuses what the CRD or the webhook refuses, and leaves it out', async () => {
    const rendered = await istio.load(
      workload,
      [
        policy('unknown-field', '{rules: [{from: [{source: {principal: ["a"]}}]}]}'),
        policy('cel', '{rules: [{from: [{source: {principals: ["a"], serviceAccounts: ["x/y"]}}]}]}'),
        policy('empty', '{rules: [{from: [{source: {}}]}]}'),
        allowWeb,
      ].join('---\n'),
    );
    expect(rendered.validation.map(({ name, accepted }) => [name, accepted])).toEqual([
      ['unknown-field', false],
      ['cel', false],
      ['empty', false],
      ['allow-web', true],
    ]);
    expect(rendered.validation[0]?.schemaErrors?.[0]).toContain('unknown field');
    expect(rendered.validation[1]?.schemaErrors?.[0]).toMatch(/serviceAccounts|principals/);
    expect(rendered.validation[2]?.errors).not.toHaveLength(0);
    expect(rendered.selected).toEqual({ ALLOW: ['foo/allow-web'] });
  });

  it('says what ztunnel would get, and what istiod has against it', async () => {
    const [fine, http] = await istio.ambient(
      [
        policy('fine', '{rules: [{from: [{source: {principals: ["cluster.local/ns/foo/sa/web"]}}]}]}'),
        allowWeb,
      ].join('---\n'),
    );
    expect(fine).toMatchObject({ name: 'fine', status: null });
    expect(JSON.stringify(fine?.authorization)).toContain('cluster.local/ns/foo/sa/web');
    expect(http?.status).toMatchObject({ Reason: 'UnsupportedValue' });
  });

  it('asks a waypoint: by the address of a Service or pod, through its tunnel', async () => {
    const waypoint = {
      name: 'wp',
      services: [
        {
          namespace: 'foo',
          name: 'web',
          address: '10.96.0.1',
          ports: [
            { port: 80, protocol: 'http' },
            { port: 90, protocol: 'tcp' },
          ],
        },
      ],
      addresses: ['10.0.0.9'],
    } as const;
    const allow = policy(
      'svc',
      '{targetRefs: [{kind: Service, group: "", name: web}], rules: [{from: [{source: {principals: ["cluster.local/ns/foo/sa/web"]}}]}]}',
    );
    const { validation } = await istio.load({ ...workload, waypoint }, allow);
    expect(validation.map(({ accepted }) => accepted)).toEqual([true]);
    const other = 'spiffe://cluster.local/ns/foo/sa/other';
    const decisions = await istio.decide([
      { source: web, address: '10.96.0.1', port: 80 },
      { source: other, address: '10.96.0.1', port: 80 },
      { source: web, address: '10.96.0.1', port: 90, protocol: 'tcp' },
      { source: other, address: '10.96.0.1', port: 90, protocol: 'tcp' },
      // Pods have no Service, so what is said of one does not hold for them.
      { source: other, address: '10.0.0.9', port: 8080 },
      { source: web, address: '10.96.0.2', port: 80 },
      { source: 'spiffe://other.example/ns/foo/sa/web', address: '10.96.0.1', port: 80 },
      { address: '10.96.0.1', port: 80 },
    ]);
    expect(decisions.map(({ decision, by }) => `${decision} ${by}`)).toEqual([
      'allow route',
      'deny rbac',
      'allow echo',
      'deny connection',
      'allow route',
      'deny connection',
      'deny tls',
      'error oracle',
    ]);
  });

  it('says so when nothing is loaded, and goes on after a wrong question', async () => {
    await expect(istio.load(workload, 'kind: [')).rejects.toThrow('yaml');
    const other = await startIstio();
    try {
      await expect(other.decide([{}])).rejects.toThrow('nothing is loaded');
      await other.load(workload, '');
      expect((await other.decide([{ source: web }]))[0]?.decision).toBe('allow');
    } finally {
      await other.close();
    }
  });
});
