import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { until } from '../support/until.js';
import { startControlPlane, type AuditEntry, type ControlPlane } from './control-plane.js';
import type { KubeAnswer } from './kube-client.js';
import * as rig from './rig.js';

const root = join(import.meta.dirname, '../..');

interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec?: unknown;
}

/** What an API server makes of an object's review: only what is looked at. */
interface Review {
  readonly status: {
    readonly authenticated?: boolean;
    readonly error?: string;
    readonly audiences?: readonly string[];
    readonly user?: {
      readonly username?: string;
      readonly extra?: Readonly<Record<string, readonly string[]>>;
    };
  };
}

const yamlIn = (folder: string): string[] =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => readFileSync(join(root, folder, name), 'utf8'));

const signet = (kind: string, name: string, spec: unknown, namespace?: string): KubeObject => ({
  apiVersion: 'signet.dev/v1alpha1',
  kind,
  metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
  spec,
});

/** Of the kinds that examples/ has none of. */
const others = [
  signet('ClusterAccessPolicy', 'probes', {
    tier: 'Admin',
    target: { namespaces: ['payments'] },
    rules: [{ name: 'keep-out', effect: 'Deny', from: [{ ipBlocks: ['192.0.2.0/24'] }] }],
  }),
  signet('FederatedTrustDomain', 'partner', {
    trustDomain: 'partner.example',
    bundleEndpoint: { url: 'https://partner.example/bundle', profile: 'https_web' },
  }),
  signet('Revocation', 'stolen', {
    subject: { pod: { namespace: 'payments', name: 'order-service-0' } },
    reason: 'its node was stolen',
  }),
  signet(
    'AccessRequest',
    'look',
    {
      target: { podSelector: { matchLabels: { app: 'payment-service' } } },
      from: [{ serviceAccounts: [{ name: 'admin-service' }] }],
      duration: '1h',
      reason: 'incident 7',
    },
    'payments',
  ),
];

(rig.isSkipped('kubernetes') ? describe.skip : describe)('a real control plane', () => {
  let plane: ControlPlane;

  beforeAll(async () => {
    plane = await startControlPlane({ audit: true });
  }, rig.rigTimeout);
  afterAll(() => plane?.close());

  const create = (path: string, object: unknown): Promise<KubeAnswer> => plane.request('POST', path, object);
  const created = async (path: string, object: unknown): Promise<void> => {
    const { status, body } = await create(path, object);
    expect([status, (body as { readonly message?: string }).message]).toEqual([201, undefined]);
  };
  const review = async (token: string, audience: string): Promise<Review['status']> => {
    const object = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview' };
    const spec = { token, audiences: [audience] };
    const { body } = await create('/apis/authentication.k8s.io/v1/tokenreviews', { ...object, spec });
    return (body as Review).status;
  };
  const audited = async (what: string, wanted: (entry: AuditEntry) => boolean): Promise<AuditEntry[]> =>
    until(what, async () => {
      const found = (await plane.auditLog()).filter(wanted);
      return found.length > 0 && found;
    });

  it('is what go.mod pins, by its own word, and serves what we need of certificates.k8s.io', async () => {
    const pinned = /k8s\.io\/kubernetes (v\S+)/.exec(
      readFileSync(join(root, 'test/rig/engines/kubernetes/go.mod'), 'utf8'),
    );
    const { stdout } = await plane.kubectl(['version', '-o', 'json']);
    expect(JSON.parse(stdout)).toMatchObject({
      clientVersion: { gitVersion: pinned?.[1] },
      serverVersion: { gitVersion: pinned?.[1], major: '1' },
    });
    for (const version of ['v1', 'v1beta1']) {
      const { body } = await plane.request('GET', `/apis/certificates.k8s.io/${version}`);
      const { resources } = body as { readonly resources: readonly { readonly name: string }[] };
      expect(resources.map(({ name }) => name)).toEqual(
        expect.arrayContaining(['podcertificaterequests', 'clustertrustbundles']),
      );
    }
  });

  it('establishes our CRDs, and has nothing against their schemas', async () => {
    expect(await plane.kubectl(['apply', '-f', join(root, 'crds')])).toMatchObject({ code: 0, stderr: '' });
    const names = yamlIn('crds').map((text) => (parse(text) as KubeObject).metadata.name);
    expect(names).toHaveLength(9);
    for (const name of names) {
      const conditions = await until(`${name} established`, async () => {
        const { body } = await plane.request(
          'GET',
          `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${name}`,
        );
        const { conditions = [] } = (
          body as { status: { conditions?: { readonly type: string; readonly status: string }[] } }
        ).status;
        return conditions.some(({ type }) => type === 'Established') && conditions;
      });
      expect(conditions.map(({ type, status }) => `${type}=${status}`).sort()).toEqual([
        'Established=True',
        'NamesAccepted=True',
      ]);
    }
  });

  it('takes an object of each of our kinds: all of examples/, and one of each other kind', async () => {
    const served = yamlIn('crds').map(
      (text) => (parse(text) as { spec: { names: { kind: string } } }).spec.names.kind,
    );
    const examples = ['examples/access', 'examples/payments']
      .flatMap(yamlIn)
      .flatMap((text) => parseAllDocuments(text).map((document) => document.toJS() as KubeObject))
      .filter(({ apiVersion, kind }) => !apiVersion.startsWith('signet.dev/') || served.includes(kind));
    const objects = [...examples, ...others];
    expect([...new Set(objects.map(({ kind }) => kind))]).toEqual(expect.arrayContaining(served));
    // Namespaces first: nothing is created in one that is not there yet.
    objects.sort((a, b) => Number(b.kind === 'Namespace') - Number(a.kind === 'Namespace'));
    const stdin = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
    expect(await plane.kubectl(['apply', '-f', '-'], { stdin })).toMatchObject({ code: 0, stderr: '' });
    const { stdout } = await plane.kubectl(['get', 'signet', '-A', '-o', 'name']);
    for (const { kind, metadata } of objects) {
      if (served.includes(kind))
        expect(stdout).toContain(`${kind.toLowerCase()}.signet.dev/${metadata.name}`);
    }
  });

  it('refuses a bad object with the message of our rule, at creation and at a change', async () => {
    const name = 'too-long';
    const stdin = JSON.stringify(
      signet('TrustDomain', name, { name: 'a.example', ttls: { x509Svid: '48h', authority: '24h' } }),
    );
    const refused = await plane.kubectl(['create', '-f', '-'], { stdin });
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('x509Svid is longer than authority: no SVID outlives the authority');
    const changed = await plane.request('PATCH', '/apis/signet.dev/v1alpha1/trustdomains/example.org', {
      spec: { name: 'elsewhere.example' },
    });
    expect(changed.status).toBe(422);
    expect(changed.body).toMatchObject({
      reason: 'Invalid',
      message: expect.stringContaining('the name of a trust domain cannot be changed') as unknown,
    });
  });

  it('gives tokens that say their pod and node, are good for their audience alone, and end with the pod', async () => {
    await created('/api/v1/nodes', { metadata: { name: 'n1' } });
    await created('/api/v1/namespaces/default/serviceaccounts', { metadata: { name: 'agent' } });
    const pods = '/api/v1/namespaces/default/pods';
    const containers = [{ name: 'c', image: 'none' }];
    await created(pods, {
      metadata: { name: 'agent-x' },
      spec: { serviceAccountName: 'agent', nodeName: 'n1', containers },
    });
    const account = { namespace: 'default', name: 'agent', boundPod: { name: 'agent-x' } };
    const token = await plane.serviceAccountToken({ ...account, audience: 'signet', seconds: 600 });
    const fresh = await plane.serviceAccountToken({ ...account, audience: 'signet' });
    expect(await review(token, 'signet')).toMatchObject({
      authenticated: true,
      audiences: ['signet'],
      user: {
        username: 'system:serviceaccount:default:agent',
        extra: {
          'authentication.kubernetes.io/pod-name': ['agent-x'],
          'authentication.kubernetes.io/node-name': ['n1'],
        },
      },
    });
    expect((await review(token, 'another')).authenticated).not.toBe(true);
    await plane.request('DELETE', `${pods}/agent-x?gracePeriodSeconds=0`);
    // One that was never reviewed: the API server remembers its good answers for 10 s.
    expect(await review(fresh, 'signet')).toMatchObject({ error: expect.any(String) as unknown });
    await expect(plane.serviceAccountToken({ ...account, name: 'nobody' })).rejects.toThrow('nobody');
  });

  it('knows its clients: service accounts and users by what RBAC and the node authorizer let them do', async () => {
    const kubeconfig = await plane.kubeconfigFor({ namespace: 'default', name: 'agent' });
    const who = await plane.kubectl(['auth', 'whoami', '-o', 'jsonpath={.status.userInfo.username}'], {
      kubeconfig,
    });
    expect(who.stdout).toBe('system:serviceaccount:default:agent');
    const node = await plane.credentialsOf({ name: 'system:node:n1', groups: ['system:nodes'] });
    expect((await plane.request('GET', '/api/v1/nodes/n1', undefined, node)).status).toBe(200);
    const stranger = await plane.credentialsOf({ name: 'stranger' });
    expect((await plane.request('GET', '/api/v1/nodes/n1', undefined, stranger)).status).toBe(403);
  });

  it('counts what was asked, by whom, and with what outcome', async () => {
    const writer = await plane.credentialsOf({ name: 'writer', groups: ['system:masters'] });
    const configMaps = '/api/v1/namespaces/default/configmaps';
    for (const name of ['one', 'two'])
      await plane.request('POST', configMaps, { metadata: { name } }, writer);
    await plane.request('POST', configMaps, { metadata: { name: 'two' } }, writer);
    await plane.request('GET', `${configMaps}/one`, undefined, writer);
    await audited('the last', ({ user, verb }) => user.username === 'writer' && verb === 'get');
    const all = await audited('all', ({ user }) => user.username === 'writer');
    expect(
      all.map(({ verb, objectRef, responseStatus }) => [verb, objectRef?.resource, responseStatus?.code]),
    ).toEqual([
      ['create', 'configmaps', 201],
      ['create', 'configmaps', 201],
      ['create', 'configmaps', 409],
      ['get', 'configmaps', 200],
    ]);
  });

  it('keeps its data, port and log when the API server or etcd is killed and started again', async () => {
    const path = '/api/v1/namespaces/default/configmaps/kept';
    await created('/api/v1/namespaces/default/configmaps', { metadata: { name: 'kept' }, data: { a: 'b' } });
    await plane.stopApiServer();
    await expect(plane.request('GET', path)).rejects.toThrow('ECONNREFUSED');
    await plane.startApiServer();
    expect(await plane.request('GET', path)).toMatchObject({ status: 200, body: { data: { a: 'b' } } });
    await plane.killEtcd();
    await plane.startEtcd();
    expect(await plane.request('PATCH', path, { data: { a: 'c' } })).toMatchObject({ status: 200 });
    expect(await plane.request('GET', path)).toMatchObject({ body: { data: { a: 'c' } } });
    await audited(
      'before and after',
      ({ objectRef, verb }) => objectRef?.name === 'kept' && verb === 'patch',
    );
    await audited('before and after', ({ objectRef, verb }) => objectRef?.name === 'one' && verb === 'get');
  });

  it('answers nothing while it is paused, and what was asked meanwhile afterwards', async () => {
    plane.pause('kube-apiserver');
    const asked = plane.request('GET', '/api/v1/namespaces/default');
    const limited = await plane.kubectl(['get', 'ns', '--request-timeout=300ms']);
    expect(limited.code).toBe(1);
    plane.resume('kube-apiserver');
    expect((await asked).status).toBe(200);
  });

  it('says what is wrong when it cannot start, and leaves nothing', async () => {
    const parentFolder = mkdtempSync(join(tmpdir(), 'rig-'));
    const start = startControlPlane({ parentFolder, apiServerArgs: ['--no-such-flag'] });
    await expect(start).rejects.toThrow('unknown flag: --no-such-flag');
    expect(readdirSync(parentFolder)).toEqual([]);
    rmdirSync(parentFolder);
  });

  it('runs beside another one, with the controllers, and removes all of it at the end', async () => {
    const second = await startControlPlane({ controllerManager: true });
    try {
      expect(second.server).not.toBe(plane.server);
      await second.request('POST', '/api/v1/namespaces', { metadata: { name: 'shop' } });
      const account = '/api/v1/namespaces/shop/serviceaccounts/default';
      await until('its service account', async () => (await second.request('GET', account)).status === 200);
      await second.request('DELETE', '/api/v1/namespaces/shop');
      await until(
        'its end',
        async () => (await second.request('GET', '/api/v1/namespaces/shop')).status === 404,
      );
      // 429 while it still reads them after its restart.
      const ours = '/apis/signet.dev/v1alpha1/trustdomains';
      await until('our kinds in the first', async () => (await plane.request('GET', ours)).status === 200);
      expect((await second.request('GET', ours)).status).toBe(404);
    } finally {
      await second.close();
    }
    expect(existsSync(second.folder)).toBe(false);
    await expect(second.request('GET', '/readyz')).rejects.toThrow('ECONNREFUSED');
  });
});
