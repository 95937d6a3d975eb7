import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { X509Certificate } from 'node:crypto';
import { readFileSync, symlinkSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startCsiNode, type CsiNode } from '../e2e/support/csi-node.js';
import { startGo, runGo, type Client } from '../e2e/support/clients.js';
import { start, type Program } from '../e2e/support/process.js';
import { newScope } from '../e2e/support/scope.js';
import { signetCommand } from '../e2e/support/signet.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import { freePorts } from '../rig/free-ports.js';
import * as rig from '../rig/rig.js';
import { agentToken, boundPod, bundleOf, makePod, prepareWorkloads } from '../support/cluster-agents.js';
import { create, prepareCluster, startClusterServer, type ClusterServer } from '../support/cluster-server.js';
import { until } from '../support/until.js';

/* A real server, and agents as processes that serve volumes in a mount namespace of their own, as the kubelet asks for them. */

const TRUST_DOMAIN = 'serving.test';
const NODE = 'n1';

interface Served {
  readonly uid: string;
  readonly target: string;
  /** A short path to the volume as the pod sees it. */
  readonly link: string;
}

interface AgentProcess {
  readonly program: Program;
  readonly page: (path: string) => Promise<{ readonly status: number; readonly text: string }>;
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('an agent that serves a node', () => {
  const scope = newScope();
  let plane: ControlPlane;
  let server: ClusterServer;
  let node: CsiNode;
  let folder: string;
  let port: number;
  let volumes = 0;

  beforeAll(async () => {
    plane = await startControlPlane();
    await prepareCluster(plane, TRUST_DOMAIN);
    await prepareWorkloads(plane, 'shop');
    await create(plane, '/apis/signet.dev/v1alpha1/namespaces/shop/accesspolicies', {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'AccessPolicy', metadata: { name: 'web' } },
      spec: {
        target: { podSelector: { matchLabels: { app: 'web' } } },
        rules: [
          {
            name: 'readers',
            from: [{ serviceAccounts: [{ name: 'default' }] }],
            to: [{ actions: ['read'], resources: [{ type: 'record' }] }],
          },
        ],
      },
    });
    server = startClusterServer(plane, 'a');
    ({ port } = (await server.ready).address);
    node = await startCsiNode();
    folder = scope.folder();
    await writeFile(join(folder, 'token'), await agentToken(plane, NODE));
    await writeFile(join(folder, 'bundle.json'), await bundleOf(plane, TRUST_DOMAIN));
  }, rig.rigTimeout);
  afterAll(async () => {
    await scope.end();
    await node?.close();
    await server?.stop();
    await plane?.close();
  });

  /** Starts an agent on the node, and waits until it serves unless told otherwise. */
  const startAgent = async (...more: readonly string[]): Promise<AgentProcess> => {
    const [http = 0] = await freePorts(1);
    const namespace = node.inside('').replace(/root$/, 'ns/mnt');
    const program = start(scope, [
      ...(['nsenter', `--mount=${namespace}`] as const),
      ...signetCommand([
        ...['agent', '--trust-domain', TRUST_DOMAIN, '--server', `127.0.0.1:${port}`],
        ...['--token-file', join(folder, 'token'), '--bundle-file', join(folder, 'bundle.json')],
        ...['--state-directory', node.state, '--kubelet-directory', node.kubelet],
        ...['--http-address', `127.0.0.1:${http}`, '--stop-grace', '0s', ...more],
      ]),
    ]);
    const page: AgentProcess['page'] = async (path) => {
      const answer = await fetch(`http://127.0.0.1:${http}${path}`);
      return { status: answer.status, text: await answer.text() };
    };
    await until('an agent that serves', async () => {
      if (program.hasExited()) throw new Error(program.stderr().slice(-3000));
      return (await page('/readyz').catch(() => undefined))?.status === 200;
    });
    return { program, page };
  };
  const metric = async ({ page }: AgentProcess, name: string): Promise<number> => {
    const { text } = await page('/metrics');
    const line = text.split('\n').find((one) => one.startsWith(`${name} `));
    return line === undefined ? Number.NaN : Number(line.slice(name.length + 1));
  };

  /** Makes a pod, and publishes a volume for it as the kubelet does. */
  const publish = async (
    name: string,
    attributes: Readonly<Record<string, string>> = {},
  ): Promise<Served> => {
    const uid = await makePod(plane, 'shop', boundPod(name, NODE));
    return publishFor(name, uid, attributes);
  };
  const publishFor = async (
    name: string,
    uid: string,
    attributes: Readonly<Record<string, string>>,
  ): Promise<Served> => {
    const target = await node.target(uid);
    await node.call((client) =>
      client.nodePublishVolume(
        {
          ...{
            volumeId: `csi-${uid}`,
            stagingTargetPath: '',
            targetPath: target,
            readonly: true,
            secrets: {},
          },
          volumeCapability: {
            accessType: { $case: 'mount', value: { fsType: '', mountFlags: [], volumeMountGroup: '' } },
            accessMode: { mode: 1 },
          },
          volumeContext: {
            'csi.storage.k8s.io/ephemeral': 'true',
            'csi.storage.k8s.io/pod.uid': uid,
            'csi.storage.k8s.io/pod.name': name,
            'csi.storage.k8s.io/pod.namespace': 'shop',
            'csi.storage.k8s.io/serviceAccount.name': 'default',
            ...attributes,
          },
        },
        { deadlineMs: 30_000 },
      ),
    );
    const link = join(node.directory, `v${volumes++}`);
    symlinkSync(node.inside(target), link);
    return { uid, target, link };
  };
  const unpublish = ({ uid, target }: Served): Promise<unknown> =>
    node.call((client) => client.nodeUnpublishVolume({ volumeId: `csi-${uid}`, targetPath: target }));
  const watch = async ({ link }: Served): Promise<Client> => {
    const client = await startGo(scope, ['x509', 'watch', '-socket', join(link, 'api.sock')]);
    await client.next(({ svids }) => svids !== undefined);
    return client;
  };
  const ask = ({ link }: Served, action: string): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const question = JSON.stringify({
        subject: { type: 'workload', id: `spiffe://${TRUST_DOMAIN}/ns/shop/sa/default` },
        action: { name: action },
        resource: { type: 'record', id: 'r1' },
      });
      const asked = httpRequest(
        {
          ...{ socketPath: join(link, 'authz.sock'), path: '/access/v1/evaluation', method: 'POST' },
          headers: { 'content-type': 'application/json', host: 'localhost' },
        },
        (answer) => {
          let text = '';
          answer.on('data', (part: Buffer) => (text += part.toString()));
          answer.on('end', () => resolve((JSON.parse(text) as { readonly decision?: unknown }).decision));
        },
      );
      asked.on('error', reject).end(question);
    });

  it('gives a pod its identity by socket and as files, and decides for it', async () => {
    const agent = await startAgent();
    const socket = await publish('web-socket');
    const watcher = await watch(socket);
    expect(JSON.parse(watcher.program.lines[0] ?? '')).toMatchObject({
      svids: [{ id: `spiffe://${TRUST_DOMAIN}/ns/shop/sa/default`, verified: true }],
    });
    expect(await ask(socket, 'read')).toBe(true);
    expect(await ask(socket, 'write')).toBe(false);

    const files = await publish('web-files', { files: 'pem', jwtAudiences: 'db' });
    const leaf = new X509Certificate(readFileSync(join(files.link, 'tls.crt')));
    const ca = new X509Certificate(readFileSync(join(files.link, 'ca.crt')));
    expect(leaf.subjectAltName).toBe(`URI:spiffe://${TRUST_DOMAIN}/ns/shop/sa/default`);
    expect(leaf.verify(ca.publicKey)).toBe(true);
    expect(readFileSync(join(files.link, 'jwt/db'), 'utf8')).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+$/);

    // Of a pod without an identity, the kubelet is told why; its event says so.
    const stranger = await makePod(plane, 'shop', boundPod('other-1', NODE));
    await expect(publishFor('other-1', stranger, { files: 'pem' })).rejects.toMatchObject({
      message: expect.stringMatching(/no identity .* to the pod/),
    });

    expect(await metric(agent, 'signet_agent_volumes{state="served"}')).toBe(2);
    expect(await metric(agent, 'signet_agent_workload_streams')).toBe(1);
    expect(
      await metric(agent, 'signet_agent_volumes_opened_total{occasion="publish",result="success"}'),
    ).toBe(2);
    expect((await agent.page('/readyz?verbose')).text).toContain('[+]serving ok');
    await watcher.program.kill();
    for (const volume of [socket, files]) await unpublish(volume);
    expect(await metric(agent, 'signet_agent_volumes{state="served"}')).toBe(0);
    expect(await agent.program.kill('SIGTERM')).toEqual({ code: 0, signal: null });
  }, 120_000);

  it('hands the node over to the agent that comes beside it, and is followed by one that was killed', async () => {
    const first = await startAgent();
    const pods = [await publish('web-1'), await publish('web-2', { files: 'pem', socket: 'socket' })];
    const [one, two] = pods;
    if (one === undefined || two === undefined) throw new Error('no pods');
    const watcher = await watch(one);
    const second = await startAgent();
    // It serves what the other one still serves, too: all at once, in no time.
    expect(await metric(second, 'signet_agent_volumes{state="served"}')).toBe(2);
    const told = Date.now();
    expect(await first.program.kill('SIGTERM')).toEqual({ code: 0, signal: null });
    expect(Date.now() - told).toBeLessThan(5_000);
    await until('the stream is at the second', async () => {
      return (await metric(second, 'signet_agent_workload_streams')) === 1;
    });
    const errors = (): readonly string[] =>
      watcher.program.lines.flatMap(
        (line) => (JSON.parse(line) as { watchError?: { code: string } }).watchError?.code ?? [],
      );
    expect(new Set(errors())).toEqual(new Set(['Unavailable']));

    // Nobody tells the second one.
    await second.program.kill('SIGKILL');
    const third = await startAgent();
    expect(await metric(third, 'signet_agent_volumes{state="served"}')).toBe(2);
    expect(
      await metric(third, 'signet_agent_volumes_opened_total{occasion="restore",result="success"}'),
    ).toBe(2);
    await until('the stream is at the third', async () => {
      return (await metric(third, 'signet_agent_workload_streams')) === 1;
    });
    expect(new Set(errors())).toEqual(new Set(['Unavailable']));
    const fetched = await runGo(scope, ['x509', 'fetch', '-socket', join(two.link, 'socket')]);
    expect(fetched).toMatchObject({ svids: [{ verified: true }] });
    // The pods' mounts have been the same all the while.
    expect(node.mounts(join(node.kubelet, 'pods'))).toHaveLength(2);
    await watcher.program.kill();
    for (const pod of pods) await unpublish(pod);
    expect(node.mounts(join(node.kubelet, 'pods'))).toEqual([]);
    expect(await third.program.kill('SIGTERM')).toEqual({ code: 0, signal: null });
  }, 120_000);

  it('goes on after SIGTERM for its grace while nobody comes, and leaves all in place for the next', async () => {
    const agent = await startAgent('--stop-grace', '3s');
    const pod = await publish('web-3');
    const stopped = agent.program.kill('SIGTERM');
    await until('it says that it stops', async () => (await agent.page('/readyz')).status === 503);
    const fetched = await runGo(scope, ['x509', 'fetch', '-socket', join(pod.link, 'api.sock')]);
    expect(fetched).toMatchObject({ svids: [{ verified: true }] });
    expect(await stopped).toEqual({ code: 0, signal: null });
    expect(node.mounts(join(node.kubelet, 'pods'))).toHaveLength(1);
    const next = await startAgent();
    expect(await runGo(scope, ['x509', 'fetch', '-socket', join(pod.link, 'api.sock')])).toMatchObject({
      svids: [{ verified: true }],
    });
    await unpublish(pod);
    expect(await next.program.kill('SIGTERM')).toEqual({ code: 0, signal: null });
  }, 120_000);
});
