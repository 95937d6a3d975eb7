import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { buildProgram, runProgram } from '../../src/cli/program.js';
import { systemClock } from '../../src/lib/clock.js';

/* The commands about policies as a user runs them, on the example and on changed copies of it. */

async function run(...argv: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const io = {
    clock: systemClock,
    environment: {},
    stdout: (text: string) => void (out += text),
    stderr: (text: string) => void (err += text),
    signal: new AbortController().signal,
  };
  const code = await runProgram(buildProgram(io, 'test'), argv, io);
  return { code, out, err };
}

const EXAMPLE = 'examples/payments';
const ask = (...more: readonly string[]): ReturnType<typeof run> =>
  run('explain', EXAMPLE, '--to', 'payments/payment-service', '--port', '8443', ...more);

describe('the commands about policies', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'signet-policies-'));
    await cp(EXAMPLE, folder, { recursive: true, filter: (path) => !path.endsWith('.mjs') });
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('explain who may do what, and why not', async () => {
    const allowed = await ask(
      '--from',
      'payments/order-service',
      '--method',
      'POST',
      '--path',
      '/api/payments',
    );
    expect(allowed).toMatchObject({ code: 0, err: '' });
    expect(allowed.out).toContain(
      'ALLOWED: allowed by rule "orders-may-pay" of policy payments/payment-access',
    );
    const denied = await ask(
      '--from',
      'payments/order-service',
      '--method',
      'GET',
      '--path',
      '/api/payments',
    );
    expect(denied.code).toBe(1);
    expect(denied.out).toContain('method GET is not POST');
    expect(denied.out).toContain('        method: asks for POST; found GET\n');
    expect(denied.out).toContain('> closed            payments/payment-access says who may');
    const stranger = await ask(
      '--from',
      'spiffe://evil.example/ns/payments/sa/order-service',
      '--method',
      'POST',
    );
    expect(stranger.code).toBe(1);
  });

  it('explain every step to programs too', async () => {
    const flags = ['--from', 'payments/order-service', '--method', 'GET', '--path', '/api/payments'];
    for (const format of ['json', 'yaml']) {
      const { code, out } = await ask(...flags, '--output', format);
      expect(code).toBe(1);
      expect(parseAllDocuments(out)[0]?.toJS()).toMatchObject({
        allowed: false,
        decidedBy: { kind: 'policy', policy: { name: 'payment-access' }, why: 'closed' },
        steps: [
          { step: 'adminDeny', state: 'silent' },
          { step: 'deny', state: 'silent' },
          {
            ...{ step: 'allow', state: 'silent' },
            rules: [
              { rule: 'orders-may-pay', missed: [{ field: 'method', asked: 'POST', found: 'GET' }] },
              { rule: 'admins-may-manage' },
            ],
          },
          { step: 'closed', state: 'decides', answer: 'Deny' },
          { step: 'baselineDeny', state: 'notReached' },
          ...[{ step: 'baselineAllow' }, { step: 'clusterClosed' }, { step: 'default', answer: 'Deny' }],
        ],
      });
    }
  });

  it('name the field and the fix of a request that cannot be read', async () => {
    const wrong = await ask('--from', 'payments/nobody');
    expect(wrong.code).toBe(3);
    expect(wrong.err).toContain('request.from "payments/nobody" is no workload');
    expect(wrong.err).toContain('[RequestInvalid]');
  });

  it('render for every mesh, and tell how faithfully', async () => {
    const istio = await run('render', EXAMPLE, '--mesh', 'istio', '--strict');
    expect(istio.code).toBe(0);
    const kinds = parseAllDocuments(istio.out).map((document) => String(document.get('kind')));
    expect(kinds).toContain('AuthorizationPolicy');
    expect(istio.err).toContain('exact: payments/payment-access/orders-may-pay');
    for (const mesh of ['envoy', 'cilium', 'opa']) {
      expect(await run('render', EXAMPLE, '--mesh', mesh, '--strict')).toMatchObject({ code: 0 });
    }
    // Linkerd gives a request to one of two routes with overlapping paths, so something is lost.
    const linkerd = await run('render', EXAMPLE, '--mesh', 'linkerd', '--strict');
    expect(linkerd.code).toBe(1);
    expect(linkerd.err).toMatch(/^narrower: payments\/payment-access\/orders-may-pay /m);
    // These see no HTTP, so nothing of these rules can be said, and that is told.
    for (const mesh of ['networkpolicy', 'kuma', 'gateway']) {
      const blind = await run('render', EXAMPLE, '--mesh', mesh, '--strict');
      expect(blind.code).toBe(1);
      expect(blind.err).toContain('unsupported: payments/payment-access/orders-may-pay');
    }
  });

  it('render as the TrustDomain says that the mesh is installed, but for what the command line says', async () => {
    const changed = await mkdtemp(join(tmpdir(), 'signet-meshes-'));
    try {
      await cp(EXAMPLE, changed, { recursive: true, filter: (path) => !path.endsWith('.mjs') });
      const path = join(changed, 'trust-domain.yaml');
      const text = await readFile(path, 'utf8');
      const more = '  meshOptions: { istio: { rootNamespace: mesh-root } }\n';
      await writeFile(
        path,
        text.replace(/^spec:\n/m, (line) => `${line}${more}`),
      );
      const namespaces = async (...flags: readonly string[]): Promise<readonly unknown[]> => {
        const { out } = await run('render', changed, ...flags);
        return parseAllDocuments(out).map((document) => document.getIn(['metadata', 'namespace']));
      };
      expect(await namespaces('--mesh', 'istio')).toContain('mesh-root');
      const other = await namespaces('--mesh', 'istio', '--root-namespace', 'istio-system');
      expect(other).toContain('istio-system');
      expect(other).not.toContain('mesh-root');
    } finally {
      await rm(changed, { recursive: true });
    }
  });

  it('say which accesses a change opens and closes', async () => {
    expect(await run('diff', EXAMPLE, EXAMPLE)).toMatchObject({ code: 0, out: 'no access changes\n' });
    const policy = join(folder, 'access.yaml');
    const text = await readFile(policy, 'utf8');
    await writeFile(policy, text.replace('methods: [POST]', 'methods: [POST, PUT]'));
    const changed = await run('diff', EXAMPLE, folder);
    expect(changed.code).toBe(1);
    expect(changed.out).toMatch(/^\+ .*PUT/m);
    expect(changed.out).toContain('1 gained, 0 lost, 0 unknown');
  });

  it('run PolicyTests, and fail where an answer is another', async () => {
    const tests = join(folder, 'tests.yaml');
    const written = (expected: string): string => `apiVersion: signet.dev/v1alpha1
kind: PolicyTest
metadata: { name: payments, namespace: payments }
spec:
  defaults: { to: payments/payment-service, port: 8443 }
  tests:
    - name: orders pay
      request: { from: payments/order-service, http: { method: POST, path: /api/payments } }
      expect: Allow
      decidedBy: payments/payment-access/orders-may-pay
    - name: orders do not delete
      request: { from: payments/order-service, http: { method: DELETE, path: /api/payments/1 } }
      expect: ${expected}
`;
    await writeFile(tests, written('Deny'));
    const passed = await run('test', folder);
    expect(passed.code).toBe(0);
    expect(passed.out).toContain('2 of 2 passed; 1 of 2 rules decided one');
    expect((await run('test', folder, '--min-coverage', '100')).code).toBe(1);
    await writeFile(tests, written('Allow'));
    const failed = await run('test', folder);
    expect(failed.code).toBe(1);
    expect(failed.out).toContain('FAIL payments/payments: orders do not delete: expected Allow, got Deny');
  });

  it('import what others say, and tell what is missing', async () => {
    const file = join(folder, 'istio.yaml.txt');
    await writeFile(
      file,
      `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: web, namespace: shop }
spec:
  selector: { matchLabels: { app: web } }
  rules:
    - from: [{ source: { principals: [cluster.local/ns/shop/sa/cart] } }]
      to: [{ operation: { methods: [GET] } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: custom, namespace: shop }
spec: { action: CUSTOM, provider: { name: x }, rules: [{}] }
`,
    );
    const { code, out, err } = await run('import', 'istio', file, '--trust-domain', 'example.org');
    expect(code).toBe(1);
    expect(out).toContain('kind: AccessPolicy');
    expect(out).toContain('spiffe://example.org/ns/shop/sa/cart');
    expect(err).toMatch(/^error: AuthorizationPolicy shop\/custom /m);

    await writeFile(
      file,
      `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed, namespace: shop }
spec: { podSelector: {}, policyTypes: [Ingress] }
`,
    );
    const network = await run('import', 'networkpolicy', file);
    expect(network).toMatchObject({ code: 0, err: '' });
    expect(network.out).toContain('rules: []');
    await writeFile(file, 'a: [');
    expect((await run('import', 'networkpolicy', file)).err).toContain('[YamlInvalid]');
  });

  it('suggest the least policy for what a log has seen', async () => {
    const log = join(folder, 'access.log');
    const seen = {
      source: 'spiffe://example.org/ns/payments/sa/order-service',
      target: 'payments/payment-service',
      port: 8443,
      http: { method: 'GET', path: '/api/payments/7' },
      allowed: true,
    };
    await writeFile(log, `${JSON.stringify(seen)}\n`);
    const { code, out } = await run('suggest', EXAMPLE, '--log', log);
    expect(code).toBe(0);
    expect(out).toContain('exact: /api/payments/7');
    await writeFile(log, 'nonsense\n');
    const broken = await run('suggest', EXAMPLE, '--log', log);
    expect(broken.code).toBe(1);
    expect(broken.err).toContain(`${log}:1: `);
  });

  it('lint and draw', async () => {
    expect(await run('lint', EXAMPLE)).toMatchObject({ code: 0, out: '0 findings, 0 of them errors\n' });
    expect((await run('graph', EXAMPLE)).out).toContain('digraph access');
    expect((await run('graph', EXAMPLE, '-o', 'mermaid')).out).toContain('flowchart LR');
    expect((await run('graph', EXAMPLE, '-o', 'svg')).out).toContain('<svg');
  });
});
