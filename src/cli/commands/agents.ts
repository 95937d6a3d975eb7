import { Command } from 'commander';
import { addClusterOptions, withCluster, type ClusterFlags } from '../cluster.js';
import { podMetrics, signetPods, type SignetPod } from '../installation.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer, distance, outputOption, printable, table, type OutputFormat } from '../output.js';

interface AgentsOptions extends ClusterFlags {
  readonly output: OutputFormat;
}

/** What one agent tells of itself, where it can be asked. */
interface Agent extends SignetPod {
  readonly connected?: boolean;
  readonly registrations?: number;
  readonly svids?: number;
  readonly failing?: number;
}

/** `signet agents`. */
export function agentsCommand(io: CliIo): Command {
  const command = new Command('agents').description(
    'List the node agents of a cluster, and what each holds. Exit code 1 when one is not ready.',
  );
  return addClusterOptions(command)
    .addOption(outputOption())
    .action(async (options: AgentsOptions) => {
      const agents = await readAgents(io, options);
      answer(io, options.output, { agents }, () =>
        agents.length === 0 ? 'no agent runs in this cluster' : agentTable(agents, io.clock.now()),
      );
      if (!agents.every(({ ready }) => ready)) throw new ExitWith(EXIT.negative);
    });
}

/** So many are asked at a time: each answer is read through the API server. */
const AT_A_TIME = 16;

function readAgents(io: CliIo, options: ClusterFlags): Promise<readonly Agent[]> {
  return withCluster(io, options, async (api) => {
    const pods = await signetPods(api, 'agent', io.signal);
    const agents: Agent[] = [];
    for (let at = 0; at < pods.length; at += AT_A_TIME) {
      const some = pods.slice(at, at + AT_A_TIME);
      const told = await Promise.all(some.map((pod) => podMetrics(api, pod, io.signal)));
      agents.push(...some.map((pod, index) => ({ ...pod, ...holdings(told[index]) })));
    }
    return agents;
  });
}

function holdings(metrics: ReadonlyMap<string, number> | undefined): Partial<Agent> {
  const registrations = metrics?.get('signet_registrations');
  const svids = metrics?.get('signet_agent_svids{kind="x509"}');
  const failing = metrics?.get('signet_agent_svids_failing');
  const connected = metrics?.get('signet_agent_connected');
  return {
    ...(connected === undefined ? {} : { connected: connected === 1 }),
    ...(registrations === undefined ? {} : { registrations }),
    ...(svids === undefined ? {} : { svids }),
    ...(failing === undefined ? {} : { failing }),
  };
}

function agentTable(agents: readonly Agent[], now: number): string {
  const number = (value: number | undefined): string => (value === undefined ? '?' : String(value));
  const rows = agents.map((agent) => [
    agent.node === '' ? '-' : agent.node,
    `${agent.namespace}/${agent.name}`,
    agent.ready ? 'yes' : 'no',
    agent.connected === undefined ? '?' : agent.connected ? 'yes' : 'no',
    number(agent.registrations),
    number(agent.svids),
    number(agent.failing),
    String(agent.restarts),
    distance(now, agent.createdAt).replace(/ ago$/, ''),
  ]);
  const header = [
    ...['NODE', 'AGENT', 'READY', 'CONNECTED', 'REGISTRATIONS', 'SVIDS', 'FAILING', 'RESTARTS', 'AGE'],
  ];
  const silent = agents.some(({ ready, connected }) => ready && connected === undefined);
  return [
    table(header, rows),
    ...agents.flatMap(({ name, problem }) =>
      problem === undefined ? [] : [printable(`${name}: ${problem}`)],
    ),
    ...(silent
      ? ['?: its metrics cannot be read; that takes the verb get on pods/proxy in its namespace']
      : []),
  ].join('\n');
}
