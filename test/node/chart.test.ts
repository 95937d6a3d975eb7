import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Json } from '../rig/envoy-config.js';
import { IMAGES } from '../rig/images.js';
import type { ProgramRun } from '../rig/node.js';
import { isSkipped, rigTimeout } from '../rig/rig.js';
import { until } from '../support/until.js';
import { CLIENT_PORT, istioClient, istioPod, istioServer, PROXY_PORT } from './support/istio-proxies.js';
import { AGENT_NAMESPACE, SERVER_NAMESPACE, startNodeWorld, type NodeWorld } from './support/world.js';

/* What docs/install.md and docs/guides/injection.md promise, in their order: the life of one installation. */

const run = promisify(execFile);
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const LIMIT = 120_000;
const RELEASE = ['signet', `--namespace=${SERVER_NAMESPACE}`];
const VALUES = { server: { replicas: 3 }, injector: { proxy: { image: IMAGES.envoy } } };
const PAY = 'POST';
const REMOVE = 'DELETE';

interface Call {
  readonly method: string;
  readonly status?: number;
  readonly error?: string;
}

/** The example's manifests with the image of the tests, in the order in which the guide applies them. */
async function example(): Promise<string> {
  const folder = join(root, 'examples', 'payments-cluster');
  const texts = (await readdir(folder)).sort().map((name) => readFile(join(folder, name), 'utf8'));
  return (await Promise.all(texts))
    .join('\n---\n')
    .replaceAll('registry.example.org/signet:0.1.0', IMAGES.signet);
}

(isSkipped('node') ? describe.skip : describe)('an installation by the chart', () => {
  let world: NodeWorld;

  const jsonPath = (query: string, ...args: string[]): Promise<string> =>
    world.kubectl('get', ...args, `--output=jsonpath=${query}`);
  /** What order-service has called, oldest first. */
  const calls = async (): Promise<readonly Call[]> => {
    const log = await world.kubectl('logs', '--namespace=payments', 'deployment/order-service');
    // The last line may be in the middle of being written.
    const lines = log.slice(0, log.lastIndexOf('\n') + 1).split('\n');
    const events = lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Call);
    return events.filter(({ method }) => method === PAY || method === REMOVE);
  };
  /** Waits until the newest call of a method ends so. */
  const callsEnd = (method: string, status: number): Promise<boolean> =>
    until(
      `${method} of order-service that ends with ${status}`,
      async () => (await calls()).findLast((call) => call.method === method)?.status === status,
      LIMIT,
    );
  const explain = (action: string): Promise<{ readonly code: number; readonly text: string }> => {
    const asked = ['--from', 'payments/order-service', '--to', 'payments/payment-service'];
    const args = ['explain', ...asked, '--action', action, '--resource', 'payment/1'];
    return new Promise((resolve) => {
      execFile(
        process.execPath,
        [join(root, 'bin', 'signet'), ...args, '--kubeconfig', world.cluster.kubeconfig],
        (error, stdout, stderr) => {
          resolve({ code: Number(error?.code ?? 0), text: stdout + stderr });
        },
      );
    });
  };
  /** Pods by UID, so that another pod of the same name is seen. */
  const podsOf = async (namespace: string): Promise<readonly string[]> =>
    (await jsonPath('{.items[*].metadata.uid}', 'pods', `--namespace=${namespace}`)).split(' ').sort();
  /** The Secrets of the authorities, with all that is in them. */
  const secrets = (): Promise<string> =>
    jsonPath(
      '{range .items[*]}{.metadata.uid} {.metadata.name} {.data}{"\\n"}{end}',
      ...['secrets', `--namespace=${SERVER_NAMESPACE}`, '--field-selector=type!=helm.sh/release.v1'],
    );

  beforeAll(async () => {
    world = await startNodeWorld({ envoy: true, install: VALUES });
  }, rigTimeout);
  afterAll(() => world.close());

  it('has three servers that are ready when helm comes back, and passes helm test', async () => {
    const ready =
      '{range .items[*].status.containerStatuses[*]}{.ready} after {.restartCount} restarts\n{end}';
    const servers = await jsonPath(ready, 'pods', `--namespace=${SERVER_NAMESPACE}`);
    // Nor has a slow start been taken for a server that hangs.
    expect(servers.trim().split('\n')).toEqual(Array(3).fill('true after 0 restarts'));
    const said = await world.helm('test', ...RELEASE, '--logs', '--timeout=120s');
    expect(said).toMatch(/Phase:\s+Succeeded/);
    expect(said).toContain('spiffe://example.org/');
  });

  it('decides on the calls of the example, and `signet explain` says the same of the cluster', async () => {
    const { code, stderr } = await world.cluster.kubectl(['apply', '-f', '-'], { stdin: await example() });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const name of ['payment-service', 'order-service'])
      await world.kubectl('rollout', 'status', '-n', 'payments', `deployment/${name}`, '--timeout=120s');
    await callsEnd(PAY, 200);
    await callsEnd(REMOVE, 403);
    expect(await explain('create')).toMatchObject({ code: 0, text: expect.stringMatching(/^ALLOWED/) });
    expect(await explain('delete')).toMatchObject({ code: 1, text: expect.stringMatching(/^DENIED/) });
  });

  it('shows in `kubectl signet logs` which calls were denied, and why', async () => {
    const plugin = join(root, 'bin', 'kubectl-signet');
    const env = { ...process.env, KUBECONFIG: world.cluster.kubeconfig };
    const { stdout, stderr } = await run(plugin, ['logs', '--to=payments/payment-service', '-o', 'json'], {
      env,
    });
    expect(stderr).toBe('');
    const denied = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, string>);
    expect(new Set(denied.map(({ outcome, operation }) => `${outcome} ${operation}`))).toEqual(
      new Set(['denied delete payment 1']),
    );
    expect(denied[0]).toMatchObject({
      ...{ source: 'spiffe://example.org/ns/payments/sa/order-service', node: world.cluster.nodeName },
      reason: expect.stringContaining('payment-access'),
    });
  });

  it('answers by the new policy as soon as it is edited, both ways', async () => {
    const edit = async (patch: unknown): Promise<void> => {
      const target = ['accesspolicy', 'payment-access', '--namespace=payments'];
      await world.kubectl('patch', ...target, '--type=json', `--patch=${JSON.stringify([patch])}`);
    };
    const actions = '/spec/rules/0/to/0/actions';
    await edit({ op: 'add', path: `${actions}/-`, value: 'delete' });
    await callsEnd(REMOVE, 200);
    expect(await explain('delete')).toMatchObject({ code: 0, text: expect.stringMatching(/^ALLOWED/) });
    await edit({ op: 'replace', path: actions, value: ['create'] });
    await callsEnd(REMOVE, 403);
    expect(await explain('delete')).toMatchObject({ code: 1 });
  });

  it('rolls servers and agent in an upgrade without one call that fails', async () => {
    const [servers, agents] = await Promise.all([podsOf(SERVER_NAMESPACE), podsOf(AGENT_NAMESPACE)]);
    const before = (await calls()).length;
    const values = ['--set', 'server.logLevel=debug', '--set', 'agent.logLevel=debug'];
    const chart = join(root, 'charts', 'signet');
    const rest = [`--namespace=${SERVER_NAMESPACE}`, '--reuse-values', '--wait', '--timeout=170s'];
    await world.helm('upgrade', 'signet', chart, ...rest, ...values);
    const [newServers, newAgents] = await until(
      'pods that are all new',
      async () => {
        const now = [await podsOf(SERVER_NAMESPACE), await podsOf(AGENT_NAMESPACE)] as const;
        // The pod of `helm test` stays.
        return now[0].length === servers.length && now[1].length === 1 ? now : false;
      },
      LIMIT,
    );
    expect(newServers.filter((uid) => servers.includes(uid))).toHaveLength(1);
    expect(newAgents).not.toEqual(agents);
    const during = (await calls()).length;
    expect(during).toBeGreaterThan(before + 2);
    // And some calls more that only the new ones serve.
    const made = await until(
      'further calls',
      async () => {
        const all = await calls();
        return all.length >= during + 6 ? all.slice(before) : false;
      },
      LIMIT,
    );
    expect(made.filter(({ method, status }) => status !== (method === PAY ? 200 : 403))).toEqual([]);
  });

  describe('with a namespace that asks for injection', () => {
    const NODE = ['/usr/bin/node', '--input-type=module', '--eval'];
    const IDLE = 'setInterval(() => undefined, 1000000)';
    const SERVE = `
      import { createServer } from 'node:http';
      createServer((request, response) => response.end('for ' + request.url)).listen(8080, '127.0.0.1');`;
    const injected = (name: string, program: string, annotations = {}): Promise<void> =>
      world.applyPod({
        ...{ name, namespace: 'shop', serviceAccount: name, labels: { app: name, team: 'shop' } },
        ...{ annotations, image: IMAGES.signet, command: [...NODE, program] },
      });
    const proxied = (name: string, program: string, annotations: object): Promise<void> =>
      injected(name, program, { 'signet.dev/inject-proxy': 'true', ...annotations });
    /** What a pod is answered over plain HTTP: status and text; a code other than 0 where there is no answer. */
    const get = (name: string, url: string): Promise<ProgramRun> => {
      const script = `const a = await fetch('${url}'); console.log(a.status, await a.text())`;
      return world.exec(name, [...NODE, script], 'shop');
    };
    const web = 'spiffe://example.org/ns/shop/sa/web';
    const outbound = { 'signet.dev/proxy-outbound': `9001=web.shop.svc:8080=${web}` };

    beforeAll(async () => {
      const metadata = { namespace: 'shop' };
      const labels = { 'signet.dev/inject': 'enabled', 'pod-security.kubernetes.io/enforce': 'restricted' };
      const accounts = ['plain', 'web', 'front', 'other'].map((name) => ({
        ...{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { ...metadata, name } },
      }));
      await world.apply(
        { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', labels } },
        ...accounts,
        {
          ...{ apiVersion: 'v1', kind: 'Service', metadata: { ...metadata, name: 'web' } },
          spec: { selector: { app: 'web' }, ports: [{ port: 8080 }] },
        },
        {
          apiVersion: 'signet.dev/v1alpha1',
          ...{ kind: 'WorkloadIdentity', metadata: { ...metadata, name: 'shop' } },
          spec: {
            podSelector: { matchLabels: { team: 'shop' } },
            spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}',
          },
        },
        {
          apiVersion: 'signet.dev/v1alpha1',
          ...{ kind: 'AccessPolicy', metadata: { ...metadata, name: 'web' } },
          spec: {
            target: { podSelector: { matchLabels: { app: 'web' } } },
            rules: [
              {
                name: 'front-reads',
                from: [{ serviceAccounts: [{ name: 'front' }] }],
                to: [{ ports: [8080], http: { methods: ['GET'], paths: [{ exact: '/items' }] } }],
              },
            ],
          },
        },
      );
    }, LIMIT);

    it('gives a pod that says nothing its SVID, and makes it ready by the gate', async () => {
      await injected('plain', IDLE);
      await world.podIs('signet.dev/identity', 'plain', 'shop');
      await world.podIs('Ready', 'plain', 'shop');
      const gates = await jsonPath('{.spec.readinessGates[*].conditionType}', 'pod', 'plain', '-n', 'shop');
      expect(gates).toBe('signet.dev/identity');
      const fetch = ['/usr/bin/node', '/opt/signet/bin/signet', 'svid', 'fetch'];
      const { code, stdout } = await world.exec('plain', fetch, 'shop');
      expect(code).toBe(0);
      expect(stdout).toContain('spiffe://example.org/ns/shop/sa/plain');
    });

    it('has plain programs called by mutual TLS alone, and by whom the policy allows', async () => {
      await proxied('web', SERVE, { 'signet.dev/proxy-inbound': '8080:8080' });
      await proxied('front', IDLE, outbound);
      await proxied('other', IDLE, outbound);
      for (const name of ['web', 'front', 'other']) await world.podIs('Ready', name, 'shop');
      const answer = { code: 0, stdout: '200 for /items\n' };
      const forbidden = { code: 0, stdout: expect.stringMatching(/^403/) };
      expect(await get('front', 'http://127.0.0.1:9001/items')).toMatchObject(answer);
      expect(await get('front', 'http://127.0.0.1:9001/admin')).toMatchObject(forbidden);
      expect(await get('other', 'http://127.0.0.1:9001/items')).toMatchObject(forbidden);
      // The program is there, but not for those who come without TLS.
      const address = await jsonPath('{.status.podIP}', 'pod', 'web', '--namespace=shop');
      expect(await get('web', 'http://127.0.0.1:8080/items')).toMatchObject(answer);
      expect(await get('front', `http://${address}:8080/items`)).toMatchObject({ code: 1, stdout: '' });
    });
  });

  it('gives Envoys their secrets where Istio’s proxies look for those of SPIRE', async () => {
    const labels = { app: 'mesh' };
    const id = (name: string): string => `spiffe://example.org/ns/default/sa/${name}`;
    await world.apply(
      ...['istio-server', 'istio-client'].map((name) => ({
        ...{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace: 'default' } },
      })),
      {
        ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'WorkloadIdentity' },
        metadata: { name: 'mesh', namespace: 'default' },
        spec: {
          podSelector: { matchLabels: labels },
          spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}',
        },
      },
    );
    const start = async (name: string, config: Json): Promise<void> => {
      const [configMap, pod] = istioPod(name, labels, config);
      await world.apply(configMap);
      await world.applyPod({ ...pod, serviceAccount: name });
      await world.podIs('Ready', name);
    };
    await start('istio-server', istioServer);
    const address = await jsonPath('{.status.podIP}', 'pod', 'istio-server', '--namespace=default');
    await start('istio-client', istioClient(address, id('istio-server')));
    const get = (url: string): Promise<ProgramRun> =>
      world.exec('istio-client', ['wget', '-S', '-O', '-', url]);
    const answer = await until(
      'an answer through both proxies',
      async () => {
        const { code, stderr } = await get(`http://127.0.0.1:${CLIENT_PORT}/`);
        return code === 0 ? stderr : false;
      },
      LIMIT,
    );
    expect(answer).toContain(`x-peer: ${id('istio-client')}`);
    expect(answer).toContain(`x-server: ${id('istio-server')}`);
    // Who comes without a certificate of the trust domain gets nothing.
    const { code, stderr } = await get(`http://${address}:${PROXY_PORT}/`);
    expect(code).not.toBe(0);
    expect(stderr).not.toContain('200');
  });

  it('leaves on removal what would be lost for good, and installed again it goes on with it', async () => {
    const kept = await secrets();
    expect(kept).not.toBe('');
    const state = async (): Promise<readonly string[]> => {
      const pods = '{range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount} {end}';
      return Promise.all([
        jsonPath('{.metadata.uid}', 'trustdomain', 'example.org'),
        jsonPath('{.items[*].metadata.uid}', 'workloadidentities,accesspolicies', '--all-namespaces'),
        jsonPath(pods, 'pods', '--namespace=payments'),
        jsonPath(pods, 'pods', '--namespace=shop'),
      ]);
    };
    const before = await state();
    await world.kubectl('label', 'namespace', 'shop', 'signet.dev/inject-');
    await world.helm('uninstall', ...RELEASE, '--wait', '--timeout=120s');
    expect(await world.kubectl('get', 'csidriver,mutatingwebhookconfiguration,clusterrole')).not.toMatch(
      /signet/,
    );
    expect(await world.kubectl('get', 'namespaces')).not.toContain(AGENT_NAMESPACE);
    await callsEnd(PAY, 403);
    expect({ secrets: await secrets(), state: await state() }).toEqual({ secrets: kept, state: before });
    // What comes and goes meanwhile waits.
    await world.applyPod({ name: 'early', labels: { app: 'mesh' }, volume: { files: 'pem' } });
    await world.kubectl('delete', 'pod', 'istio-client', '--wait=false');
    await until(
      'an event that names the driver',
      async () =>
        (await world.eventsOf('early')).some((event) => /FailedMount.*csi\.signet\.dev/.test(event)),
      LIMIT,
    );
    expect((await world.pod('early')).status.phase).toBe('Pending');

    await world.installSignet(VALUES);
    await callsEnd(PAY, 200);
    expect({ secrets: await secrets(), state: await state() }).toEqual({ secrets: kept, state: before });
    await world.podIs('Ready', 'early');
    const pods = (): Promise<string> => jsonPath('{.items[*].metadata.name}', 'pods', '--namespace=default');
    await until(
      'the end of the pod that was deleted',
      async () => !(await pods()).includes('istio-client'),
      LIMIT,
    );
  }, 300_000);
});
