import { Command } from 'commander';
import { verifyJwtSvid } from '../../identity/spiffe/jwt-svid.js';
import { SignetError } from '../../lib/errors.js';
import { RpcError } from '../../rpc/client.js';
import { socketOption, timeoutOption, withWorkloadApi } from '../endpoint.js';
import { readBundle, readUserFile } from '../files.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer, outputOption, type OutputFormat } from '../output.js';

interface FetchOptions {
  readonly socket?: string;
  readonly timeout: number;
  readonly output: OutputFormat;
  readonly audience: readonly string[];
  readonly spiffeId?: string;
}

interface VerifyOptions {
  readonly socket?: string;
  readonly timeout: number;
  readonly output: OutputFormat;
  readonly audience: string;
  readonly bundle?: string;
  readonly trustDomain?: string;
}

interface Verdict {
  readonly valid: boolean;
  readonly spiffeID?: string;
  readonly claims?: unknown;
  readonly reason?: string;
}

/** `signet jwt fetch|verify`. */
export function jwtCommand(io: CliIo): Command {
  const jwt = new Command('jwt').description('Work with JWT-SVIDs.');
  jwt
    .command('fetch')
    .description('Get JWT-SVIDs of the workload behind the socket.')
    .requiredOption('-a, --audience <name...>', 'whom the token is for')
    .option('--spiffe-id <id>', 'only this identity of the workload')
    .addOption(socketOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .action((options: FetchOptions) => fetchJwt(io, options));
  jwt
    .command('verify')
    .description(
      'Verify a JWT-SVID: by the Workload API, or against a bundle file. "-" reads the token from standard input.',
    )
    .argument('<token>')
    .requiredOption('-a, --audience <name>', 'what we are called')
    .option('--bundle <file>', 'SPIFFE bundle document to verify against, instead of the Workload API')
    .option('--trust-domain <name>', 'whose bundle that file is')
    .addOption(socketOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .action((token: string, options: VerifyOptions) => verifyJwt(io, token, options));
  return jwt;
}

async function fetchJwt(io: CliIo, options: FetchOptions): Promise<void> {
  const response = await withWorkloadApi(io, options.socket, (api) =>
    api.fetchJwtsvid(
      { audience: [...options.audience], spiffeId: options.spiffeId ?? '' },
      { deadlineMs: options.timeout * 1000, signal: io.signal },
    ),
  );
  const svids = response.svids.map(({ spiffeId, hint, svid }) => ({ spiffeID: spiffeId, hint, token: svid }));
  answer(io, options.output, { svids }, () =>
    svids
      .map(({ spiffeID, hint, token }) => `${spiffeID}${hint === '' ? '' : ` (${hint})`}\n${token}`)
      .join('\n'),
  );
}

async function verifyJwt(io: CliIo, argument: string, options: VerifyOptions): Promise<void> {
  // A token on the command line is seen by every user of the machine; `-` keeps it out of the process list.
  const token = argument === '-' ? readUserFile('-').trim() : argument;
  const verdict =
    options.bundle === undefined
      ? await verifyByWorkloadApi(io, token, options)
      : await verifyByBundle(io, token, options, options.bundle);
  answer(io, options.output, verdict, () =>
    verdict.valid
      ? `valid: ${verdict.spiffeID ?? ''}\n${JSON.stringify(verdict.claims, null, 2)}`
      : `not valid: ${verdict.reason ?? ''}`,
  );
  if (!verdict.valid) throw new ExitWith(EXIT.negative);
}

async function verifyByWorkloadApi(io: CliIo, token: string, options: VerifyOptions): Promise<Verdict> {
  try {
    const { spiffeId, claims } = await withWorkloadApi(io, options.socket, (api) =>
      api.validateJwtsvid(
        { audience: options.audience, svid: token },
        { deadlineMs: options.timeout * 1000, signal: io.signal },
      ),
    );
    return { valid: true, spiffeID: spiffeId, claims };
  } catch (error) {
    if (error instanceof RpcError && error.status === 'InvalidArgument')
      return { valid: false, reason: error.message };
    throw error;
  }
}

async function verifyByBundle(
  io: CliIo,
  token: string,
  options: VerifyOptions,
  file: string,
): Promise<Verdict> {
  const { trustDomain } = options;
  if (trustDomain === undefined) {
    throw new SignetError(
      'TrustDomainNotSet',
      '--bundle needs --trust-domain: a bundle document does not name its own',
    );
  }
  const bundle = readBundle(file, trustDomain);
  try {
    const svid = await verifyJwtSvid({
      token,
      audience: options.audience,
      bundles: (name) => (name === trustDomain ? bundle : undefined),
      now: io.clock.now(),
    });
    return { valid: true, spiffeID: svid.id.uri, claims: svid.claims };
  } catch (thrown) {
    return { valid: false, reason: SignetError.from(thrown).message };
  }
}
