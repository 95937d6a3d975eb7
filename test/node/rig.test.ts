import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { startCluster, type Cluster } from '../rig/node.js';
import { isSkipped, rigTimeout } from '../rig/rig.js';
import { until } from '../support/until.js';

/* The cluster that other tests trust: its pods run, are reached by name, live through crashes, and nothing of it stays. */

const run = promisify(execFile);
const describeNode = isSkipped('node') ? describe.skip : describe;
const SERVE = 'httpd -f -p 8080 -h /etc';
const URL_OF_SERVER = 'http://server.default.svc.cluster.local/passwd';

/** What the machine has of nodes: mounts, links, routes, cgroups, folders and locks. */
async function traces(): Promise<Readonly<Record<string, readonly string[]>>> {
  const lines = async (...args: string[]): Promise<readonly string[]> =>
    (await run('ip', args)).stdout.split('\n').filter((line) => /signet-rig|10\.2[012]\d\./.test(line));
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  const cgroups = await readdir('/sys/fs/cgroup', { recursive: false });
  const nested = await Promise.all(
    cgroups.map(async (name) => readdir(join('/sys/fs/cgroup', name)).catch((): string[] => [])),
  );
  return {
    links: await lines('-o', 'link'),
    routes: await lines('-4', 'route', 'show', 'table', 'all'),
    mounts: mounts.filter((line) => /\/node-\w{6}\b/.test(line)),
    cgroups: [...cgroups, ...nested.flat()].filter((name) => name.startsWith('signet-rig')),
    folders: (await readdir(tmpdir())).filter((name) => /^node-\w{6}$/.test(name)),
    locks: (await readdir(join(tmpdir(), 'signet-rig-nodes')).catch((): string[] => [])).filter(
      (name) => !name.startsWith('.'),
    ),
  };
}

describeNode('a cluster with a node', () => {
  let cluster: Cluster;
  const apply = async (manifest: unknown): Promise<void> => {
    const { code, stderr } = await cluster.kubectl(['apply', '-f', '-'], { stdin: JSON.stringify(manifest) });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  };
  const statusOf = async (name: string): Promise<{ phase: string; restarts: number; ready: boolean }> => {
    const { body } = await cluster.request('GET', `/api/v1/namespaces/default/pods/${name}`);
    const { status } = body as {
      status: { phase: string; containerStatuses?: { restartCount: number; ready: boolean }[] };
    };
    const [container] = status.containerStatuses ?? [];
    return { phase: status.phase, restarts: container?.restartCount ?? 0, ready: container?.ready ?? false };
  };
  const pod = (name: string, command: string): unknown => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name } },
    spec: {
      terminationGracePeriodSeconds: 0,
      containers: [{ name: 'main', image: 'rig.local/busybox:test', args: [command] }],
    },
  });

  beforeAll(async () => {
    cluster = await startCluster({ dns: true });
    await apply(pod('server', SERVE));
    const ports = [{ port: 80, targetPort: 8080 }];
    await apply({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'server' },
      spec: { selector: { app: 'server' }, ports },
    });
    await until('a server that is ready', async () => (await statusOf('server')).ready, 60_000);
  }, rigTimeout);
  afterAll(() => cluster.close());

  it('runs pods that reach one another by the name of a service', async () => {
    await apply(pod('client', `until wget -q -O - ${URL_OF_SERVER}; do sleep 0.2; done; sleep 1000`));
    const said = async (): Promise<boolean> =>
      (await cluster.kubectl(['logs', 'client'])).stdout.includes('nonroot');
    await until('an answer in the log of the client', said, 60_000);
    const inside = await cluster.kubectl(['exec', 'client', '--', 'cat', '/etc/hostname']);
    expect(inside).toEqual({ code: 0, stdout: 'client\n', stderr: '' });
  });

  it('lets pods live when kubelet and containerd are killed', async () => {
    await cluster.restartKubelet();
    await cluster.killContainerd();
    await apply(pod('later', 'sleep 1000'));
    await until('a pod that is made afterwards', async () => (await statusOf('later')).ready, 60_000);
    expect(await statusOf('server')).toEqual({ phase: 'Running', restarts: 0, ready: true });
  });
});

describeNode('the end of a cluster', () => {
  it('leaves nothing, and the next start clears what a killed process left', async () => {
    const before = await traces();
    const kept = await startCluster();
    // Another process starts one, and is killed while it runs.
    const at = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);
    const script = `
      await import(${at('../support/run-typescript.mjs')});
      const { startCluster } = await import(${at('../rig/node.ts')});
      const cluster = await startCluster();
      console.log(cluster.nodeDirectory, cluster.nodePid);
      setInterval(() => undefined, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    const [folder = '', pid = ''] = line.split(' ');
    expect(existsSync(folder)).toBe(true);
    child.kill('SIGKILL');
    await until('a node that died with its process', () => !existsSync(`/proc/${pid}/ns/net`));
    expect((await kept.enter('hostname')).stdout).toBe('node1\n');
    await kept.close();

    await (await startCluster()).close();
    expect(existsSync(folder)).toBe(false);
    expect(await traces()).toEqual(before);
  });
});
