import { Command, Option } from 'commander';
import { isAbsolute, normalize } from 'node:path';
import type { CliIo } from '../cli/io.js';
import { parseDuration } from '../lib/duration.js';
import { parseTrustDomain } from '../identity/spiffe/id.js';
import { SignetError } from '../lib/errors.js';
import { systemRandom } from '../lib/random.js';
import { argument } from './argument.js';
import { parseListenAddress, type ListenAddress } from './listen-address.js';
import { createLogger, LOG_LEVELS, type LogFormat, type LogLevel } from './logging.js';
import { parseServerAddress, type ServerAddress } from './server-address.js';

interface AgentFlags {
  readonly trustDomain?: string;
  readonly server: ServerAddress;
  readonly tokenFile: string;
  readonly bundleFile: string;
  readonly stateDirectory: string;
  readonly kubeletDirectory: string;
  readonly csi: boolean;
  readonly sharedSocket: boolean;
  readonly tellReasons: boolean;
  readonly hold?: number;
  readonly maxStreamsPerPod?: number;
  readonly maxConnectionsPerPod?: number;
  readonly stopGrace: number;
  readonly httpAddress: ListenAddress;
  readonly logFormat: LogFormat;
  readonly logLevel: LogLevel;
}

const DEFAULT_SERVER = 'signet-server.signet-system.svc:8443';

/** `signet agent`: what gets the identities of a node's workloads. */
export function agentCommand(io: CliIo, version: string): Command {
  return new Command('agent')
    .description(
      'Run the agent of a node: it proves the node to the server, gets the SVIDs of its pods, and serves them.',
    )
    .option(
      '--trust-domain <name>',
      'the trust domain of the server (default: that of the trust bundle)',
      argument(parseTrustDomain),
    )
    .addOption(
      new Option('--server <host:port>', 'where the server is')
        .argParser(argument(parseServerAddress))
        .default(parseServerAddress(DEFAULT_SERVER), DEFAULT_SERVER),
    )
    .option('--token-file <file>', 'the projected service-account token', '/var/run/signet/token/token')
    .option(
      '--bundle-file <file>',
      'the trust bundle (JWKS), for the first contact; while it is not there, that of $SIGNET_BUNDLE counts',
      '/var/run/signet/bundle/bundle.json',
    )
    .addOption(
      new Option('--state-directory <directory>', 'where volumes and shared sockets are')
        .argParser(argument(parseDirectory))
        .default('/run/signet'),
    )
    .addOption(
      new Option('--kubelet-directory <directory>', 'the --root-dir of the kubelet')
        .argParser(argument(parseDirectory))
        .default('/var/lib/kubelet'),
    )
    .option('--no-csi', 'serve no volumes: then pods have no sockets of their own')
    .option(
      '--shared-socket',
      'serve all processes of the node at api.sock and authz.sock in the state directory, as the kernel tells them apart; for pods this needs hostPID',
      false,
    )
    .option('--tell-reasons', 'tell callers why they were denied', false)
    .option(
      '--hold <duration>',
      'how long a caller whose identity is not here yet waits for it (default: 5s)',
      argument(parseDuration),
    )
    .option(
      '--max-streams-per-pod <number>',
      'open streams that a pod may have (default: 256)',
      argument(parsePositive),
    )
    .option(
      '--max-connections-per-pod <number>',
      'connections that a socket of a pod may have (default: 512)',
      argument(parsePositive),
    )
    .addOption(
      new Option(
        '--stop-grace <duration>',
        'how long it goes on after SIGTERM while no other agent of this node has taken over',
      )
        .argParser(argument(parseDuration))
        .default(20, '20s'),
    )
    .addOption(
      new Option(
        '--http-address <ip:port>',
        'where health (/livez, /readyz) and metrics (/metrics) are served',
      )
        .argParser(argument(parseListenAddress))
        .default({ address: '0.0.0.0', port: 8080 }, '0.0.0.0:8080'),
    )
    .addOption(
      new Option('--log-format <format>', 'how log lines look').choices(['text', 'json']).default('json'),
    )
    .addOption(
      new Option('--log-level <level>', 'how much is logged').choices([...LOG_LEVELS]).default('info'),
    )
    .action(async (flags: AgentFlags) => {
      const { startAgent } = await import('./agent.js');
      const agent = await startAgent({
        ...(flags.trustDomain === undefined ? {} : { trustDomain: flags.trustDomain }),
        server: flags.server,
        tokenFile: flags.tokenFile,
        bundleFile: flags.bundleFile,
        ...startBundle(io),
        serving: {
          stateDirectory: flags.stateDirectory,
          kubeletDirectory: flags.csi ? flags.kubeletDirectory : undefined,
          sharedSocket: flags.sharedSocket,
          tellReasons: flags.tellReasons,
          maxConnectionsPerPod: flags.maxConnectionsPerPod,
          graceMs: flags.stopGrace * 1000,
        },
        limits: {
          ...(flags.hold === undefined ? {} : { holdMs: flags.hold * 1000 }),
          ...(flags.maxStreamsPerPod === undefined ? {} : { maxStreamsPerPod: flags.maxStreamsPerPod }),
        },
        operations: flags.httpAddress,
        version,
        clock: io.clock,
        random: systemRandom,
        logger: createLogger({ level: flags.logLevel, format: flags.logFormat }),
        signal: io.signal,
      });
      await agent.stopped;
    });
}

/** The bundle that a manifest of Kubernetes puts into the environment: the kubelet starts no container before it is there. */
function startBundle({ environment }: CliIo): { readonly startBundle?: string } {
  const text = environment['SIGNET_BUNDLE'];
  return text === undefined || text === '' ? {} : { startBundle: text };
}

/** What other programs are told of must mean the same to them. */
function parseDirectory(text: string): string {
  if (!isAbsolute(text)) throw new SignetError('PathInvalid', `"${text}" does not begin with /`);
  return normalize(text);
}

function parsePositive(text: string): number {
  const number = Number(text);
  if (!/^[0-9]{1,7}$/.test(text) || number < 1)
    throw new SignetError('NumberInvalid', `"${text}" is no number from 1 to 9999999`);
  return number;
}
