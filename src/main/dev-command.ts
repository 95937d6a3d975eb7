import { Command, Option } from 'commander';
import { resolve } from 'node:path';
import { answer, table, type OutputFormat } from '../cli/output.js';
import type { CliIo } from '../cli/io.js';
import { parseTrustDomain } from '../identity/spiffe/id.js';
import { systemRandom } from '../lib/random.js';
import { argument } from './argument.js';
import { startDev, type ReadyReport } from './dev.js';
import { parseListenAddress, type ListenAddress } from './listen-address.js';
import { createLogger, LOG_LEVELS, type LogFormat, type LogLevel } from './logging.js';

interface DevOptions {
  readonly state?: string;
  readonly trustDomain?: string;
  readonly tellReasons?: boolean;
  readonly authorizationAddress?: ListenAddress;
  readonly applicationAddress?: ListenAddress;
  readonly logFormat: LogFormat;
  readonly logLevel: LogLevel;
  readonly output: OutputFormat;
}

/** `signet dev <folder|file>`: server and agent in this process. */
export function devCommand(io: CliIo): Command {
  return new Command('dev')
    .description('Run a server and an agent in one process, for the pods and identities in a folder of YAML.')
    .argument('<path>', 'a folder or file of Kubernetes and Signet resources; it is watched')
    .option(
      '--state <directory>',
      'authorities and sockets are kept here (default: SIGNET_STATE, else .signet)',
    )
    .option('--trust-domain <name>', 'where no TrustDomain resource says it', argument(parseTrustDomain))
    .option('--tell-reasons', 'tell denied callers why, in the header x-signet-reason: for development')
    .option(
      '--authorization-address <ip:port>',
      "serve Envoy's external authorization here too, over mutual TLS",
      argument(parseListenAddress),
    )
    .option(
      '--application-address <ip:port>',
      'serve decisions for applications (AuthZEN, OPA) here too, over mutual TLS',
      argument(parseListenAddress),
    )
    .addOption(
      new Option('--log-format <format>', 'how log lines look').choices(['text', 'json']).default('text'),
    )
    .addOption(
      new Option('--log-level <level>', 'how much is logged').choices([...LOG_LEVELS]).default('info'),
    )
    .addOption(
      new Option('-o, --output <format>', 'how "ready" is told on stdout: text, or one line of JSON')
        .choices(['text', 'json'])
        .default('text'),
    )
    .action((path: string, options: DevOptions) => dev(io, path, options));
}

async function dev(io: CliIo, path: string, options: DevOptions): Promise<void> {
  const logger = createLogger({ level: options.logLevel, format: options.logFormat });
  const running = await startDev({
    resourcePath: resolve(path),
    stateDirectory: resolve(options.state ?? io.environment['SIGNET_STATE'] ?? '.signet'),
    ...(options.trustDomain === undefined ? {} : { trustDomain: options.trustDomain }),
    tellReasons: options.tellReasons ?? false,
    ...(options.authorizationAddress === undefined
      ? {}
      : { authorizationAddress: options.authorizationAddress }),
    applicationAddress: options.applicationAddress,
    clock: io.clock,
    random: systemRandom,
    logger,
    signal: io.signal,
  });
  answer(io, options.output, running.report, () => text(running.report));
  await running.stopped;
}

function text(report: ReadyReport): string {
  const { authorization, applications } = report;
  const rows = report.pods.map((pod) => [
    pod.namespace,
    pod.name,
    pod.serviceAccount,
    pod.spiffeIDs.join(', ') || '(none)',
    `unix://${pod.socket}`,
  ]);
  return [
    `Signet is ready. Trust domain ${report.trustDomain}, bundle in ${report.bundleFile}.`,
    '',
    table(['NAMESPACE', 'POD', 'SERVICE ACCOUNT', 'SPIFFE ID', 'SOCKET'], rows),
    '',
    `Processes outside these pods: unix://${report.sharedSocket}`,
    ...(authorization === undefined
      ? []
      : [`External authorization: ${authorization.address}, by ${authorization.spiffeID}`]),
    ...(applications === undefined
      ? []
      : [`Decisions for applications: https://${applications.address}, by ${applications.spiffeID}`]),
    'Try: SPIFFE_ENDPOINT_SOCKET=<socket> signet svid fetch. Stop with ^C.',
  ].join('\n');
}
