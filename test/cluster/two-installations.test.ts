import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import type { ServerOptions } from '../../src/main/server.js';
import { startControlPlane, type AuditEntry, type ControlPlane } from '../rig/control-plane.js';
import { freePorts } from '../rig/free-ports.js';
import * as rig from '../rig/rig.js';
import {
  conditionOf,
  create,
  prepareCluster,
  startClusterServer,
  SYSTEM,
  trustDomainStatusOf,
  type ClusterServer,
} from '../support/cluster-server.js';
import { until } from '../support/until.js';

/* Two installations in one cluster, each in a namespace and with rights of its own, as if somebody had installed it twice. */

const OTHER = 'signet-too';
const OWNER = `${SYSTEM}/signet-server`;
const CONTENDER = `${OTHER}/signet-server`;
const root = join(import.meta.dirname, '../..');
const MUTATING: ReadonlySet<string> = new Set(['create', 'update', 'patch', 'delete']);

/** The rights of deploy/, for an installation in another namespace. */
async function rightsFor(namespace: string): Promise<string> {
  const folder = join(root, 'deploy');
  const files = (await readdir(folder)).filter((name) => name.endsWith('rbac.yaml'));
  const texts = await Promise.all(files.map((name) => readFile(join(folder, name), 'utf8')));
  return texts
    .flatMap((text) => parseAllDocuments(text))
    .map((document) => String(document).replaceAll(SYSTEM, namespace))
    .join('\n---\n');
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('two installations in one cluster', () => {
  let plane: ControlPlane;
  const servers: ClusterServer[] = [];

  beforeAll(async () => {
    plane = await startControlPlane({ audit: true, controllerManager: true });
    await prepareCluster(plane, 'cluster.test');
    await create(plane, '/api/v1/namespaces', { metadata: { name: OTHER } });
    for (const namespace of [SYSTEM, OTHER]) {
      const { code, stderr } = await plane.kubectl(['apply', '-f', '-'], {
        stdin: await rightsFor(namespace),
      });
      expect([code, stderr]).toEqual([0, '']);
    }
    // The bindings of the cluster's roles have one name: the second installation is one more subject of them.
    const subjects = [SYSTEM, OTHER].map((namespace) => ({
      kind: 'ServiceAccount',
      name: 'signet-server',
      namespace,
    }));
    const { stdout } = await plane.kubectl(['get', 'clusterrolebindings', '-o', 'name']);
    for (const name of stdout.split('\n').filter((line) => line.includes('/signet-server'))) {
      const path = `/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/${name.split('/')[1] ?? ''}`;
      expect((await plane.request('PATCH', path, { subjects })).status).toBe(200);
    }
  }, rig.rigTimeout);
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.stop()));
  });
  afterAll(() => plane?.close());

  const launch = async (namespace: string, options: Partial<ServerOptions> = {}): Promise<ClusterServer> => {
    const kubeconfig = await plane.kubeconfigFor({ namespace, name: 'signet-server' });
    const server = startClusterServer(plane, `${namespace}-1`, {
      ...{ namespace, connection: { kubeconfig } },
      agentServiceAccount: { namespace, name: 'signet-agent' },
      ...options,
    });
    servers.push(server);
    return server;
  };
  const writesOf = async (namespace: string): Promise<readonly AuditEntry[]> =>
    (await plane.auditLog()).filter(
      ({ user, verb }) =>
        user.username === `system:serviceaccount:${namespace}:signet-server` && MUTATING.has(verb),
    );
  const servedBy = async (): Promise<string | undefined> => (await trustDomainStatusOf(plane)).servedBy;

  it('the second says within seconds who owns the cluster, writes nothing of it, and takes over with the same authorities when the first is gone', async () => {
    const first = await launch(SYSTEM);
    await first.ready;
    await until('Signing', async () => (await conditionOf(plane, 'Ready')) === 'True Signing');
    await until('published', async () => (await conditionOf(plane, 'BundlePublished')) === 'True Published');
    await until('all is told', async () => (await conditionOf(plane, 'KeysSealed')) === 'True Sealed');
    expect(await servedBy()).toBe(OWNER);
    const before = await trustDomainStatusOf(plane);

    const [port = 0] = await freePorts(1);
    const began = performance.now();
    const second = await launch(OTHER, {
      ...{ operations: { address: '127.0.0.1', port }, takeOverMs: 15_000, askEveryMs: 1_000 },
    });
    let served = false;
    second.ready.then(
      () => (served = true),
      () => undefined,
    );
    const waits = await until('the second says why it waits', async () => {
      const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
      const text = (await answer?.text()) ?? '';
      return text.includes('another installation') && text;
    });
    expect(performance.now() - began).toBeLessThan(10_000);
    expect(waits).toContain(
      `[-]installation failed: another installation, ${OWNER}, owns this cluster; this one (${CONTENDER}) serves nothing until that one is gone. Uninstall one of them`,
    );
    expect(second.logger.lines.filter((line) => line.includes(`another installation, ${OWNER}`))).not.toEqual(
      [],
    );
    // That helps no restart.
    expect((await fetch(`http://127.0.0.1:${port}/livez`)).status).toBe(200);

    // It asks whether the owner is there, again and again, and is answered; nothing else of the cluster is written by it.
    const questions = async (): Promise<number> =>
      (await writesOf(OTHER)).filter(({ objectRef }) => objectRef?.resource === 'trustdomains').length;
    await until('three questions', async () => (await questions()) >= 3, 60_000);
    const others = (await writesOf(OTHER)).filter(
      ({ objectRef }) => !['leases', 'trustdomains'].includes(objectRef?.resource ?? ''),
    );
    expect(others.map(({ requestURI }) => requestURI)).toEqual([]);
    for (const { objectRef } of await writesOf(OTHER))
      if (objectRef?.resource === 'leases') expect(objectRef.namespace).toBe(OTHER);
    const now = await trustDomainStatusOf(plane);
    expect({ ...now, contender: undefined }).toEqual({ ...before, contender: undefined });
    expect(served).toBe(false);
    expect(first.logger.lines.filter((line) => line.startsWith('error'))).toEqual([]);

    // The first is uninstalled. Its authorities are not thrown away by whoever comes next.
    await first.stop();
    await until('the second owns the cluster', async () => (await servedBy()) === CONTENDER, 60_000);
    await until(
      'what is missing',
      async () => (await conditionOf(plane, 'Ready')) === 'False JournalMissing',
    );
    const names = ['signet-ca', 'signet-key-encryption'];
    const { stdout } = await plane.kubectl(['-n', SYSTEM, 'get', 'secret', ...names, '-o', 'json']);
    const list = JSON.parse(stdout) as { readonly items: readonly { readonly metadata: object }[] };
    for (const { metadata } of list.items)
      Object.assign(metadata, { namespace: OTHER, uid: undefined, resourceVersion: undefined });
    const moved = await plane.kubectl(['create', '-f', '-'], { stdin: JSON.stringify(list) });
    expect([moved.code, moved.stderr]).toEqual([0, '']);
    await second.ready;
    await until('Signing', async () => (await conditionOf(plane, 'Ready')) === 'True Signing');
    expect((await trustDomainStatusOf(plane)).authorities).toEqual(before.authorities);

    // The first comes back, finds that it owns nothing any more, and waits in its turn.
    const again = await launch(SYSTEM);
    await until('the first waits', () =>
      again.logger.lines.some((line) => line.includes(`another installation, ${CONTENDER}`)),
    );
    expect(await servedBy()).toBe(CONTENDER);
  }, 180_000);

  it('the second takes over at once when the namespace of the first is gone', async () => {
    await create(plane, '/api/v1/namespaces', { metadata: { name: 'signet-gone' } });
    const status = { servedBy: 'signet-gone/signet-server' };
    const path = '/apis/signet.dev/v1alpha1/trustdomains/main/status';
    expect((await plane.request('PATCH', path, { status })).status).toBe(200);
    const second = await launch(OTHER);
    await until('it waits', () =>
      second.logger.lines.some((line) => line.includes('another installation, signet-gone')),
    );
    await plane.request('DELETE', '/api/v1/namespaces/signet-gone');
    await until('it owns the cluster', async () => (await servedBy()) === CONTENDER, 30_000);
    await second.ready;
  }, 120_000);
});
