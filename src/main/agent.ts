import { PolicyStore } from '../agent/access/policy-store.js';
import { createAgent, type Agent } from '../agent/agent.js';
import { createProcAttestor } from '../agent/attestor.js';
import { defaultAgentLimits, type AgentLimits } from '../agent/limits.js';
import { openAgentConnection, type AgentConnectionOptions } from './agent-connection.js';
import { showAgent, showPolicies } from './agent-operations.js';
import { openAgentServices, type ServingOptions } from './agent-services.js';
import type { ListenAddress } from './listen-address.js';
import { openOperations, type Operations } from './operations.js';
import { untilFollowed, untilSigned } from './signed.js';

/** How an agent in a cluster is started. */
export interface AgentOptions extends AgentConnectionOptions {
  /** Where workloads are served; nowhere unless said. */
  readonly serving?: ServingOptions;
  /** What differs from the limits that agents have. */
  readonly limits?: Partial<AgentLimits>;
  /** For probes and metrics; nowhere unless said. */
  readonly operations?: ListenAddress;
  /** Of Signet, for metrics. */
  readonly version?: string;
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

/**
 * Attests this node, follows its server, and serves the workloads of the node once all is there that they shall have.
 * Resolves when they are served; told to stop, it goes on until another agent serves them, or for the grace.
 */
export async function startAgent(options: AgentOptions): Promise<RunningAgent> {
  const { clock, random, logger, signal, version = '' } = options;
  const operations = await openOperations({
    ...{ program: 'agent', address: options.operations, version, clock, random, logger },
  });
  signal.addEventListener('abort', () => operations.stopping(), { once: true });
  try {
    const { nodeName, agent, stopped } = await serving(options, operations);
    return {
      ...{ nodeName, agent, operationsAddress: operations.address },
      stopped: stopped.finally(() => operations.close()),
    };
  } catch (error) {
    await operations.close();
    throw error;
  }
}

/** What health and metrics are read from, as it comes to be. */
interface Come {
  agent?: Agent;
  policies?: PolicyStore;
  nodeName?: string;
  signed?: true;
  served?: true;
}

async function serving(
  options: AgentOptions,
  operations: Operations,
): Promise<Omit<RunningAgent, 'operationsAddress'>> {
  const { clock, random, logger, signal, serving: where, version = '' } = options;
  const come: Come = {};
  showProgress(come, operations, where !== undefined);
  const connection = await openAgentConnection(options, (id) => come.agent?.svidOf(id));
  const { nodeName, podUid, api } = connection;
  const { maxDigestBytes } = defaultAgentLimits;
  const policies = where === undefined ? undefined : new PolicyStore(nodeName);
  const agent = createAgent({
    ...{ api, nodeName, clock, random, logger },
    attestor: createProcAttestor({ maxDigestBytes, ownPod: podUid }),
    ...(options.limits === undefined ? {} : { limits: options.limits }),
    ...(policies === undefined ? {} : { policies }),
  });
  Object.assign(come, { agent, nodeName, policies });
  const stop = new AbortController();
  const running = agent.run(stop.signal).finally(() => connection.close());
  const end = async (): Promise<void> => {
    stop.abort(signal.reason);
    await running;
  };
  if (where === undefined || policies === undefined)
    return { nodeName, agent, stopped: aborted(signal).then(end) };
  try {
    await untilSigned(agent, clock, signal);
    come.signed = true;
    await untilFollowed(policies, clock, signal);
    const services = await openAgentServices({
      ...{ options: where, agent, policies, nodeName, podUid, version, operations, clock, random, logger },
    });
    come.served = true;
    logger.info('the workloads of this node are served');
    const stopped = aborted(signal)
      .then(() => services.relieved())
      .then(() => services.close())
      .finally(end);
    return { nodeName, agent, stopped };
  } catch (error) {
    await end();
    throw error;
  }
}

function showProgress(come: Come, operations: Operations, serves: boolean): void {
  const { ready } = operations.health;
  ready.add('attested', () =>
    come.nodeName === undefined ? 'the server has not taken this agent yet' : undefined,
  );
  // What it holds is served without the server, so a connection that is lost does not make it unready.
  ready.add('synced', () =>
    come.agent?.ready.value === true ? undefined : 'the registrations and bundles have not come yet',
  );
  if (serves) {
    ready.add('signed', () => (come.signed === true ? undefined : 'the SVIDs are not signed yet'));
    ready.add('policies', () =>
      come.policies?.synced.value === true
        ? undefined
        : 'the policies have not come yet, so nothing is allowed',
    );
    ready.add('serving', () =>
      come.served === true ? undefined : 'the workloads of this node are not served yet',
    );
  }
  showAgent(operations, () => come.agent);
  operations.show('node', () => come.nodeName ?? null);
  showPolicies(operations, () => come.policies);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
