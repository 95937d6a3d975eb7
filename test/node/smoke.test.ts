import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { IMAGES } from '../rig/images.js';
import { until } from '../support/until.js';
import { isSkipped, rigTimeout } from '../rig/rig.js';
import {
  AGENT_NAMESPACE,
  SERVER_NAMESPACE,
  startNodeWorld,
  TRUST_DOMAIN,
  type NodeWorld,
} from './support/world.js';

const run = promisify(execFile);

/* Installed by its chart into a real cluster, Signet gives a pod its identity. */

(isSkipped('node') ? describe.skip : describe)('an installation', () => {
  let world: NodeWorld;
  beforeAll(async () => {
    world = await startNodeWorld();
  }, rigTimeout);
  afterAll(() => world.close());

  it('has a server and an agent that are ready', async () => {
    const template = '--output=jsonpath={range .items[*]}{.status.containerStatuses[*].ready}{end}';
    expect(await world.kubectl('get', 'pods', `--namespace=${SERVER_NAMESPACE}`, template)).toBe('true');
    expect(await world.kubectl('get', 'pods', `--namespace=${AGENT_NAMESPACE}`, template)).toBe('true');
  });

  it('gives a pod its X.509-SVID by a volume, which go-spiffe verifies', async () => {
    await world.apply(
      { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'shop', namespace: 'default' } },
      {
        apiVersion: 'signet.dev/v1alpha1',
        kind: 'WorkloadIdentity',
        metadata: { name: 'shop', namespace: 'default' },
        spec: {
          podSelector: { matchLabels: { app: 'shop' } },
          spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}',
        },
      },
    );
    await world.applyPod({
      name: 'client',
      serviceAccount: 'shop',
      labels: { app: 'shop' },
      image: IMAGES.spiffeClient,
      args: ['x509', 'fetch', '-socket', '/run/spiffe/api.sock'],
      volume: {},
    });
    await world.podIs('Succeeded', 'client');
    const { svids } = JSON.parse(await world.podLogs('client')) as { readonly svids: readonly unknown[] };
    expect(svids).toEqual([
      expect.objectContaining({ id: `spiffe://${TRUST_DOMAIN}/ns/default/sa/shop`, verified: true }),
    ]);
  });

  it('tells a pod that no identity selects what is missing', async () => {
    await world.applyPod({
      name: 'stranger',
      image: IMAGES.spiffeClient,
      args: ['x509', 'fetch', '-socket', '/run/spiffe/api.sock'],
      volume: {},
    });
    await world.podIs('Failed', 'stranger');
    const { code, error } = JSON.parse(await world.podLogs('stranger')) as Record<'code' | 'error', string>;
    expect(code).toBe('PermissionDenied');
    expect(error).toContain('no identity selects pod default/stranger');
  });

  it('tells the same to who asks the plugin of kubectl, and what the agent holds', async () => {
    const plugin = join(import.meta.dirname, '../../bin/kubectl-signet');
    const env = { ...process.env, KUBECONFIG: world.cluster.kubeconfig };
    const ask = (...args: string[]): Promise<{ readonly stdout: string; readonly stderr: string }> =>
      run(plugin, args, { env });
    await world.applyPod({ name: 'holder', labels: { app: 'shop' }, volume: { files: 'pem' } });
    await world.podIs('Ready', 'holder');
    expect((await ask('status')).stdout).toContain(`trust domain ${TRUST_DOMAIN}`);
    const { stdout, stderr } = await ask('logs');
    expect(stderr).toBe('');
    expect(stdout).toMatch(/refused .* -> the agent identity on .*no identity selects pod default\/stranger/);
    // Its figures come through the API server's proxy to pods.
    const { agents } = JSON.parse((await ask('agents', '--output=json')).stdout) as Record<'agents', unknown>;
    expect(agents).toEqual([
      expect.objectContaining({
        ...{ node: world.cluster.nodeName, ready: true, connected: true },
        ...{ registrations: 1, svids: 1, failing: 0 },
      }),
    ]);
  });

  it('refuses a volume with an attribute that it does not know, in an event of the pod that names the nearest', async () => {
    await world.applyPod({ name: 'typo', volume: { fileS: 'pem' } });
    const refused = await until(
      'an event of the pod',
      async () => (await world.eventsOf('typo')).find((event) => event.startsWith('FailedMount')),
      60_000,
    );
    expect(refused).toMatch(/fileS.*files/s);
    expect((await world.pod('typo')).status.phase).toBe('Pending');
  });
});
