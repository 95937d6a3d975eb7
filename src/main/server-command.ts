import { Command, InvalidArgumentError, Option } from 'commander';
import { hostname } from 'node:os';
import type { CliIo } from '../cli/io.js';
import { systemRandom } from '../lib/random.js';
import { argument } from './argument.js';
import { formatListenAddress, parseListenAddress, type ListenAddress } from './listen-address.js';
import { createLogger, LOG_LEVELS, type LogFormat, type LogLevel } from './logging.js';
import { startServer } from './server.js';

interface ServerFlags {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace: string;
  readonly listenAddress: ListenAddress;
  readonly audience: string;
  readonly agentServiceAccount: { readonly namespace: string; readonly name: string };
  readonly logFormat: LogFormat;
  readonly logLevel: LogLevel;
}

/** `signet server`: the controllers and the certificate authority of a cluster. */
export function serverCommand(io: CliIo): Command {
  return new Command('server')
    .description('Run the controllers and the certificate authority of a cluster.')
    .option('--kubeconfig <file>', "how the API server is reached (default: the pod's service account)")
    .option('--context <name>', 'a context of the kubeconfig')
    .option('--namespace <name>', "where Signet's own Secrets and Lease are", 'signet-system')
    .option(
      '--listen-address <ip:port>',
      'where agents reach this server, over mutual TLS',
      argument(parseListenAddress),
      { address: '0.0.0.0', port: 8443 },
    )
    .option('--audience <name>', "audience of the agents' service-account tokens", 'signet-server')
    .option(
      '--agent-service-account <namespace/name>',
      'the only service account that agents run under',
      serviceAccount,
      { namespace: 'signet-system', name: 'signet-agent' },
    )
    .addOption(
      new Option('--log-format <format>', 'how log lines look').choices(['text', 'json']).default('json'),
    )
    .addOption(
      new Option('--log-level <level>', 'how much is logged').choices([...LOG_LEVELS]).default('info'),
    )
    .action((flags: ServerFlags) => run(io, flags));
}

async function run(io: CliIo, flags: ServerFlags): Promise<void> {
  const logger = createLogger({ level: flags.logLevel, format: flags.logFormat });
  const random = systemRandom;
  const server = await startServer({
    connection: {
      ...(flags.kubeconfig === undefined ? {} : { kubeconfig: flags.kubeconfig }),
      ...(flags.context === undefined ? {} : { context: flags.context }),
    },
    namespace: flags.namespace,
    // In a pod the host name is the pod's; what is random tells two processes of one pod apart.
    identity: `${hostname()}_${Buffer.from(random.bytes(6)).toString('hex')}`,
    listen: flags.listenAddress,
    audience: flags.audience,
    agentServiceAccount: flags.agentServiceAccount,
    ...{ clock: io.clock, random, logger, signal: io.signal },
  });
  logger.info('the server is ready', {
    trustDomain: server.trustDomain,
    address: formatListenAddress(server.address),
  });
  await server.stopped;
}

function serviceAccount(text: string): { readonly namespace: string; readonly name: string } {
  const [namespace, name, ...more] = text.split('/');
  if (namespace === undefined || namespace === '' || name === undefined || name === '' || more.length > 0)
    throw new InvalidArgumentError(`"${text}" must be written namespace/name`);
  return { namespace, name };
}
