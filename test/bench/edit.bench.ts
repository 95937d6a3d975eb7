import { setTimeout as wait } from 'node:timers/promises';
import { startGo } from '../e2e/support/clients.js';
import { cpuMs, rssMiB } from '../e2e/support/process.js';
import { identity, namespace, pod, writeResources } from '../e2e/support/resources.js';
import { newScope } from '../e2e/support/scope.js';
import { startSignet } from '../e2e/support/signet.js';
import { bounded, type BenchRow } from './row.js';

const EDITS = 200;
const IDLE_MS = 10_000;

/** From the save of a resource file to the new SVID at a connected go-spiffe client; and what waiting for it costs. */
export async function run(): Promise<BenchRow[]> {
  const scope = newScope();
  try {
    const resources = scope.folder();
    writeResources(resources, 'shop.yaml', [namespace('shop'), ...pod('order'), identity('order')]);
    const server = await startSignet(scope, { resources, state: scope.folder(), trustDomain: 'bench.test' });
    const { pid } = server.process;
    const watcher = await startGo(scope, ['x509', 'watch', '-socket', server.socket('order')]);
    await watcher.next(({ svids }) => svids !== undefined);

    const idleFrom = cpuMs(pid);
    await wait(IDLE_MS); // the measurement itself
    const idle = ((cpuMs(pid) - idleFrom) / IDLE_MS) * 100;
    const rss = (rssMiB(pid) * 1024 * 1024) / 1e6;

    const latencies: number[] = [];
    const busyFrom = cpuMs(pid);
    for (let edit = 0; edit < EDITS; edit++) {
      const id = `spiffe://bench.test/ns/shop/edit/${edit}`;
      const from = watcher.mark();
      const manifest = identity('edited', { spiffeIDTemplate: `/ns/shop/edit/${edit}` }, 'shop', 'order');
      const saved = performance.timeOrigin + performance.now();
      writeResources(resources, 'edited.yaml', [manifest]);
      const line = await watcher.next(({ svids }) => svids?.some((svid) => svid.id === id) ?? false, {
        from,
      });
      latencies.push(line.at / 1e6 - saved);
      // People do not edit in step with the program.
      await wait(10 + Math.random() * 40);
    }
    const cpuPerEdit = (cpuMs(pid) - busyFrom) / EDITS;
    latencies.sort((a, b) => a - b);
    const quantile = (q: number): number => latencies[Math.min(EDITS - 1, Math.floor(q * EDITS))] ?? NaN;
    return [
      bounded('edit of a resource file → SVID at a go-spiffe client: p50', quantile(0.5), 'ms', 20),
      bounded('the same: p99', quantile(0.99), 'ms', 100),
      { name: 'the same: server CPU per edit', value: cpuPerEdit, unit: 'ms' },
      bounded('signet dev idle, one client connected: CPU', idle, '% of a core', 1),
      bounded('the same: RSS', rss, 'MB', 120),
    ];
  } finally {
    await scope.end();
  }
}
