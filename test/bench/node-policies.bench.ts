import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { PolicyStore } from '../../src/agent/access/policy-store.js';
import { trustDomainSettings } from '../../src/cluster/trust-domain.js';
import { createRegistrationIndex } from '../../src/identity/registration/registration-index.js';
import { silentLogger } from '../../src/lib/logger.js';
import { WatchedValue } from '../../src/lib/watched.js';
import { followAccess } from '../../src/main/access-view.js';
import type { PolicyUpdate } from '../../src/rpc/node-api.js';
import { policyParts } from '../../src/rpc/node/policy-message.js';
import { openPolicyFeed } from '../../src/server/policies/feed.js';
import { createRegistrationController } from '../../src/server/registrations.js';
import type { StateSource } from '../../src/server/state-stream.js';
import type { Store, StoreChange, StoredObject } from '../../src/store/store.js';
import { FakeClock } from '../support/fake-clock.js';
import { quantile } from './quantile.js';
import { bounded, type BenchRow } from './row.js';

/*
 * What it costs to send nodes what they decide by: the server's own work, up to the bytes of a message, in memory. 20 pods on
 * each node, of which 10 are of one namespace and the others of ten more; 20 policies for each namespace, and some for all.
 */

const NODES = 1_000;
const NAMESPACES = 500;
const POLICIES = 10_000;
const CLUSTER_POLICIES = 100;
const CHANGES = 200;
const TRUST_DOMAIN = 'bench.test';

/** A store whose lists cost what they are long. */
class KindStore implements Store {
  readonly synced = new WatchedValue(true);
  readonly #kinds = new Map<string, Map<string, StoredObject>>();
  readonly #subscribers: ((changes: readonly StoreChange[]) => void)[] = [];

  put(...objects: readonly StoredObject[]): void {
    const changes = objects.map((after) => {
      const { kind } = after;
      const { namespace, name } = after.metadata;
      const key = namespace === undefined ? name : `${namespace}/${name}`;
      const table = this.#kinds.get(kind) ?? new Map<string, StoredObject>();
      this.#kinds.set(kind, table);
      const before = table.get(key);
      table.set(key, after);
      return { kind, key, ...(before === undefined ? {} : { before }), after };
    });
    for (const subscriber of this.#subscribers) subscriber(changes);
  }
  list(kind: string): readonly StoredObject[] {
    return [...(this.#kinds.get(kind)?.values() ?? [])];
  }
  get(kind: string, key: string): StoredObject | undefined {
    return this.#kinds.get(kind)?.get(key);
  }
  subscribe(onChanges: (changes: readonly StoreChange[]) => void): () => void {
    this.#subscribers.push(onChanges);
    return () => undefined;
  }
  writeStatus(): Promise<void> {
    return Promise.resolve();
  }
  status(): unknown {
    return undefined;
  }
}

const spaceOf = (index: number): string => `ns-${index % NAMESPACES}`;

function object(kind: string, name: string, namespace: string | undefined, more: object): StoredObject {
  const where = namespace === undefined ? {} : { namespace };
  return {
    ...{ apiVersion: 'signet.dev/v1alpha1', kind },
    metadata: { name, ...where, uid: `${kind}/${namespace ?? ''}/${name}`, generation: 1 },
    ...more,
  };
}

const rules = (index: number, more: object): object => ({
  rules: Array.from({ length: 3 }, (_, rule) => ({
    name: `callers-${rule}`,
    from: [{ serviceAccounts: [{ name: 'web' }, { namespace: spaceOf(index + rule), name: 'default' }] }],
    to: [{ http: { methods: ['GET', 'POST'], paths: [{ prefix: `/api/v${rule}` }] } }],
    ...more,
  })),
});

function policy(index: number, more: object = {}): StoredObject {
  const target = { podSelector: { matchLabels: { app: `app-${index % 20}` } } };
  return object('AccessPolicy', `policy-${index}`, spaceOf(index), {
    spec: { target, ...rules(index, more) },
  });
}

function clusterPolicy(index: number, more: object = {}): StoredObject {
  return object('ClusterAccessPolicy', `policy-${index}`, undefined, {
    spec: { tier: 'Admin', target: { namespaces: [spaceOf(index)] }, ...rules(index, more) },
  });
}

function pod(node: number, index: number, image = '1'): StoredObject {
  const namespace = spaceOf(index < 10 ? node : node + index);
  const made = object('Pod', `pod-${node}-${index}`, namespace, {
    spec: {
      ...{ nodeName: `node-${node}`, serviceAccountName: `account-${index % 5}` },
      containers: [{ name: 'main', image: `registry.example.org/app:${image}` }],
    },
    status: { phase: 'Running' },
  });
  return { ...made, metadata: { ...made.metadata, labels: { app: `app-${index}`, version: 'v1' } } };
}

interface Agent {
  readonly source: StateSource<PolicyUpdate>;
  woken: boolean;
}

function start() {
  const clock = new FakeClock();
  const store = new KindStore();
  for (let index = 0; index < NAMESPACES; index++) {
    const labels = { team: `team-${index % 20}` };
    const made = object('Namespace', spaceOf(index), undefined, {});
    store.put({ ...made, metadata: { ...made.metadata, labels } });
    store.put(object('WorkloadIdentity', 'all', spaceOf(index), { spec: {} }));
  }
  for (let node = 0; node < NODES; node++)
    store.put(...Array.from({ length: 20 }, (_, index) => pod(node, index)));
  for (let index = 0; index < POLICIES - CLUSTER_POLICIES; index++) store.put(policy(index));
  for (let index = 0; index < CLUSTER_POLICIES; index++) store.put(clusterPolicy(index));
  store.put(object('TrustDomain', 'main', undefined, { spec: { name: TRUST_DOMAIN } }));
  const index = createRegistrationIndex({
    trustDomain: TRUST_DOMAIN,
    defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
  });
  const controller = createRegistrationController({
    ...{ store, index, clock, logger: silentLogger, leading: new WatchedValue(false) },
  });
  return { clock, store, index, controller };
}

/** What is due for the agents that were woken, as it goes over the wire. */
function send(agents: readonly Agent[]): { readonly updates: PolicyUpdate[]; readonly bytes: number } {
  const updates: PolicyUpdate[] = [];
  let bytes = 0;
  for (const agent of agents) {
    if (!agent.woken) continue;
    agent.woken = false;
    const update = agent.source.take();
    if (update === undefined) continue;
    updates.push(update);
    for (const part of policyParts(update)) bytes += part.length;
  }
  return { updates, bytes };
}

const cpu = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const heap = (): number => {
  collect();
  return process.memoryUsage().heapUsed / 1e6;
};

export function run(): Promise<readonly BenchRow[]> {
  const { clock, store, index, controller } = start();
  const heapBefore = heap();
  const began = cpu();
  const feed = openPolicyFeed({
    ...{ store, trustDomain: TRUST_DOMAIN, registrations: index, ready: controller.registrations.ready },
    onDelta: (onDelta) => controller.onDelta(onDelta),
  });
  const opened = cpu() - began;
  const agents = Array.from({ length: NODES }, (_, node): Agent => {
    const agent: Agent = { source: feed.of(`node-${node}`, []), woken: true };
    agent.source.subscribe(() => (agent.woken = true));
    return agent;
  });
  const beganSending = cpu();
  const first = send(agents);
  const sent = cpu() - beganSending;
  const [snapshot = { snapshot: true, upserts: [], removed: [] }] = first.updates;
  const held = heap() - heapBefore;
  const size = `${NODES} nodes, ${POLICIES} policies`;

  let changed = 0;
  const change = (make: (at: number) => StoredObject) => {
    const took: number[] = [];
    let messages = 0;
    let bytes = 0;
    for (let at = 0; at < CHANGES; at++) {
      changed += 1;
      const one = make(at);
      const start = performance.now();
      store.put(one);
      const { updates, bytes: more } = send(agents);
      took.push(performance.now() - start);
      messages += updates.length;
      bytes += more;
    }
    return {
      p50: quantile(took, 0.5),
      p99: quantile(took, 0.99),
      messages: messages / CHANGES,
      bytes: bytes / CHANGES,
    };
  };
  const path = (): object => ({ to: [{ http: { paths: [{ prefix: `/changed/${changed}` }] } }] });
  const namespaced = change((at) => policy(at * 7, path()));
  const clusterWide = change((at) => clusterPolicy(at % CLUSTER_POLICIES, path()));
  const pods = change((at) => pod(at, 20 + changed));
  const status = change((at) => {
    const one = policy(at * 7 + 1);
    return {
      ...one,
      status: { conditions: [{ type: 'Rendered', message: String(changed) }] },
    } as StoredObject;
  });

  // From here on a policy asks what all callers are.
  const beganAsking = cpu();
  store.put(
    clusterPolicy(0, {
      from: [{ anyAuthenticated: true }],
      when: { sourceLabels: { matchLabels: { app: 'x' } } },
    }),
  );
  const asked = send(agents);
  const asking = cpu() - beganAsking;
  const images = change((at) => pod(at, at % 20, `2-${changed}`));

  const agent = agentSide(snapshot, clock);
  return Promise.resolve([
    bounded(`${size}: server opens, CPU`, opened, 'ms', 2_000),
    bounded('the same: all snapshots, CPU for each agent', sent / NODES, 'ms', 5),
    bounded('the same: bytes for each agent', first.bytes / NODES / 1000, 'kB', 500),
    bounded('the same: heap of the server for it, all agents connected', held, 'MB', 100),
    bounded(
      `a policy of a namespace changes (to ${namespaced.messages.toFixed(1)} nodes), p50`,
      namespaced.p50,
      'ms',
      1,
    ),
    { name: 'the same: bytes to all nodes', value: namespaced.bytes / 1000, unit: 'kB' },
    bounded(
      `a cluster-wide policy changes (to ${clusterWide.messages} nodes), p50`,
      clusterWide.p50,
      'ms',
      20,
    ),
    { name: 'the same: bytes to all nodes', value: clusterWide.bytes / 1000, unit: 'kB' },
    bounded(`a pod starts (to ${pods.messages} node), p50`, pods.p50, 'ms', 1),
    bounded(`the status of a policy changes (to ${status.messages} nodes), p50`, status.p50, 'ms', 0.5),
    {
      name: 'a first policy asks what all callers are: CPU for each agent',
      value: asking / NODES,
      unit: 'ms',
    },
    { name: 'the same: bytes for each agent', value: asked.bytes / NODES / 1000, unit: 'kB' },
    {
      name: `then, a caller's pod changes (to ${images.messages} nodes), p50`,
      value: images.p50,
      unit: 'ms',
    },
    bounded(`agent: ${snapshot.upserts.length} items taken and compiled`, agent, 'ms', 100),
  ]);
}

function agentSide(snapshot: PolicyUpdate, clock: FakeClock): number {
  const took: number[] = [];
  for (let round = 0; round < 5; round++) {
    const began = performance.now();
    const policies = new PolicyStore('node-0');
    policies.take(snapshot);
    const live = followAccess({
      ...{ store: policies, registrations: policies, clock, logger: silentLogger },
      settings: trustDomainSettings({ flag: TRUST_DOMAIN }),
      sources: () => policies.sources(),
    });
    took.push(performance.now() - began);
    live.close();
  }
  return quantile(took, 0.5);
}
