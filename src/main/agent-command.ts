import { Command, Option } from 'commander';
import type { CliIo } from '../cli/io.js';
import { parseTrustDomain } from '../identity/spiffe/id.js';
import { systemRandom } from '../lib/random.js';
import { startAgent } from './agent.js';
import { argument } from './argument.js';
import { createLogger, LOG_LEVELS, type LogFormat, type LogLevel } from './logging.js';
import { parseServerAddress, type ServerAddress } from './server-address.js';

interface AgentFlags {
  readonly trustDomain: string;
  readonly server: ServerAddress;
  readonly tokenFile: string;
  readonly bundleFile: string;
  readonly logFormat: LogFormat;
  readonly logLevel: LogLevel;
}

/** `signet agent`: what gets the identities of a node's workloads. */
export function agentCommand(io: CliIo): Command {
  return new Command('agent')
    .description('Run the agent of a node: it proves the node to the server and gets the SVIDs of its pods.')
    .requiredOption('--trust-domain <name>', 'the trust domain of the server', argument(parseTrustDomain))
    .option(
      '--server <host:port>',
      'where the server is',
      argument(parseServerAddress),
      parseServerAddress('signet-server.signet-system.svc:8443'),
    )
    .option('--token-file <file>', 'the projected service-account token', '/var/run/signet/token/token')
    .option(
      '--bundle-file <file>',
      'the trust bundle (JWKS), for the first contact',
      '/var/run/signet/bundle/bundle.json',
    )
    .addOption(
      new Option('--log-format <format>', 'how log lines look').choices(['text', 'json']).default('json'),
    )
    .addOption(
      new Option('--log-level <level>', 'how much is logged').choices([...LOG_LEVELS]).default('info'),
    )
    .action(async (flags: AgentFlags) => {
      const agent = await startAgent({
        trustDomain: flags.trustDomain,
        server: flags.server,
        tokenFile: flags.tokenFile,
        bundleFile: flags.bundleFile,
        clock: io.clock,
        random: systemRandom,
        logger: createLogger({ level: flags.logLevel, format: flags.logFormat }),
        signal: io.signal,
      });
      await agent.stopped;
    });
}
