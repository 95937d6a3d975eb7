import { setTimeout as pause } from 'node:timers/promises';
import { createAgent, type Agent } from '../../src/agent/agent.js';
import { connectToServer } from '../../src/agent/remote/server-connection.js';
import { systemClock } from '../../src/lib/clock.js';
import { silentLogger } from '../../src/lib/logger.js';
import { systemRandom } from '../../src/lib/random.js';
import { createRemoteNodeApi } from '../../src/rpc/node/remote-node-api.js';
import type { NodeApi } from '../../src/rpc/node-api.js';
import { start, type Program } from '../e2e/support/process.js';
import type { Scope } from '../e2e/support/scope.js';
import { signetCommand } from '../e2e/support/signet.js';
import type { ControlPlane } from '../rig/control-plane.js';
import { bundleOf } from '../support/cluster-agents.js';
import { serverNodeOptions } from './chart-options.js';

/** A cluster for benchmarks: real control plane, real server, agents in this process for nodes that are only names. */

export const SYSTEM = 'signet-system';
export const AUDIENCE = 'signet-server';
const AGENTS = 'signet-agent';

/** Creates an object; one that is there already is fine. */
export async function create(plane: ControlPlane, path: string, object: object): Promise<void> {
  const { status, body } = await plane.request('POST', path, object);
  if (status >= 300 && status !== 409)
    throw new Error(`POST ${path}: ${status} ${JSON.stringify(body).slice(0, 300)}`);
}

/** Does something for each, so many at a time. */
export async function each<T>(
  items: readonly T[],
  atATime: number,
  act: (item: T) => Promise<void>,
): Promise<void> {
  const left = [...items].reverse();
  const worker = async (): Promise<void> => {
    for (let item = left.pop(); item !== undefined; item = left.pop()) await act(item);
  };
  await Promise.all(Array.from({ length: atATime }, worker));
}

/** The CRDs, Signet's namespace and service accounts, and a TrustDomain. */
export async function prepare(plane: ControlPlane): Promise<void> {
  const applied = await plane.kubectl(['apply', '-f', new URL('../../crds', import.meta.url).pathname]);
  if (applied.code !== 0) throw new Error(applied.stderr);
  const waited = await plane.kubectl([
    'wait',
    '--for=condition=Established',
    '--timeout=30s',
    'crd',
    '--all',
  ]);
  if (waited.code !== 0) throw new Error(waited.stderr);
  await namespace(plane, SYSTEM);
  await create(plane, `/api/v1/namespaces/${SYSTEM}/serviceaccounts`, { metadata: { name: AGENTS } });
  const trustDomain = { apiVersion: 'signet.dev/v1alpha1', kind: 'TrustDomain', metadata: { name: 'bench' } };
  await create(plane, '/apis/signet.dev/v1alpha1/trustdomains', {
    ...trustDomain,
    spec: { name: 'bench.test' },
  });
}

export async function namespace(plane: ControlPlane, name: string): Promise<void> {
  await create(plane, '/api/v1/namespaces', { metadata: { name } });
  await create(plane, `/api/v1/namespaces/${name}/serviceaccounts`, { metadata: { name: 'default' } });
}

/** A pod that is bound to a node from its beginning. */
export function boundPod(name: string, nodeName: string, labels: Readonly<Record<string, string>>): object {
  const containers = [{ name: 'main', image: 'registry.example.org/app:1.0' }];
  return { metadata: { name, labels }, spec: { nodeName, containers, automountServiceAccountToken: false } };
}

export async function identity(
  plane: ControlPlane,
  namespaceName: string,
  name: string,
  matchLabels: Readonly<Record<string, string>>,
): Promise<void> {
  await create(plane, `/apis/signet.dev/v1alpha1/namespaces/${namespaceName}/workloadidentities`, {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'WorkloadIdentity',
    metadata: { name },
    spec: {
      podSelector: { matchLabels },
      spiffeIDTemplate: `spiffe://{{ .TrustDomain }}/ns/{{ .Namespace }}/${name}`,
    },
  });
}

/** A server in a process of its own, as in the chart. */
export interface BenchServer {
  readonly process: Program;
  readonly port: number;
  /** From its start until agents may connect, in milliseconds. */
  readonly readyMs: number;
}

export async function startBenchServer(scope: Scope, plane: ControlPlane, atPort = 0): Promise<BenchServer> {
  const began = performance.now();
  const args = [
    'server',
    '--kubeconfig',
    plane.kubeconfig,
    '--listen-address',
    `127.0.0.1:${atPort}`,
    '--http-address',
    '127.0.0.1:0',
  ];
  const process = start(scope, signetCommand(args), { env: { NODE_OPTIONS: serverNodeOptions() } });
  let port: number | undefined;
  while (port === undefined) {
    if (process.hasExited()) throw new Error(`the server ended: ${process.stderr().slice(-2000)}`);
    await pause(5);
    const [, digits] =
      /"address":"127\.0\.0\.1:([0-9]+)"[^\n]*the server is ready/.exec(process.stderr()) ?? [];
    port = digits === undefined ? undefined : Number(digits);
  }
  return { process, port, readyMs: performance.now() - began };
}

/** An agent of a node that is only a name. */
export interface BenchAgent {
  /** How many SVIDs it holds. */
  svids(): number;
  /** As the agent asks the server. */
  readonly api: NodeApi;
  /** Of the registrations that the server has told it of. */
  ids(): readonly string[];
  /** Ends what it does by itself, and forgets its SVIDs; `api` goes on. */
  rest(): Promise<void>;
  /** Stops it; resolves when it has stopped. */
  stop(): Promise<void>;
}

/** What an agent is told of, with the time on `performance.now()`. */
export interface AgentEvents {
  readonly registered?: (podUid: string, at: number) => void;
  /** The SVID of a registration has come. */
  readonly signed?: (registrationId: string, at: number) => void;
}

/** Attests an agent for the node and has it follow the server. */
export async function startBenchAgent(
  plane: ControlPlane,
  server: Pick<BenchServer, 'port'>,
  nodeName: string,
  events: AgentEvents = {},
): Promise<BenchAgent> {
  const name = `agent-${nodeName}`;
  const spec = { serviceAccountName: AGENTS, nodeName, containers: [{ name: 'agent', image: 'signet' }] };
  await create(plane, `/api/v1/namespaces/${SYSTEM}/pods`, {
    metadata: { name },
    spec: { ...spec, automountServiceAccountToken: false },
  });
  const token = await plane.serviceAccountToken({
    ...{ namespace: SYSTEM, name: AGENTS, audience: AUDIENCE, boundPod: { name } },
  });
  const bundle = await bundleOf(plane, 'bench.test');
  const stop = new AbortController();
  const parts = { clock: systemClock, random: systemRandom, logger: silentLogger };
  const connection = await connectToServer(
    {
      ...{ trustDomain: 'bench.test', host: '127.0.0.1', port: server.port, keyType: 'ec-p256', ...parts },
      readToken: () => Promise.resolve(token),
      readBundle: () => Promise.resolve(bundle),
    },
    stop.signal,
  );
  const ids = new Set<string>();
  const api = watched(
    createRemoteNodeApi(
      () => connection.rpc,
      'bench.test',
      (id) => agent?.svidOf(id),
    ),
    events,
    ids,
  );
  let agent: Agent | undefined = createAgent({ api, nodeName, ...parts });
  const stopped = agent.run(stop.signal);
  const rest = async (): Promise<void> => {
    stop.abort();
    await stopped.catch(() => undefined);
    agent = undefined;
  };
  return {
    ...{ api, rest },
    svids: () => agent?.stats().svids ?? 0,
    ids: () => [...ids],
    async stop() {
      await rest();
      connection.close();
    },
  };
}

function watched(api: NodeApi, { registered, signed }: AgentEvents, ids: Set<string>): NodeApi {
  return {
    ...api,
    async *sync(signal) {
      for await (const update of api.sync(signal)) {
        const at = performance.now();
        for (const id of update.removed) ids.delete(id);
        for (const { id } of update.upserts) ids.add(id);
        for (const { subject } of update.upserts) if (subject.kind === 'pod') registered?.(subject.uid, at);
        yield update;
      }
    },
    async signX509(requests, signal) {
      const results = await api.signX509(requests, signal);
      const at = performance.now();
      results.forEach(({ ok }, index) => {
        const id = requests[index]?.registrationId;
        if (ok && id !== undefined) signed?.(id, at);
      });
      return results;
    },
  };
}
