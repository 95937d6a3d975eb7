import { startGo } from '../e2e/support/clients.js';
import { cpuMs } from '../e2e/support/process.js';
import { identity, namespace, pod, writeResources } from '../e2e/support/resources.js';
import { newScope, type Scope } from '../e2e/support/scope.js';
import { startSignet, type Signet } from '../e2e/support/signet.js';
import { bounded, type BenchRow } from './row.js';

interface Load {
  readonly p50: number;
  readonly p99: number;
  /** The server's CPU time for one fetch, user and system. */
  readonly cpuPerFetch: number;
  readonly perSecond: number;
}

/**
 * What a workload's first X.509-SVID costs when it is cached: `signet dev` as it is shipped, asked by a Go client that
 * shares the machine with it. The targets are what SPIRE's agent takes on the same kind of machine.
 */
export async function run(): Promise<BenchRow[]> {
  const scope = newScope();
  try {
    const resources = scope.folder();
    // One pod may make a thousand calls a second; a load is what many pods make.
    const pods = Array.from({ length: 32 }, (_, n) => `order-${n}`).flatMap((name) => [
      ...pod(name),
      identity(name),
    ]);
    writeResources(resources, 'shop.yaml', [namespace('shop'), ...pods]);
    const server = await startSignet(scope, { resources, state: scope.folder(), trustDomain: 'bench.test' });
    const alone = await load(scope, server, 'connection', 1);
    const many = await load(scope, server, 'connection', 32);
    const open = await load(scope, server, 'stream', 1);
    const openMany = await load(scope, server, 'stream', 32);
    return [
      bounded('first SVID on a new connection, 1 client: p50', alone.p50, 'ms', 1.2),
      { name: 'the same: p99', value: alone.p99, unit: 'ms' },
      bounded('the same: server CPU per fetch', alone.cpuPerFetch, 'ms', 1.04),
      { name: 'first SVID on a new connection, 32 clients: p50', value: many.p50, unit: 'ms' },
      bounded('the same: p99', many.p99, 'ms', 36),
      bounded('the same: server CPU per fetch', many.cpuPerFetch, 'ms', 0.63),
      { name: 'the same: rate', value: many.perSecond, unit: '/s' },
      { name: 'first SVID on an open connection, 1 client: p50', value: open.p50, unit: 'ms' },
      bounded('the same: server CPU per fetch', open.cpuPerFetch, 'ms', 0.46),
      { name: 'first SVID on an open connection, 32 clients: p99', value: openMany.p99, unit: 'ms' },
      bounded('the same: server CPU per fetch', openMany.cpuPerFetch, 'ms', 0.46),
      { name: 'the same: rate', value: openMany.perSecond, unit: '/s' },
    ];
  } finally {
    await scope.end();
  }
}

async function load(scope: Scope, server: Signet, mode: string, clients: number): Promise<Load> {
  const args = ['-mode', mode, '-clients', String(clients), '-warm', '2s', '-duration', '4s'];
  const sockets = server.ready.pods.map(({ socket }) => socket).join(',');
  const client = await startGo(scope, ['load', '-socket', sockets, ...args]);
  await client.next((line) => line['measuring'] === true);
  const before = cpuMs(server.process.pid);
  client.program.write('\n');
  const result = await client.next((line) => line['fetches'] !== undefined);
  const used = cpuMs(server.process.pid) - before;
  if (result['errors'] !== 0)
    throw new Error(`${String(result['errors'])} fetches failed: ${String(result['firstError'])}`);
  const fetches = Number(result['fetches']);
  return {
    p50: Number(result['p50']),
    p99: Number(result['p99']),
    cpuPerFetch: used / fetches,
    perSecond: (fetches * 1000) / Number(result['wallMs']),
  };
}
