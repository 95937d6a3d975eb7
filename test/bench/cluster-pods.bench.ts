import { setTimeout as pause } from 'node:timers/promises';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import { newScope } from '../e2e/support/scope.js';
import {
  boundPod,
  create,
  identity,
  namespace,
  prepare,
  startBenchAgent,
  startBenchServer,
} from './cluster-world.js';
import { quantile } from './quantile.js';
import { bounded, type BenchRow } from './row.js';
import { compared, isSpireWanted, SPIRE_WAIT, spireWaitRows, spireWaits } from './spire.js';

const PODS = 500;
const PER_SECOND = 50;
const NODE = 'node-1';

const SIGNED = 'pod bound → SVID at the agent';

/**
 * Pods are bound to a node at a steady rate on a real API server; measured from the moment at which the request that binds
 * one is sent: until its registration is on the stream of that node's agent, and until its SVID is there. Beside it, where
 * wanted, SPIRE alone: from the request that creates an entry until a waiting workload has its SVID.
 */
export async function run(): Promise<readonly BenchRow[]> {
  const rows = await signetRows();
  if (!isSpireWanted()) return rows;
  const spire = spireWaitRows(await spireWaits());
  const pairs = ['p50', 'p99'].map((which) => [`${SIGNED}, ${which}`, `${SPIRE_WAIT}, ${which}`] as const);
  return compared(rows, spire, new Map(pairs));
}

async function signetRows(): Promise<readonly BenchRow[]> {
  const scope = newScope();
  const plane = await startControlPlane();
  scope.onEnd(() => plane.close());
  try {
    await prepare(plane);
    await namespace(plane, 'shop');
    await identity(plane, 'shop', 'web', { app: 'web' });
    const server = await startBenchServer(scope, plane);
    const registeredAt = new Map<string, number>();
    const signedAt = new Map<string, number>();
    const agent = await startBenchAgent(plane, server, NODE, {
      registered: (uid, at) => registeredAt.set(uid, at),
      signed: (id, at) => signedAt.set(id.split('/')[0] ?? id, at),
    });
    const sentAt = await bindPods(plane);
    for (let tries = 0; tries < 100 && signedAt.size < PODS; tries++) await pause(50);
    await agent.stop();
    const since = (times: ReadonlyMap<string, number>): number[] =>
      [...sentAt].map(([uid, sent]) => (times.get(uid) ?? Infinity) - sent);
    const registered = since(registeredAt);
    const signed = since(signedAt);
    return [
      {
        name: `pod bound → registration at the agent, ${PER_SECOND} pods/s, p50`,
        value: quantile(registered, 0.5),
        unit: 'ms',
      },
      bounded('pod bound → registration at the agent, p99', quantile(registered, 0.99), 'ms', 50),
      { name: `${SIGNED}, p50`, value: quantile(signed, 0.5), unit: 'ms' },
      bounded(`${SIGNED}, p99`, quantile(signed, 0.99), 'ms', 100),
    ];
  } finally {
    await scope.end();
  }
}

/** When the request for each pod was sent, by the pod's uid. */
async function bindPods(plane: ControlPlane): Promise<ReadonlyMap<string, number>> {
  const sentAt = new Map<string, number>();
  // Connections and caches of the API server first: what is measured is Signet.
  for (let index = 0; index < 20; index++) {
    await create(plane, '/api/v1/namespaces/shop/pods', boundPod(`warm-${index}`, NODE, { app: 'web' }));
  }
  const began = performance.now();
  const running: Promise<void>[] = [];
  for (let index = 0; index < PODS; index++) {
    const due = began + (index * 1000) / PER_SECOND;
    await pause(Math.max(0, due - performance.now()));
    const sent = performance.now();
    const asked = plane.request(
      'POST',
      '/api/v1/namespaces/shop/pods',
      boundPod(`web-${index}`, NODE, { app: 'web' }),
    );
    running.push(
      asked.then(({ status, body }) => {
        if (status !== 201) throw new Error(`pod ${index}: ${status}`);
        sentAt.set((body as { readonly metadata: { readonly uid: string } }).metadata.uid, sent);
      }),
    );
  }
  await Promise.all(running);
  return sentAt;
}
