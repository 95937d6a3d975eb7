import { Command } from 'commander';
import { DurationError, parseDuration } from '../../lib/duration.js';
import { SignetError } from '../../lib/errors.js';
import type { KubernetesApi } from '../../store/kubernetes/api.js';
import { addClusterOptions, withCluster, type ClusterFlags } from '../cluster.js';
import { readDecision, type LoggedDecision } from '../decision-line.js';
import { podLog, signetPods, type SignetPod } from '../installation.js';
import type { CliIo } from '../io.js';
import { printable } from '../output.js';

interface LogsOptions extends ClusterFlags {
  readonly follow?: true;
  readonly since?: string;
  readonly from?: string;
  readonly to?: string;
  readonly node?: string;
  readonly output: 'text' | 'json';
}

/** `signet logs`. */
export function logsCommand(io: CliIo): Command {
  const command = new Command('logs').description(
    'Print what the agents of a cluster have denied: who asked for what, and why it was refused, callers without an identity included. Also what only an Audit policy objects to.',
  );
  return addClusterOptions(command)
    .option('-f, --follow', 'go on with what comes')
    .option('--since <duration>', 'only what is newer, e.g. 10m (default: all that the nodes have kept)')
    .option('--from <text>', 'only callers whose SPIFFE ID holds this text')
    .option('--to <namespace/name>', 'only calls to the pods whose `namespace/name` begins so')
    .option('--node <name>', 'only of the agent on this node')
    .option('-o, --output <format>', 'text, or one JSON object per line', 'text')
    .action((options: LogsOptions) => tellDecisions(io, options));
}

function tellDecisions(io: CliIo, options: LogsOptions): Promise<void> {
  const sinceSeconds = options.since === undefined ? undefined : secondsOf(options.since);
  return withCluster(io, options, async (api) => {
    const all = await signetPods(api, 'agent', io.signal);
    const agents = all.filter(({ node }) => options.node === undefined || node === options.node);
    if (agents.length === 0)
      throw new SignetError(
        'AgentMissing',
        options.node === undefined
          ? 'no agent runs in this cluster'
          : `no agent runs on node ${options.node}; see \`signet agents\``,
      );
    const reading = { ...options, ...(sinceSeconds === undefined ? {} : { sinceSeconds }) };
    if (options.follow === true) {
      await Promise.all(
        agents.map((agent) =>
          read(io, api, agent, { ...reading, follow: true }, (one) => tell(io, options, one)),
        ),
      );
      return;
    }
    const found: LoggedDecision[] = [];
    for (const agent of agents)
      await read(io, api, agent, { ...reading, follow: false }, (one) => void found.push(one));
    found.sort((a, b) => a.time.localeCompare(b.time));
    for (const one of found) tell(io, options, one);
  });
}

interface Reading {
  readonly follow: boolean;
  readonly sinceSeconds?: number;
  readonly from?: string;
  readonly to?: string;
}

/** What one agent cannot tell must not keep the others from telling. */
async function read(
  io: CliIo,
  api: KubernetesApi,
  agent: SignetPod,
  reading: Reading,
  take: (decision: LoggedDecision) => void,
): Promise<void> {
  try {
    const { from, to, ...options } = reading;
    const lines = await podLog(api, agent, {
      follow: options.follow,
      ...(options.sinceSeconds === undefined ? {} : { sinceSeconds: options.sinceSeconds }),
      signal: io.signal,
    });
    for await (const line of lines) {
      const decision = line === undefined ? undefined : readDecision(line, agent.node);
      if (decision === undefined) continue;
      if (from !== undefined && decision.source?.includes(from) !== true) continue;
      if (to !== undefined && decision.target?.startsWith(to) !== true) continue;
      take(decision);
    }
  } catch (thrown) {
    if (io.signal.aborted) return;
    io.stderr(`${agent.name}: its log cannot be read: ${SignetError.from(thrown).message}\n`);
  }
}

function tell(io: CliIo, { output }: LogsOptions, decision: LoggedDecision): void {
  if (output === 'json') {
    io.stdout(`${JSON.stringify(decision)}\n`);
    return;
  }
  const { time, outcome, source, target, port, operation, reason, audit, node, requestId } = decision;
  // An identity is asked of the agent itself.
  const whom = target ?? (operation === 'identity' ? 'the agent' : '(unknown)');
  const where = `${whom}${port === undefined ? '' : `:${port}`}`;
  const what = operation === undefined ? '' : ` ${operation}`;
  const why = `${audit ?? reason ?? ''}${requestId === undefined ? '' : ` (request ${requestId})`}`;
  io.stdout(
    `${printable(`${time} ${outcome} ${source ?? '(none)'} -> ${where}${what} on ${node}: ${why}`)}\n`,
  );
}

function secondsOf(text: string): number {
  try {
    return Math.max(1, Math.ceil(parseDuration(text)));
  } catch (thrown) {
    if (thrown instanceof DurationError)
      throw new SignetError('ArgumentInvalid', `--since ${text}: ${thrown.message}`, { cause: thrown });
    throw thrown;
  }
}
