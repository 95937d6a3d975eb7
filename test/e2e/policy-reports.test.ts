import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createHash, createVerify, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { parseAllDocuments } from 'yaml';
import { REPORT_RULES } from '../../src/cli/report-rules.js';
import { buildProgram, runProgram } from '../../src/cli/program.js';
import { systemClock } from '../../src/lib/clock.js';
import { signetCommand } from './support/signet.js';
import { readSarif, type SarifRun } from '../support/sarif.js';

/* What the commands about policies report to other programs, and how `signet render` is told about a mesh. */

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

const CLUSTER = `apiVersion: signet.dev/v1alpha1
kind: TrustDomain
metadata: { name: example.org }
spec: { name: example.org }
---
apiVersion: signet.dev/v1alpha1
kind: ClusterWorkloadIdentity
metadata: { name: all }
spec: {}
---
apiVersion: v1
kind: Pod
metadata: { name: orders, namespace: shop, labels: { app: orders } }
spec: { serviceAccountName: orders, nodeName: n, containers: [{ name: c, image: i, ports: [{ containerPort: 8080 }] }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: shop, labels: { app: web } }
spec: { serviceAccountName: web, nodeName: n, containers: [{ name: c, image: i }] }
`;

/** Line 11 names somebody who is nobody; line 13 asks for what no network policy sees. */
const POLICY = `apiVersion: signet.dev/v1alpha1
kind: AccessPolicy
metadata:
  name: orders
  namespace: shop
spec:
  target:
    podSelector: { matchLabels: { app: orders } }
  rules:
    - name: web
      from: [{ serviceAccounts: [{ name: wbe }] }, { serviceAccounts: [{ name: web }] }]
      to:
        - http: { methods: [GET] }
`;

function resultOf(log: string, id: string): SarifRun['results'][number] {
  const found = readSarif(log).results.find(({ ruleId }) => ruleId === id);
  if (found === undefined) throw new Error(`no result of ${id} in ${log}`);
  return found;
}

const place = (result: SarifRun['results'][number]) => result.locations[0]?.physicalLocation;

describe('reports', () => {
  let folder: string;
  const file = (name: string): string => join(folder, name);
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'signet-reports-'));
    writeFileSync(file('cluster.yaml'), CLUSTER);
    writeFileSync(file('policy.yaml'), POLICY);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('of lint are SARIF: each finding at its line, known again when lines move', async () => {
    const { code, out, err } = await run('lint', folder, '-o', 'sarif');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    const nobody = resultOf(out, 'SIG1002');
    expect(nobody.level).toBe('warning');
    expect(nobody.message.text).toContain('did you mean web?');
    expect(place(nobody)?.region).toEqual({ startLine: 11, startColumn: 7 });
    expect(place(nobody)?.artifactLocation.uri).toBe(`file://${file('policy.yaml')}`);

    writeFileSync(file('policy.yaml'), `# moved\n\n${POLICY}`);
    const moved = resultOf((await run('lint', folder, '-o', 'sarif')).out, 'SIG1002');
    writeFileSync(file('policy.yaml'), POLICY);
    expect(place(moved)?.region?.startLine).toBe(13);
    expect(moved.partialFingerprints).toEqual(nobody.partialFingerprints);
  });

  it('name files below the working directory relative to it, which in CI is the repository', async () => {
    const { out } = await run('render', 'examples/payments', '--mesh', 'kuma', '-o', 'sarif', '--strict');
    expect(place(resultOf(out, 'SIG4002'))?.artifactLocation.uri).toMatch(
      /^examples\/payments\/[\w.-]+\.yaml$/,
    );
  });

  it('know every rule that lint has, with help', async () => {
    const { rules } = readSarif((await run('lint', folder, '-o', 'sarif')).out).tool.driver;
    for (const rule of rules as readonly { id: string; help: { text: string } }[]) {
      expect(rule.id).toMatch(/^SIG\d{4}$/);
      expect(rule.help.text.length).toBeGreaterThan(20);
    }
    expect(rules.map(({ id }) => id)).toEqual(expect.arrayContaining(['SIG1001', 'SIG1016', 'SIG2001']));
  });

  it('have ids that are never given twice', () => {
    const ids = REPORT_RULES.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect([...ids].sort()).toEqual(ids);
  });

  it('say what is wrong in files that cannot be used, and that the command could not do its work', async () => {
    mkdirSync(file('broken'));
    writeFileSync(file('broken/policy.yaml'), POLICY.replace('methods', 'method'));
    for (const [command, code] of [
      ['lint', 3],
      ['test', 3],
    ] as const) {
      const result = await run(command, file('broken'), '--trust-domain', 'td', '-o', 'sarif');
      expect(result.code).toBe(code);
      expect(result.err).toContain('[ResourcesInvalid]');
      expect(readSarif(result.out).invocations).toEqual([{ executionSuccessful: false }]);
      expect(place(resultOf(result.out, 'SIG2001'))?.region).toEqual({ startLine: 13, startColumn: 19 });
    }
    const validated = await run('resources', 'validate', file('broken'), '-o', 'sarif');
    expect(validated.code).toBe(1);
    expect(resultOf(validated.out, 'SIG2001').message.text).toContain('did you mean methods?');
    rmSync(file('broken'), { recursive: true });
  });

  it('of render name the rule that a mesh cannot say; --output text tells it on standard output', async () => {
    const argv = ['render', folder, '--mesh', 'networkpolicy', '--strict', '-o'] as const;
    const { code, out, err } = await run(...argv, 'sarif');
    expect({ code, err }).toEqual({ code: 1, err: '' });
    const lost = resultOf(out, 'SIG4002');
    expect(lost.level).toBe('error');
    expect(place(lost)?.region).toEqual({ startLine: 10, startColumn: 7 });
    const told = await run(...argv, 'text');
    expect(told.out).toContain('unsupported: shop/orders/web on shop/orders: ');
  });

  it('of test name the test that fails and the rules that none is decided by', async () => {
    writeFileSync(
      file('tests.yaml'),
      `apiVersion: signet.dev/v1alpha1
kind: PolicyTest
metadata: { name: orders, namespace: shop }
spec:
  tests:
    - name: fine
      request: { from: shop/web, to: shop/orders, port: 8080, http: { method: PUT, path: / } }
      expect: Deny
    - name: web reads
      request: { from: shop/web, to: shop/orders, port: 8080, http: { method: POST, path: / } }
      expect: Allow
`,
    );
    const { code, out } = await run('test', folder, '-o', 'sarif');
    rmSync(file('tests.yaml'));
    expect(code).toBe(1);
    expect(place(resultOf(out, 'SIG3001'))?.region).toEqual({ startLine: 9, startColumn: 7 });
    const uncovered = resultOf(out, 'SIG3002');
    expect(uncovered.level).toBe('note');
    expect(place(uncovered)?.region).toEqual({ startLine: 10, startColumn: 7 });
  });

  it('of diff name the rule that opens something', async () => {
    const after = mkdtempSync(join(tmpdir(), 'signet-after-'));
    writeFileSync(join(after, 'cluster.yaml'), CLUSTER);
    writeFileSync(join(after, 'policy.yaml'), POLICY.replace('[GET]', '[GET, PUT]'));
    const { code, out } = await run('diff', folder, after, '-o', 'sarif');
    expect(code).toBe(1);
    const gained = resultOf(out, 'SIG5001');
    expect(gained.message.text).toContain('PUT');
    expect(place(gained)).toMatchObject({
      artifactLocation: { uri: `file://${join(after, 'policy.yaml')}` },
      region: { startLine: 10 },
    });
    rmSync(after, { recursive: true });
  });

  it('are refused by the check where they are no SARIF', () => {
    const log = (run: object): string => JSON.stringify({ version: '2.1.0', runs: [run] });
    const tool = { driver: { name: 'signet', rules: [{ id: 'A' }] } };
    const result = { ruleId: 'A', ruleIndex: 0, message: { text: 'x' }, partialFingerprints: { p: '1' } };
    expect(readSarif(log({ tool, results: [result] })).results).toHaveLength(1);
    for (const wrong of [
      { results: [result] },
      { tool, results: [{ ...result, level: 'info' }] },
      { tool, results: [{ ...result, ruleIndex: 1 }] },
      { tool, results: [{ ...result, message: {} }] },
      { tool, results: [result, result] },
      { tool, results: [{ ...result, lines: 1 }] },
      {
        tool,
        results: [{ ...result, locations: [{ physicalLocation: { artifactLocation: { uri: 'a b' } } }] }],
      },
    ]) {
      expect(() => readSarif(log(wrong))).toThrow();
    }
  });
});

describe('standard input', () => {
  const signet = (
    input: string,
    ...argv: readonly string[]
  ): { code: number | null; out: string; err: string } => {
    const [program, ...rest] = signetCommand(argv);
    const done = spawnSync(program, rest, { input, encoding: 'utf8' });
    return { code: done.status, out: done.stdout, err: done.stderr };
  };
  const whole = `${CLUSTER}---\n${POLICY}`;

  it('is read by every command that reads resources', () => {
    const first = CLUSTER.split('\n').length;
    expect(signet(whole, 'lint', '-')).toMatchObject({ code: 0, err: '' });
    expect(signet(whole, 'resources', 'validate', '-').out).toContain('0 errors');
    expect(signet(whole, 'graph', '-').out).toContain('digraph access');
    expect(signet(whole, 'render', '-', '--mesh', 'istio').out).toContain('kind: AuthorizationPolicy');
    expect(signet(whole, 'test', '-')).toMatchObject({
      code: 1,
      out: expect.stringMatching(/^no PolicyTest was found$/m),
    });
    expect(
      signet(whole, 'explain', '-', '--from', 'shop/web', '--to', 'shop/orders', '--method', 'GET').out,
    ).toMatch(/^ALLOWED/);
    expect(signet(whole.replace('methods', 'method'), 'lint', '-').err).toContain(
      `stdin:${first + 13}:19: AccessPolicy shop/orders spec.rules[0].to[0].http.method`,
    );
  });

  it('is one side of a diff, and the log or the workloads of a suggestion, but never two things at once', () => {
    const folder = mkdtempSync(join(tmpdir(), 'signet-stdin-'));
    const path = join(folder, 'all.yaml');
    writeFileSync(path, whole);
    expect(signet(whole, 'diff', path, '-')).toMatchObject({ code: 0, out: 'no access changes\n' });
    expect(signet(whole, 'diff', '-', path)).toMatchObject({ code: 0 });
    const twice = signet(whole, 'diff', '-', '-');
    expect(twice.code).toBe(3);
    expect(twice.err).toContain('[StdinTwice]');
    const log = join(folder, 'log.json');
    const seen =
      '{"source":"spiffe://example.org/ns/shop/sa/web","target":"shop/orders","port":8080,"allowed":true}\n';
    writeFileSync(log, seen);
    expect(signet(whole, 'suggest', '-', '--log', log).out).toContain('kind: AccessPolicy');
    expect(JSON.parse(signet(seen, 'suggest', path, '--log', '-', '-o', 'json').out)).toMatchObject({
      kind: 'List',
    });
    rmSync(folder, { recursive: true });
  });

  it('is imported from, as folders are', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'signet-import-'));
    const policy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed, namespace: shop }
spec: { podSelector: {}, policyTypes: [Ingress] }
`;
    expect(signet(policy, 'import', 'networkpolicy', '-').out).toContain('kind: AccessPolicy');
    mkdirSync(join(folder, 'below'));
    writeFileSync(join(folder, 'below', 'policy.yaml'), policy);
    writeFileSync(join(folder, 'notes.txt'), 'a: [');
    const found = await run('import', 'networkpolicy', folder, '-o', 'json');
    expect(JSON.parse(found.out)).toMatchObject({ items: [{ metadata: { name: 'closed' } }] });
    rmSync(folder, { recursive: true });
  });
});

describe('options of meshes', () => {
  let path: string;
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'signet-meshes-'));
    path = join(folder, 'all.yaml');
    const rule = '    - { name: no, effect: Deny, from: [{ namespaces: [web] }] }\n';
    const pod = `---
apiVersion: v1
kind: Pod
metadata: { name: front, namespace: web, labels: { app: front } }
spec: { serviceAccountName: front, nodeName: n, containers: [{ name: c, image: i }] }
`;
    const caller = '    - { name: all, from: [{ serviceAccounts: [{ name: web }] }] }\n';
    const networks = '    - { name: net, from: [{ ipBlocks: ["203.0.113.0/24"] }] }\n';
    writeFileSync(path, `${CLUSTER}---\n${POLICY}${rule}${caller}${networks}${pod}`);
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const render = (mesh: string, ...more: readonly string[]) => run('render', path, '--mesh', mesh, ...more);
  const objects = (out: string): readonly Record<string, unknown>[] =>
    parseAllDocuments(out).map((document) => document.toJS() as Record<string, unknown>);

  it('render Deny rules as ClusterNetworkPolicy of a priority', async () => {
    expect((await render('networkpolicy')).out).not.toContain('ClusterNetworkPolicy');
    const found = objects((await render('networkpolicy', '--cluster-network-policy', '7')).out);
    expect(found).toContainEqual(
      expect.objectContaining({
        kind: 'ClusterNetworkPolicy',
        spec: expect.objectContaining({ priority: 7 }),
      }),
    );
    expect((await render('networkpolicy', '--cluster-network-policy', '1001')).code).toBe(2);
  });

  it('tell where pods are, and whether callers from outside may have identities', async () => {
    const lost = (err: string) => err.split('\n').filter((line) => line.includes('orders/net'));
    for (const mesh of ['networkpolicy', 'cilium']) {
      const plain = await render(mesh);
      const told = await render(mesh, '--pod-network', '10.0.0.0/8', '--no-outside-identities');
      expect(lost(plain.err).join()).toMatch(/^narrower|^unsupported/);
      expect(lost(told.err).join()).toMatch(/^exact/);
    }
    const wrong = await render('cilium', '--pod-network', '10.0.0.1/8');
    expect(wrong.code).toBe(2);
    expect(wrong.err).toContain('write "10.0.0.0/8"');
  });

  it('name the other options of a mesh', async () => {
    const has = async (text: string, ...argv: [string, ...string[]]): Promise<void> => {
      const [mesh] = argv;
      expect((await render(mesh)).out).not.toContain(text);
      expect(await render(...argv)).toMatchObject({ code: 0, out: expect.stringContaining(text) });
    };
    await has('namespace: mesh-root', 'istio', '--root-namespace', 'mesh-root');
    await has('- old.example/*', 'istio', '--trust-domain-alias', 'old.example');
    await has('kuma.io/mesh: blue', 'kuma', '--kuma-mesh', 'blue');
    await has('kind: XAuthorizationPolicy', 'gateway', '--gateway-kind', 'XAuthorizationPolicy');
    await has(
      'group: gateway.networking.k8s.io',
      'linkerd',
      '--linkerd-route-api',
      'gateway.networking.k8s.io',
    );
    await has('type: ServiceAccount', 'gateway', '--gateway-service-accounts');
    await has('namespace: policies', 'opa', '--opa-namespace', 'policies');
    await has('"jwtPayload":"other"', 'opa', '--jwt-payload', 'other');
    expect((await render('istio', '--trust-domain-alias', 'Not A Domain')).code).toBe(2);
  });

  /** The files of a ustar archive. */
  function unpack(archive: Buffer): ReadonlyMap<string, string> {
    const files = new Map<string, string>();
    const tar = gunzipSync(archive);
    for (let at = 0; tar[at] !== 0 && at < tar.length;) {
      const field = (start: number, length: number): string =>
        tar.toString('utf8', at + start, at + start + length).replace(/\0.*$/s, '');
      const size = Number.parseInt(field(124, 12), 8);
      files.set(field(0, 100).replace(/^\//, ''), tar.toString('utf8', at + 512, at + 512 + size));
      at += 512 + Math.ceil(size / 512) * 512;
    }
    return files;
  }

  it('write a bundle for OPA, signed by a key whose public half verifies it', async () => {
    const bundle = join(folder, 'bundle.tar.gz');
    const keyFile = join(folder, 'key.pem');
    const sign = async (key: KeyObject, ...more: readonly string[]) => {
      writeFileSync(keyFile, key.export({ type: 'pkcs8', format: 'pem' }));
      return render('opa', '--bundle', bundle, '--signing-key', keyFile, ...more);
    };
    const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const signed = await sign(ec.privateKey, '--signing-key-id', 'k1');
    expect(signed).toMatchObject({ code: 0, out: '', err: expect.stringContaining('shop/orders/web') });
    const files = unpack(readFileSync(bundle));
    const { signatures } = JSON.parse(files.get('.signatures.json') ?? '') as { signatures: [string] };
    const [header = '', payload = '', signature = ''] = signatures[0].split('.');
    expect(JSON.parse(Buffer.from(header, 'base64url').toString())).toMatchObject({
      alg: 'ES256',
      kid: 'k1',
    });
    const verify = createVerify('sha256').update(`${header}.${payload}`);
    const key = { key: ec.publicKey, dsaEncoding: 'ieee-p1363' as const };
    expect(verify.verify(key, Buffer.from(signature, 'base64url'))).toBe(true);
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as {
      files: { name: string; hash: string }[];
    };
    const rego = claims.files.find(({ name }) => name === 'signet/decision.rego');
    expect(rego?.hash).toBe(
      createHash('sha256')
        .update(files.get('signet/decision.rego') ?? '')
        .digest('hex'),
    );

    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
    expect((await sign(rsa.privateKey, '--signing-algorithm', 'PS256')).code).toBe(0);
    const mismatch = await sign(rsa.privateKey, '--signing-algorithm', 'ES256');
    expect(mismatch.code).toBe(3);
    expect(mismatch.err).toContain('ES256 needs a P-256 key [SigningKeyInvalid]');
    writeFileSync(keyFile, 'secret words');
    const broken = await render('opa', '--bundle', bundle, '--signing-key', keyFile);
    expect(broken.err).toContain('[SigningKeyInvalid]');
    expect(broken.err).not.toContain('secret words');
  });

  it('refuse a bundle for another mesh, and a key without a bundle', async () => {
    expect((await render('istio', '--bundle', join(folder, 'x'))).code).toBe(2);
    expect((await render('opa', '--signing-key', join(folder, 'x'))).code).toBe(2);
  });
});
