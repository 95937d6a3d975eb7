import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { buildProgram, runProgram } from '../../src/cli/program.js';
import { systemClock } from '../../src/lib/clock.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import {
  create,
  prepareCluster,
  startClusterServer,
  SYSTEM,
  type ClusterServer,
} from '../support/cluster-server.js';
import { until } from '../support/until.js';

/* `signet status` and `signet agents`, asked of a real API server. What a kubelet tells is put there by hand. */

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('the state of an installation', () => {
  let plane: ControlPlane;
  let server: ClusterServer | undefined;

  const signet = (...args: readonly string[]): Promise<Outcome> => signetAs(plane.kubeconfig, ...args);
  const signetAs = async (kubeconfig: string, ...args: readonly string[]): Promise<Outcome> => {
    const text = { stdout: '', stderr: '' };
    const io = {
      clock: systemClock,
      environment: {},
      stdout: (more: string) => void (text.stdout += more),
      stderr: (more: string) => void (text.stderr += more),
      signal: new AbortController().signal,
    };
    const argv = [...args, '--kubeconfig', kubeconfig];
    const code = await runProgram(buildProgram(io, '0'), argv, io);
    return { code, ...text };
  };

  /** An agent's pod with what its kubelet would say of it. */
  const agentPod = async (node: string, ready: boolean, waiting?: object): Promise<void> => {
    const labels = { 'app.kubernetes.io/name': 'signet', 'app.kubernetes.io/component': 'agent' };
    const pods = `/api/v1/namespaces/${SYSTEM}/pods`;
    const name = `signet-agent-${node}`;
    await create(plane, pods, {
      metadata: { name, labels },
      spec: {
        nodeName: node,
        containers: [{ name: 'agent', image: 'signet:1', ports: [{ name: 'http', containerPort: 8080 }] }],
      },
    });
    const status = {
      phase: 'Running',
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
      containerStatuses: [
        {
          ...{ name: 'agent', ready, restartCount: 2, image: 'signet:1', imageID: '' },
          state: waiting === undefined ? { running: {} } : { waiting },
        },
      ],
    };
    const answer = await plane.request('PATCH', `${pods}/${name}/status`, { status });
    expect(answer.status).toBe(200);
  };

  beforeAll(async () => {
    plane = await startControlPlane({ controllerManager: true });
  }, rig.rigTimeout);
  afterAll(async () => {
    await server?.stop();
    await plane?.close();
  });

  it('says that Signet is not installed where it is not', async () => {
    const { code, stderr } = await signet('status');
    expect({ code, stderr }).toEqual({
      code: 3,
      stderr: expect.stringContaining('Signet is not installed') as unknown,
    });
    expect(await signet('agents')).toEqual({
      code: 0,
      stdout: 'no agent runs in this cluster\n',
      stderr: '',
    });
  });

  it('lists whatever is not as it should be, and says so by its exit code', async () => {
    await prepareCluster(plane, 'status.test');
    const { code, stdout } = await signet('status');
    expect(code).toBe(1);
    expect(stdout).toContain('server: Missing: no Deployment of the server is there');
    expect(stdout).toContain('TrustDomain main: NotSeen: no server has said anything of it yet');
  }, 60_000);

  it('tells authorities, parts and resources once a server has looked at them', async () => {
    server = startClusterServer(plane, 'one');
    await server.ready;
    await until('authorities are told', async () =>
      (await signet('status')).stdout.includes('authority until'),
    );
    const { stdout } = await signet('status');
    expect(stdout).toMatch(/^trust domain status\.test\n {2}X\.509 authority until .* \(in /);
    expect(stdout).not.toContain('NotSeen');
    const json = JSON.parse((await signet('status', '-o', 'json')).stdout) as {
      readonly resources: readonly {
        readonly kind: string;
        readonly count: number;
        readonly ready: number;
      }[];
    };
    expect(json.resources).toContainEqual({ kind: 'TrustDomain', count: 1, ready: 1 });
  }, 60_000);

  it('lists agents by node, with why one is not ready, and nothing that moves a cursor', async () => {
    await create(plane, '/api/v1/nodes', { metadata: { name: 'a' } });
    await create(plane, '/api/v1/nodes', { metadata: { name: 'b' } });
    await create(plane, `/api/v1/namespaces/${SYSTEM}/serviceaccounts`, { metadata: { name: 'default' } });
    await agentPod('b', true);
    await agentPod('a', false, { reason: 'CrashLoopBackOff', message: 'back-off \u001b[2J restarting' });
    const { code, stdout } = await signet('agents');
    expect(code).toBe(1);
    const [header = '', first = '', second = '', why = ''] = stdout.split('\n');
    expect(header).toMatch(/^NODE +AGENT +READY +CONNECTED/);
    expect(first).toMatch(/^a +signet-system\/signet-agent-a +no +\? /);
    expect(second).toMatch(/^b +signet-system\/signet-agent-b +yes +\? .* 2 +\d+s$/);
    expect(why).toBe('signet-agent-a: CrashLoopBackOff: back-off \\u001b[2J restarting');
    expect(stdout).toContain('pods/proxy');
    const status = await signet('status');
    expect(status.stdout).toContain(
      'agent pod signet-system/signet-agent-a on node a: NotReady: CrashLoopBackOff',
    );
    expect(status.stdout).not.toContain('\u001b');
  }, 60_000);

  it('says which pods get which SPIFFE ID, and why one gets none', async () => {
    await create(plane, '/apis/signet.dev/v1alpha1/clusterworkloadidentities', {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'ClusterWorkloadIdentity', metadata: { name: 'on-a' } },
      spec: { podSelector: { matchLabels: { listed: 'yes' } } },
    });
    for (const [name, labels] of Object.entries({ told: { listed: 'yes' }, other: {} }))
      await create(plane, '/api/v1/namespaces/default/pods', {
        metadata: { name, labels },
        spec: { nodeName: 'a', containers: [{ name: 'main', image: 'x' }] },
      });
    const { code, stdout } = await signet('svid', 'list', '-n', 'default', '-o', 'json');
    expect(code).toBe(0);
    const { svids } = JSON.parse(stdout) as { readonly svids: readonly object[] };
    expect(svids).toEqual([
      {
        ...{ namespace: 'default', pod: 'other', node: 'a' },
        reason: expect.stringContaining('no identity selects') as unknown,
      },
      {
        ...{ namespace: 'default', pod: 'told', node: 'a', x509TTL: '1h' },
        spiffeID: 'spiffe://status.test/ns/default/sa/default',
        identity: 'ClusterWorkloadIdentity on-a',
      },
    ]);
  }, 60_000);

  it('says which right is missing', async () => {
    await create(plane, `/api/v1/namespaces/${SYSTEM}/serviceaccounts`, { metadata: { name: 'nobody' } });
    const kubeconfig = await plane.kubeconfigFor({ namespace: SYSTEM, name: 'nobody' });
    const { code, stderr } = await signetAs(kubeconfig, 'agents');
    expect(code).toBe(3);
    expect(stderr).toContain('you may not list pods in all namespaces');
    expect(stderr).toContain('ClusterRole with the verb list');
  });
});
