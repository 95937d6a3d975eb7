import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { spawn } from 'node:child_process';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { CliIo } from '../../src/cli/io.js';
import { buildProgram, runProgram } from '../../src/cli/program.js';
import { systemClock } from '../../src/lib/clock.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import { freePorts } from '../rig/free-ports.js';
import * as rig from '../rig/rig.js';
import { startClusterServer, SYSTEM, type ClusterServer } from '../support/cluster-server.js';
import { until } from '../support/until.js';

/* How a server begins and ends, and what it says of itself meanwhile. */

const root = join(import.meta.dirname, '../..');
const LEASE = `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM}/leases/signet-server`;

interface Page {
  readonly status: number;
  readonly text: string;
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('a server in a cluster', () => {
  let plane: ControlPlane;
  const servers: ClusterServer[] = [];

  beforeAll(async () => {
    plane = await startControlPlane({ audit: true });
    await plane.request('POST', '/api/v1/namespaces', { metadata: { name: SYSTEM } });
  }, rig.rigTimeout);
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.stop()));
  });
  afterAll(() => plane?.close());

  const launch = async (
    identity: string,
  ): Promise<{ server: ClusterServer; page: (path: string) => Promise<Page> }> => {
    const [port = 0] = await freePorts(1);
    const server = startClusterServer(plane, identity, {
      operations: { address: '127.0.0.1', port },
      version: '9.9.9',
    });
    servers.push(server);
    const page = async (path: string): Promise<Page> => {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`);
      return { status: answer.status, text: await answer.text() };
    };
    return { server, page };
  };

  it('says what it waits for, from the first moment, and goes on by itself when it comes', async () => {
    const { server, page } = await launch('a');
    const waits = await until('what it waits for', async () => {
      const { status, text } = await page('/readyz');
      return status === 503 && text.includes('WorkloadIdentity') && text;
    });
    expect(waits).toMatch(/^\[-\]store failed: waiting for the API server's .*TrustDomain/m);
    expect(waits).toMatch(/^\[-\]trust-domain failed: there is none to serve yet$/m);
    expect(waits).toMatch(/^\[-\]authorities failed: they are not open yet$/m);
    // That helps no restart.
    expect(await page('/livez')).toEqual({ status: 200, text: 'ok\n' });
    expect(server.logger.all.join('\n')).toContain("install Signet's CRDs (kubectl apply -f crds/)");

    await plane.kubectl(['apply', '-f', join(root, 'crds')]);
    await until('the store', async () => (await page('/readyz')).text.includes('[+]store ok'));
    await until('the log', () => server.logger.all.join('\n').includes('waiting for a TrustDomain resource'));
    await plane.kubectl(['apply', '-f', join(root, 'examples/payments/trust-domain.yaml')]);
    await server.ready;
    expect(await until('ready', async () => (await page('/readyz')).status === 200)).toBe(true);
    expect((await page('/readyz?verbose')).text).not.toContain('[-]');
  }, 60_000);

  it('shows what it does in numbers, and what it has in mind without a key', async () => {
    const { server, page } = await launch('b');
    await server.ready;
    await until('ready', async () => (await page('/readyz')).status === 200);
    await until('a leader', async () => (await server.ready).leading.value);
    const { text } = await page('/metrics');
    const value = (name: string): number =>
      Number(new RegExp(`^${name.replaceAll(/[{}"]/g, '\\$&')} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN);
    expect(value('signet_leader')).toBe(1);
    expect(value('signet_store_objects{kind="TrustDomain"}')).toBe(1);
    expect(value('signet_build_info{version="9.9.9",program="server"}')).toBe(1);
    expect(value('signet_reflector_lists_total{kind="Pod"}')).toBe(1);
    expect(value('signet_api_requests_total{verb="WATCH",code="2xx"}')).toBeGreaterThan(5);
    expect(value('signet_trust_bundle_sequence')).toBeGreaterThan(0);
    expect(value('signet_ca_state_age_seconds')).toBeLessThan(30);
    const ends = [
      ...text.matchAll(/^signet_ca_authority_not_after_timestamp_seconds\{.*slot="active"\} (\S+)$/gm),
    ];
    expect(ends).toHaveLength(2);
    for (const [, end] of ends) expect(Number(end) * 1000).toBeGreaterThan(Date.now());
    await until('a reconcile', async () =>
      (await page('/metrics')).text.includes(
        'signet_controller_reconciles_total{controller="trust-domain",outcome=',
      ),
    );

    const state = (await page('/debug/state')).text;
    expect(JSON.parse(state)).toMatchObject({
      leader: { leading: true, leader: 'b' },
      store: { synced: true, waitingFor: [], objects: { TrustDomain: 1 } },
      authorities: { trustDomain: 'example.org', rotationProblem: null },
      agents: [],
    });
    expect(state).not.toMatch(/PRIVATE|"d":|pkcs8|sealed/i);
  }, 60_000);

  it('ends in order: the lease is given back after the last write, and health is there until then', async () => {
    const { server, page } = await launch('c');
    await until('a leader', async () => (await server.ready).leading.value);
    const stopped = server.stop();
    await stopped;
    const { body } = await plane.request('GET', LEASE);
    expect((body as { readonly spec: { readonly holderIdentity?: string } }).spec.holderIdentity ?? '').toBe(
      '',
    );
    const log = await until('the lease in the log', async () => {
      const entries = (await plane.auditLog()).filter(
        ({ userAgent, verb }) =>
          userAgent === 'signet' && ['update', 'patch', 'create', 'delete'].includes(verb),
      );
      return entries.at(-1)?.objectRef?.resource === 'leases' && entries;
    });
    expect(log.at(-1)).toMatchObject({ verb: 'update', objectRef: { name: 'signet-server' } });
    await expect(page('/livez')).rejects.toThrow();
  }, 60_000);

  it('is asked by the command line: its authorities, and what its policies say', async () => {
    const { server } = await launch('g');
    await until('a leader', async () => (await server.ready).leading.value);
    const run = async (
      ...args: readonly string[]
    ): Promise<{ readonly code: number; readonly text: string }> => {
      let text = '';
      const io: CliIo = {
        ...{ clock: systemClock, environment: {}, signal: new AbortController().signal },
        stdout: (part) => (text += part),
        stderr: (part) => (text += part),
      };
      const code = await runProgram(
        buildProgram(io, '', []),
        [...args, '--kubeconfig', plane.kubeconfig],
        io,
      );
      return { code, text };
    };
    const slots = async (): Promise<readonly string[]> => {
      const { text } = await run('ca', 'show', '-o', 'json');
      const { authorities } = JSON.parse(text) as {
        readonly authorities: readonly {
          readonly kind: string;
          readonly slot: string;
          readonly id: string;
        }[];
      };
      return authorities.map(({ kind, slot, id }) => `${kind} ${slot} ${id}`);
    };
    await until('the authorities', async () => (await slots()).length >= 2);
    const former = (await slots()).find((one) => one.startsWith('JWT Active'))?.split(' ')[2] ?? '';
    expect(await run('ca', 'rotate', '--kind', 'jwt')).toMatchObject({ code: 0 });
    expect((await slots()).filter((one) => one.startsWith('JWT Active'))).not.toContain(
      `JWT Active ${former}`,
    );
    expect(await slots()).toContain(`JWT Old ${former}`);
    const tainted = await run('ca', 'taint', former);
    expect(tainted.text).toMatch(new RegExp(`JWT .*Old .*${former}.*tainted`));
    // What the leader refuses is told in its words.
    const refused = await run(
      'ca',
      'taint',
      (await slots()).find((one) => one.startsWith('JWT Active'))?.split(' ')[2] ?? '',
    );
    expect(refused).toMatchObject({ code: 3, text: expect.stringContaining('[CaRequestFailed]') as unknown });
    expect(await run('ca', 'revoke', 'nobody')).toMatchObject({ code: 3 });

    await plane.kubectl(['apply', '-f', join(root, 'examples/payments')]);
    const asked = ['--port', '8443', '--method', 'GET', '--path', '/api/payments'];
    await plane.request('POST', '/api/v1/namespaces/payments/pods', {
      metadata: { name: 'p', labels: { app: 'payment-service', tier: 'backend' } },
      spec: { serviceAccountName: 'payment-service', containers: [{ name: 'c', image: 'none' }] },
    });
    const denied = await run('explain', ...asked, '--to', 'payments/p');
    expect(denied).toMatchObject({ code: 1, text: expect.stringContaining('DENIED') as unknown });
    expect(await run('lint')).toMatchObject({ code: 0 });
    expect(await run('diff', join(root, 'examples/payments'))).toMatchObject({
      ...{ code: 0, text: expect.stringContaining('no access changes') as unknown },
    });
    expect((await run('render', '--mesh', 'istio')).text).toContain('kind: AuthorizationPolicy');
    expect((await run('graph')).text).toContain('digraph access');
  }, 90_000);

  it('that cannot listen fails with the reason, and leaves nothing behind', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as AddressInfo;
    try {
      const health = startClusterServer(plane, 'd', { operations: { address: '127.0.0.1', port } });
      await expect(health.ready).rejects.toMatchObject({ code: 'ListenFailed' });
      const agents = startClusterServer(plane, 'e', { listen: { address: '127.0.0.1', port } });
      await expect(agents.ready).rejects.toMatchObject({ code: 'AddressInUse' });
      const { body } = await plane.request('GET', LEASE);
      const { spec } = body as { readonly spec: { readonly holderIdentity?: string } };
      expect(spec.holderIdentity ?? '').not.toBe('e');
    } finally {
      taken.close();
    }
  }, 60_000);

  it('as a process exits with 0 on SIGTERM, and with 3 and the reason when it cannot begin', async () => {
    const broken = await exitOf([
      'server',
      '--kubeconfig',
      '/nowhere/config',
      '--http-address',
      '127.0.0.1:0',
    ]);
    expect(broken.code).toBe(3);
    expect(broken.stderr).toContain('/nowhere/config cannot be used');
    expect(broken.stderr).toContain('[KubeconfigInvalid]');

    const args = ['server', '--kubeconfig', plane.kubeconfig, '--http-address', '127.0.0.1:0'];
    const good = await exitOf([...args, '--listen-address', '127.0.0.1:0'], 'the server is ready');
    expect(good.code).toBe(0);
    expect(good.stderr).toContain('"message":"health and metrics are served"');
  }, 60_000);
});

/** Runs the program from its source; ends it by SIGTERM as soon as it says this. */
async function exitOf(
  args: readonly string[],
  says?: string,
): Promise<{ readonly code: number | null; readonly stderr: string }> {
  const loader = join(root, 'test/support/run-typescript.mjs');
  const child = spawn(process.execPath, ['--import', loader, join(root, 'src/main/signet.ts'), ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  let asked = false;
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    // A second one would kill it.
    if (!asked && says !== undefined && stderr.includes(says)) asked = child.kill('SIGTERM');
  });
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code, stderr };
}
