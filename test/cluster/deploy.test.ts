import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { startControlPlane, type ControlPlane, type KubectlRun } from '../rig/control-plane.js';
import type { KubeAnswer } from '../rig/kube-client.js';
import * as rig from '../rig/rig.js';
import { until } from '../support/until.js';

/* What the manifests say, said by the API server that takes them. */

const root = join(import.meta.dirname, '../..');
const NAMESPACE = 'signet-system';
const AGENTS = 'signet-agents';

interface Named {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
}

interface PodObject extends Named {
  readonly spec: {
    readonly serviceAccountName: string;
    readonly priority?: number;
    readonly containers: readonly { readonly ports: readonly { readonly name: string }[] }[];
    readonly volumes: readonly { readonly name: string; readonly projected?: object }[];
  };
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('deploy/', () => {
  let plane: ControlPlane;
  const kubectl = (...args: readonly string[]): Promise<KubectlRun> =>
    plane.kubectl(args.map((arg) => arg.replace(/^(crds|deploy|examples\/.*)$/, (path) => join(root, path))));
  const listed = async (what: string, ...args: readonly string[]): Promise<readonly PodObject[]> => {
    const { stdout } = await kubectl('get', what, '-o', 'json', ...args);
    return (JSON.parse(stdout) as { readonly items: readonly PodObject[] }).items;
  };

  beforeAll(async () => {
    plane = await startControlPlane({ controllerManager: true });
  }, rig.rigTimeout);
  afterAll(() => plane?.close());

  it('is taken with the CRDs in one command, without a warning, and so are the examples', async () => {
    expect(await kubectl('apply', '-f', 'crds', '-f', 'deploy')).toMatchObject({ code: 0, stderr: '' });
    const crd = ['--for=condition=Established', 'crd', '--all', '--timeout=30s'];
    expect(await kubectl('wait', ...crd)).toMatchObject({ code: 0 });
    expect(await kubectl('apply', '-f', 'examples/payments')).toMatchObject({ code: 0, stderr: '' });
    // Whoever applies it again changes nothing.
    const kinds =
      'crds,deployments,daemonsets,poddisruptionbudgets,csidrivers,networkpolicies,trustdomains,workloadidentities,accesspolicies';
    const line = '{.kind} {.metadata.name} {.metadata.generation}{"\\n"}';
    const generations = async (): Promise<string> =>
      (await kubectl('get', kinds, '-A', '-o', `jsonpath={range .items[*]}${line}{end}`)).stdout;
    const before = await generations();
    expect(before).toContain('AccessPolicy payment-access 1\n');
    const again = await kubectl('apply', '-f', 'crds', '-f', 'deploy', '-f', 'examples/payments');
    expect(again).toMatchObject({ code: 0, stderr: '' });
    expect(again.stdout).not.toContain('created');
    expect(await generations()).toBe(before);
    expect(await kubectl('apply', '-f', 'examples/access')).toMatchObject({ code: 0, stderr: '' });
  }, 120_000);

  it('holds no field that the API server does not know', async () => {
    const strict = ['--dry-run=server', '--validate=strict'];
    expect(await kubectl('apply', ...strict, '-f', 'deploy')).toMatchObject({ code: 0, stderr: '' });
  }, 60_000);

  it('is a Kustomize base of the same objects', async () => {
    const { code, stdout, stderr } = await kubectl('kustomize', 'deploy');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const names = (text: string): string[] =>
      parseAllDocuments(text)
        .map((document) => document.toJS() as Named)
        .map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`)
        .sort();
    const applied = await kubectl('apply', '-k', 'deploy', '--dry-run=server', '-o', 'name');
    expect(applied).toMatchObject({ code: 0 });
    const plain = await kubectl('apply', '-f', 'crds', '-f', 'deploy', '--dry-run=client', '-o', 'json');
    const { items } = JSON.parse(plain.stdout) as { readonly items: readonly Named[] };
    const expected = items.map(
      ({ kind, metadata }) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`,
    );
    expect(names(stdout)).toEqual(expected.sort());
  }, 60_000);

  it('makes pods that the restrictions of their namespaces let in, which the Service and the budget find', async () => {
    await plane.request('POST', '/api/v1/nodes', {
      ...{
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name: 'n1', labels: { 'kubernetes.io/os': 'linux' } },
      },
    });
    const pods = await until('three servers and an agent', async () => {
      const all = [...(await listed('pods', '-n', NAMESPACE)), ...(await listed('pods', '-n', AGENTS))];
      return all.length >= 4 && all;
    });
    const byAccount = Object.groupBy(pods, ({ spec }) => spec.serviceAccountName);
    expect(Object.keys(byAccount).sort()).toEqual(['signet-agent', 'signet-server']);
    expect(byAccount['signet-server']).toHaveLength(3);
    // No token of the API server's in an agent: only the one for Signet's server.
    const [agent] = byAccount['signet-agent'] ?? [];
    expect(agent?.spec.volumes.filter(({ projected }) => projected !== undefined)).toEqual([
      {
        name: 'token',
        projected: {
          defaultMode: 420,
          sources: [
            { serviceAccountToken: { audience: 'signet-server', expirationSeconds: 3600, path: 'token' } },
          ],
        },
      },
    ]);
    for (const { spec } of pods) expect(spec.priority).toBeGreaterThan(1_000_000_000);
    const selected = await listed(
      'pods',
      '-A',
      '-l',
      'app.kubernetes.io/name=signet,app.kubernetes.io/component=server',
    );
    expect(selected).toHaveLength(3);
    const [service] = (await listed('services', '-n', NAMESPACE)) as unknown as readonly {
      readonly spec: {
        readonly selector: object;
        readonly ports: readonly { readonly port: number; readonly targetPort: string }[];
      };
    }[];
    expect(service?.spec.selector).toEqual({
      'app.kubernetes.io/name': 'signet',
      'app.kubernetes.io/component': 'server',
    });
    const ports = selected[0]?.spec.containers[0]?.ports.map(({ name }) => name);
    expect(service?.spec.ports.map(({ targetPort }) => targetPort)).toEqual(ports);
    for (const namespace of [NAMESPACE, AGENTS]) {
      const warnings = await kubectl('get', 'events', '-n', namespace, '-o', 'jsonpath={.items[*].reason}');
      expect(warnings.stdout).toContain('SuccessfulCreate');
      expect(warnings.stdout).not.toContain('FailedCreate');
    }
  }, 60_000);

  it('lets nobody but the controller of DaemonSets make an agent, or anything else that reaches into a node', async () => {
    const run = (namespace: string, spec: object): Promise<KubeAnswer> =>
      plane.request('POST', `/api/v1/namespaces/${namespace}/pods?dryRun=All`, {
        metadata: { name: 'p' },
        spec: {
          ...spec,
          containers: [{ name: 'c', image: 'none', ...('c' in spec ? (spec.c as object) : {}) }],
        },
      });
    const refused = async (namespace: string, spec: object): Promise<string> => {
      const { status, body } = await run(namespace, spec);
      return status === 201 ? 'taken' : (body as { readonly message: string }).message;
    };
    const hostPath = { volumes: [{ name: 'v', hostPath: { path: '/' } }] };
    // Which takes a moment to be in force.
    await until('the policy', async () => (await refused(AGENTS, hostPath)) !== 'taken');
    const onlyController = `only the controller of DaemonSets makes pods in ${AGENTS}`;
    for (const spec of [
      hostPath,
      { hostPID: true },
      { hostNetwork: true },
      { serviceAccountName: 'signet-agent' },
      { c: { securityContext: { privileged: true } } },
      { c: { securityContext: { capabilities: { add: ['SYS_ADMIN'] } } } },
    ]) {
      expect(await refused(AGENTS, spec)).toContain(onlyController);
      expect(await refused('default', { ...spec, serviceAccountName: 'default' })).toBe('taken');
    }
    expect(await refused(AGENTS, {})).toBe('taken');
    // Also where somebody has taken the label of the namespace away.
    await kubectl('label', 'namespace', NAMESPACE, 'pod-security.kubernetes.io/enforce-');
    const nothingOfNode = `pods in ${NAMESPACE} have no privileges and nothing of their node`;
    expect(await refused(NAMESPACE, hostPath)).toContain(nothingOfNode);
    expect(await refused(NAMESPACE, { c: { securityContext: { privileged: true } } })).toContain(
      nothingOfNode,
    );
    expect(await refused(NAMESPACE, {})).toBe('taken');

    // What runs is not turned into something else.
    const [agent] = await listed('pods', '-n', AGENTS);
    const path = `/api/v1/namespaces/${AGENTS}/pods/${agent?.metadata.name ?? ''}`;
    const changed = async (where: string, patch: object, of = path): Promise<string> => {
      const { status, body } = await plane.request('PATCH', `${of}${where}`, patch);
      return status === 200 ? 'taken' : (body as { readonly message: string }).message;
    };
    expect(await changed('', { metadata: { labels: { more: 'yes' } } })).toBe('taken');
    const name = agent?.metadata.name ?? '';
    const { stderr } = await kubectl('set', 'image', `pod/${name}`, 'agent=other', '-n', AGENTS);
    expect(stderr).toContain('the images of a running agent are not changed');
    const ephemeralContainers = [{ name: 'debug', image: 'other' }];
    expect(await changed('/ephemeralcontainers', { spec: { ephemeralContainers } })).toContain(
      'no container is added to a running pod',
    );
    const [server] = await listed('pods', '-n', NAMESPACE);
    const ofServer = `/api/v1/namespaces/${NAMESPACE}/pods/${server?.metadata.name ?? ''}`;
    for (const securityContext of [{ privileged: true }, { capabilities: { add: ['SYS_PTRACE'] } }]) {
      const debug = { spec: { ephemeralContainers: [{ name: 'debug', image: 'other', securityContext }] } };
      expect(await changed('/ephemeralcontainers', debug, ofServer)).toContain(nothingOfNode);
    }
    expect(await changed('/ephemeralcontainers', { spec: { ephemeralContainers } }, ofServer)).toBe('taken');
  }, 60_000);

  it('lets the owner of a namespace declare what is hers, and an agent do nothing', async () => {
    const can = async (
      who: string,
      verb: string,
      what: string,
      namespace: string,
      subresource = '',
    ): Promise<string> => {
      const asked = ['auth', 'can-i', verb, `${what}.signet.dev`, '-n', namespace];
      const run = await kubectl(...asked, `--as=${who}`, `--subresource=${subresource}`);
      return run.stdout.trim();
    };
    await kubectl('create', 'rolebinding', 'owner', '-n', 'payments', '--clusterrole=admin', '--user=ann');
    await kubectl('create', 'rolebinding', 'reader', '-n', 'payments', '--clusterrole=view', '--user=bob');
    await until(
      'the aggregated role',
      async () => (await can('ann', 'create', 'accesspolicies', 'payments')) === 'yes',
    );
    expect(await can('ann', 'create', 'workloadidentities', 'payments')).toBe('yes');
    expect(await can('ann', 'create', 'workloadidentities', 'default')).toBe('no');
    expect(await can('ann', 'create', 'clusterworkloadidentities', 'payments')).toBe('no');
    expect(await can('ann', 'update', 'workloadidentities', 'payments', 'status')).toBe('no');
    expect(await can('bob', 'list', 'accesspolicies', 'payments')).toBe('yes');
    expect(await can('bob', 'create', 'accesspolicies', 'payments')).toBe('no');

    const agent = `--as=system:serviceaccount:${AGENTS}:signet-agent`;
    const { stdout } = await kubectl(
      'auth',
      'can-i',
      '--list',
      agent,
      '--as-group=system:authenticated',
      '--no-headers',
    );
    const rights = stdout.split('\n').filter((line) => line.trim() !== '' && !line.includes('[get]'));
    // What everybody may: ask who he is, and what he may.
    expect(rights.map((line) => line.split(/\s+/, 1)[0]).sort()).toEqual([
      'selfsubjectaccessreviews.authorization.k8s.io',
      'selfsubjectreviews.authentication.k8s.io',
      'selfsubjectrulesreviews.authorization.k8s.io',
    ]);
  }, 60_000);
});
