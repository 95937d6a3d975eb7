import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Agent, AgentOptions } from '../../src/agent/agent.js';
import type { WorkloadApiHandlers } from '../../src/agent/workload-api.js';
import type { CaOptions, CertificateAuthority } from '../../src/identity/ca/certificate-authority.js';
import type { Journal } from '../../src/identity/ca/journal.js';
import type { KeyStore } from '../../src/identity/keys/key-store.js';
import type { Registration } from '../../src/identity/registration/registration.js';
import type { Clock } from '../../src/lib/clock.js';
import type { Logger } from '../../src/lib/logger.js';
import type { Random } from '../../src/lib/random.js';
import type { BundleUpdate, NodeApi } from '../../src/rpc/node-api.js';
import type { CallContext } from '../../src/rpc/service.js';
import type { SigningOptions, SigningService } from '../../src/server/signing.js';
import { type BenchRow, bounded } from './row.js';

const REGISTRATIONS = 10_000;
const STREAMS = 1_000;
const TRUST_DOMAIN = 'bench.test';

/** What is shipped; the types are those of its source. */
interface Built {
  createAgent(options: AgentOptions): Agent;
  workloadApiHandlers(agent: Agent): WorkloadApiHandlers;
  openCertificateAuthority(options: CaOptions): Promise<CertificateAuthority>;
  memoryJournal(): Journal;
  memoryKeyStore(): KeyStore;
  createSigningService(options: SigningOptions): SigningService;
  readonly systemClock: Clock;
  readonly systemRandom: Random;
  readonly silentLogger: Logger;
}

async function load(): Promise<Built> {
  const files = [
    'agent/agent.js',
    'identity/ca/certificate-authority.js',
    'identity/ca/journal.js',
    'identity/keys/key-store.js',
    'server/signing.js',
    'lib/clock.js',
    'lib/random.js',
    'lib/logger.js',
  ];
  const modules = await Promise.all(
    files.map((file) => import(new URL(`../../dist/${file}`, import.meta.url).href) as Promise<object>),
  );
  return Object.assign({}, ...modules) as Built;
}

/**
 * One agent with 10,000 registrations, server and CA in the same process as in `signet dev`: how soon a waiting caller
 * and everybody have their SVIDs, what one costs in memory, and how fast a change reaches 1,000 open streams.
 */
export async function run(): Promise<BenchRow[]> {
  const built = await load();
  const { systemClock: clock, systemRandom: random, silentLogger: logger } = built;
  const ca = await built.openCertificateAuthority({
    trustDomain: TRUST_DOMAIN,
    keys: built.memoryKeyStore(),
    journal: built.memoryJournal(),
    clock,
    random,
    logger,
    config: {},
  });
  const stop = new AbortController();
  try {
    const before = memory();
    const registrations = new Map<string, Registration>();
    for (let at = 0; at < REGISTRATIONS; at++) {
      const one = registration(at);
      registrations.set(one.id, one);
    }
    const withRegistrations = memory();
    const signing = built.createSigningService({ ca, registrations, logger });
    const agent = built.createAgent({
      api: nodeApi(ca, signing, registrations),
      nodeName: 'bench',
      clock,
      random,
      logger,
    });
    const handlers = built.workloadApiHandlers(agent);
    const started = performance.now();
    const cpuBefore = process.cpuUsage();
    const running = agent.run(stop.signal);
    // The last of all: nothing but its waiting brings it forward.
    const waiting = open(handlers, REGISTRATIONS - 1, stop.signal);
    await waiting.next();
    const first = performance.now() - started;
    const turns = await turnsUntil(() => agent.stats().svids === REGISTRATIONS);
    const all = performance.now() - started;
    const cpu = process.cpuUsage(cpuBefore);
    const after = memory();

    const streams = Array.from({ length: STREAMS }, (_value, at) => open(handlers, at, stop.signal));
    await Promise.all(streams.map((stream) => stream.next()));
    const pushed = performance.now();
    await ca.prepare('x509');
    const told = performance.now();
    await Promise.all(streams.map((stream) => stream.next()));
    const push = performance.now() - pushed;

    stop.abort();
    await running;
    return [
      bounded('agent start with 10,000 registrations: first SVID at a waiting caller', first / 1000, 's', 1),
      bounded('the same: all cached', all / 1000, 's', 5),
      {
        name: 'the same: CPU per SVID (key, CSR, signature, check)',
        value: (cpu.user + cpu.system) / 1000 / REGISTRATIONS,
        unit: 'ms',
      },
      bounded(
        'the same: CPU time of a turn of the event loop, p99',
        turns[Math.floor(turns.length * 0.99)] ?? NaN,
        'ms',
        20,
      ),
      { name: 'the same: the longest', value: turns.at(-1) ?? NaN, unit: 'ms' },
      bounded(
        'memory per cached SVID',
        (after.used - withRegistrations.used) / REGISTRATIONS / 1024,
        'KB',
        6,
      ),
      bounded('the same with its registration', (after.used - before.used) / REGISTRATIONS / 1024, 'KB', 6),
      { name: 'the same in RSS', value: (after.rss - before.rss) / REGISTRATIONS / 1024, unit: 'KB' },
      bounded('a new authority → 1,000 streams of 1,000 pods', push / 1000, 's', 1),
      { name: 'of that: making and publishing the authority', value: (told - pushed) / 1000, unit: 's' },
    ];
  } finally {
    stop.abort();
    await ca.close();
  }
}

function registration(at: number): Registration {
  const name = `workload-${at}`;
  return {
    id: `${name}/shop/orders`,
    subject: { kind: 'pod', namespace: 'shop', name, uid: name },
    nodeName: 'bench',
    spiffeId: {
      trustDomain: TRUST_DOMAIN,
      path: `/ns/shop/sa/${name}`,
      uri: `spiffe://${TRUST_DOMAIN}/ns/shop/sa/${name}`,
    },
    x509TtlSeconds: 3_600,
    jwtTtlSeconds: 300,
    dnsNames: [],
    hint: '',
    federatesWith: [],
    audiences: [],
    identity: { kind: 'WorkloadIdentity', namespace: 'shop', name: 'orders' },
    revision: '1',
  };
}

/** The server's side: all registrations at once, bundles as the CA publishes them. */
function nodeApi(
  ca: CertificateAuthority,
  signing: SigningService,
  registrations: ReadonlyMap<string, Registration>,
): NodeApi {
  const bundle = (): BundleUpdate => ({
    own: ca.bundle.value,
    federated: [],
    taintedX509: ca.taints.value.x509,
    taintedJwt: ca.taints.value.jwt,
  });
  return {
    ...signing,
    async *sync(signal) {
      yield { snapshot: true, upserts: [...registrations.values()], removed: [] };
      await ended(signal);
    },
    async *bundles(signal) {
      while (!signal.aborted) {
        yield bundle();
        await new Promise<void>((resolve) => {
          const unwatch = ca.bundle.watch(() => {
            unwatch();
            resolve();
          });
          signal.addEventListener('abort', () => resolve(), { once: true });
        });
      }
    },
  };
}

function ended(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** An open FetchX509SVID whose client reads at once. */
function open(handlers: WorkloadApiHandlers, at: number, signal: AbortSignal): { next(): Promise<void> } {
  let unread = 0;
  let wake: () => void = () => undefined;
  const context: CallContext = {
    peer: { listener: `pod/workload-${at}`, connectionId: String(at) },
    signal,
    requestId: 'r1',
    metadata: () => 'true',
  };
  const sink = {
    write: () => {
      unread++;
      wake();
      return Promise.resolve();
    },
  };
  handlers.fetchX509Svid({}, context, sink).catch(() => undefined);
  return {
    async next() {
      if (unread === 0) await new Promise<void>((resolve) => (wake = resolve));
      unread--;
    },
  };
}

/**
 * The turns of the event loop until `done`, shortest first, in milliseconds of this thread's CPU time: what others on
 * the machine do does not count.
 */
async function turnsUntil(done: () => boolean): Promise<number[]> {
  const turns: number[] = [];
  let before = process.threadCpuUsage();
  while (!done()) {
    await new Promise((resolve) => setImmediate(resolve));
    const after = process.threadCpuUsage();
    turns.push((after.user + after.system - before.user - before.system) / 1000);
    before = after;
  }
  return turns.sort((a, b) => a - b);
}

/** What is in use after collecting garbage, in bytes. */
function memory(): { used: number; rss: number } {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let time = 0; time < 3; time++) collect();
  const { heapUsed, external, rss } = process.memoryUsage();
  return { used: heapUsed + external, rss };
}
