import { Command, Option } from 'commander';
import type { CliIo } from '../cli/io.js';
import { parseTrustDomain } from '../identity/spiffe/id.js';
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
  readonly httpAddress: ListenAddress;
  readonly logFormat: LogFormat;
  readonly logLevel: LogLevel;
}

const DEFAULT_SERVER = 'signet-server.signet-system.svc:8443';

/** `signet agent`: what gets the identities of a node's workloads. */
export function agentCommand(io: CliIo, version: string): Command {
  return new Command('agent')
    .description('Run the agent of a node: it proves the node to the server and gets the SVIDs of its pods.')
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
      'the trust bundle (JWKS), for the first contact',
      '/var/run/signet/bundle/bundle.json',
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
