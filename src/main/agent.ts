import { readFile } from 'node:fs/promises';
import { createAgent, type Agent } from '../agent/agent.js';
import { connectToServer } from '../agent/remote/server-connection.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { createRemoteNodeApi } from '../rpc/node/remote-node-api.js';
import type { BundleUpdate, NodeApi } from '../rpc/node-api.js';
import { untilTrustDomain } from './agent-trust-domain.js';
import { showAgent } from './agent-operations.js';
import type { ListenAddress } from './listen-address.js';
import { openOperations, type Operations } from './operations.js';

/** How an agent in a cluster is started. */
export interface AgentOptions {
  /** That of the trust bundle unless said. */
  readonly trustDomain?: string;
  readonly server: { readonly host: string; readonly port: number };
  /** Of the projected service-account token. */
  readonly tokenFile: string;
  /** Of the trust bundle, for the first contact. */
  readonly bundleFile: string;
  /** For probes and metrics; nowhere unless said. */
  readonly operations?: ListenAddress;
  /** Of Signet, for metrics. */
  readonly version?: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Stops it. */
  readonly signal: AbortSignal;
}

/** A running agent. */
export interface RunningAgent {
  readonly nodeName: string;
  readonly agent: Agent;
  /** Where health and metrics are, `ip:port`. */
  readonly operationsAddress: string | undefined;
  /** Resolves when it has stopped, after `signal` was aborted. */
  readonly stopped: Promise<void>;
}

/** Attests this node, and follows its server. Resolves when the server has taken it. */
export async function startAgent(options: AgentOptions): Promise<RunningAgent> {
  const { clock, random, logger, signal } = options;
  const operations = await openOperations({
    ...{ program: 'agent', address: options.operations, version: options.version ?? '' },
    ...{ clock, random, logger },
  });
  signal.addEventListener('abort', () => operations.stopping(), { once: true });
  try {
    const { nodeName, agent, stopped } = await attested(options, operations);
    return {
      nodeName,
      agent,
      operationsAddress: operations.address,
      stopped: stopped.finally(() => operations.close()),
    };
  } catch (error) {
    await operations.close();
    throw error;
  }
}

async function attested(
  options: AgentOptions,
  operations: Operations,
): Promise<Omit<RunningAgent, 'operationsAddress'>> {
  const { clock, random, logger, signal } = options;
  /** What health and metrics are read from, as it comes to be. */
  const come: { agent?: Agent; nodeName?: string } = {};
  operations.health.ready.add('attested', () =>
    come.nodeName === undefined ? 'the server has not taken this agent yet' : undefined,
  );
  // What it holds is served without the server, so a connection that is lost does not make it unready.
  operations.health.ready.add('synced', () =>
    come.agent?.ready.value === true ? undefined : 'the registrations and bundles have not come yet',
  );
  showAgent(operations, () => come.agent);
  operations.show('node', () => come.nodeName ?? null);
  const readBundle = (): Promise<string> => readFile(options.bundleFile, 'utf8');
  const trustDomain = options.trustDomain ?? (await untilTrustDomain(readBundle, { clock, logger, signal }));
  const server = await connectToServer(
    {
      ...{ trustDomain, ...options.server, keyType: 'ec-p256', clock, random, logger, readBundle },
      readToken: () => readFile(options.tokenFile, 'utf8'),
    },
    signal,
  );
  const { nodeName } = server;
  come.nodeName = nodeName;
  const remote = createRemoteNodeApi(
    () => server.rpc,
    trustDomain,
    (id) => come.agent?.svidOf(id),
  );
  const api: NodeApi = {
    ...remote,
    bundles: (until) =>
      tapped(remote.bundles(until), ({ own, taintedX509 }) => server.learn(own, taintedX509)),
  };
  const agent = createAgent({ api, nodeName, clock, random, logger });
  come.agent = agent;
  const stopped = agent.run(signal).finally(() => server.close());
  return { nodeName, agent, stopped };
}

/** Shows each update to the connection as well, which lives by the same bundle. */
async function* tapped(
  updates: AsyncIterable<BundleUpdate>,
  show: (update: BundleUpdate) => void,
): AsyncIterable<BundleUpdate> {
  for await (const update of updates) {
    show(update);
    yield update;
  }
}
