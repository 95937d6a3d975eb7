import { Command } from 'commander';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseCertificate, splitCertificates } from '../../identity/pki/certificate.js';
import { encodePem } from '../../identity/pki/pem.js';
import { verifyX509Svid } from '../../identity/pki/svid.js';
import { parseSpiffeId } from '../../identity/spiffe/id.js';
import { SignetError } from '../../lib/errors.js';
import type { X509SVIDResponse } from '../../rpc/gen/spiffe/workload.js';
import { first, socketOption, timeoutOption, withWorkloadApi } from '../endpoint.js';
import { readBundle, readCertificates } from '../files.js';
import { EXIT, ExitWith, type CliIo } from '../io.js';
import { answer, outputOption, time, type OutputFormat } from '../output.js';
import { svidListCommand } from './svid-list.js';
import { certificateText, summarise, summariseResponse, svidTable } from '../svid-text.js';

interface FetchOptions {
  readonly socket?: string;
  readonly timeout: number;
  readonly output: OutputFormat;
  readonly write?: string;
}

interface VerifyOptions {
  readonly bundle: string;
  readonly spiffeId?: string;
  readonly output: OutputFormat;
}

/** `signet svid fetch|watch|show|verify|list`. */
export function svidCommand(io: CliIo): Command {
  const svid = new Command('svid').description('Work with X.509-SVIDs.');
  svid
    .command('fetch')
    .description('Get the X.509-SVIDs of the workload behind the socket.')
    .addOption(socketOption())
    .addOption(timeoutOption())
    .option('--write <directory>', 'also write svid.N.pem, svid.N.key (mode 0600) and bundle.N.pem there')
    .addOption(outputOption())
    .action((options: FetchOptions) => fetchSvids(io, options));
  svid
    .command('watch')
    .description('Print the X.509-SVIDs now and at each change, until stopped.')
    .addOption(socketOption())
    .addOption(outputOption())
    .action((options: FetchOptions) => watchSvids(io, options));
  svid
    .command('show')
    .description('Print what the certificates in a PEM file say. "-" reads standard input.')
    .argument('<file>')
    .addOption(outputOption())
    .action((file: string, options: { output: OutputFormat }) => {
      const chain = readCertificates(file);
      answer(io, options.output, summarise(chain), () =>
        chain.map((der) => certificateText(parseCertificate(der), io.clock.now())).join('\n\n'),
      );
    });
  svid
    .command('verify')
    .description(
      'Verify an X.509-SVID (PEM, leaf first) against a bundle. Exit code 1 when it does not hold.',
    )
    .argument('<file>')
    .requiredOption('--bundle <file>', 'the bundle of the SVID’s trust domain: SPIFFE bundle document or PEM')
    .option('--spiffe-id <id>', 'the SPIFFE ID that it must have')
    .addOption(outputOption())
    .action((file: string, options: VerifyOptions) => verifySvid(io, file, options));
  svid.addCommand(svidListCommand(io));
  return svid;
}

async function fetchSvids(io: CliIo, options: FetchOptions): Promise<void> {
  const response = await withWorkloadApi(io, options.socket, (api) =>
    first(api.fetchX509Svid({}, { deadlineMs: options.timeout * 1000, signal: io.signal })),
  );
  if (options.write !== undefined) writeSvids(options.write, response);
  const svids = summariseResponse(response);
  answer(io, options.output, { svids }, () => svidTable(svids, io.clock.now()));
}

async function watchSvids(io: CliIo, options: FetchOptions): Promise<void> {
  await withWorkloadApi(io, options.socket, async (api) => {
    for await (const response of api.fetchX509Svid({}, { signal: io.signal })) {
      const svids = summariseResponse(response);
      const now = io.clock.now();
      answer(
        io,
        options.output,
        { time: time(now), svids },
        () => `${time(now)}\n${svidTable(svids, now)}\n`,
      );
    }
  });
}

function writeSvids(directory: string, response: X509SVIDResponse): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const pem = (der: Uint8Array): string =>
    splitCertificates(der)
      .map((certificate) => encodePem('CERTIFICATE', certificate))
      .join('');
  for (const [index, svid] of response.svids.entries()) {
    replaceFile(join(directory, `svid.${index}.pem`), pem(svid.x509Svid), 0o644);
    replaceFile(join(directory, `svid.${index}.key`), encodePem('PRIVATE KEY', svid.x509SvidKey), 0o600);
    replaceFile(join(directory, `bundle.${index}.pem`), pem(svid.bundle), 0o644);
  }
}

/** A new file takes the old one's place: writing into the old one would keep its mode, and show readers a part. */
function replaceFile(path: string, text: string, mode: number): void {
  const temporary = `${path}.new`;
  rmSync(temporary, { force: true });
  writeFileSync(temporary, text, { mode, flag: 'wx' });
  renameSync(temporary, path);
}

function verifySvid(io: CliIo, file: string, options: VerifyOptions): void {
  const chain = readCertificates(file);
  const verdict = ((): { valid: boolean; spiffeID?: string; reason?: string; code?: string } => {
    try {
      const leaf = parseCertificate(chain[0] ?? new Uint8Array());
      const trustDomain = parseSpiffeId(leaf.uris[0] ?? '').trustDomain;
      const bundle = readBundle(options.bundle, trustDomain);
      const { id } = verifyX509Svid({ chain, bundles: () => bundle, now: io.clock.now() });
      if (options.spiffeId !== undefined && parseSpiffeId(options.spiffeId).uri !== id.uri) {
        return {
          valid: false,
          spiffeID: id.uri,
          reason: `the SPIFFE ID is ${id.uri}`,
          code: 'UnexpectedSpiffeId',
        };
      }
      return { valid: true, spiffeID: id.uri };
    } catch (thrown) {
      const error = SignetError.from(thrown);
      // A bundle that cannot be read is no verdict on the SVID.
      if (error.code === 'FileUnreadable') throw error;
      return { valid: false, reason: error.message, code: error.code };
    }
  })();
  answer(io, options.output, verdict, () =>
    verdict.valid
      ? `valid: ${verdict.spiffeID ?? ''}`
      : `not valid: ${verdict.reason ?? ''} [${verdict.code ?? ''}]`,
  );
  if (!verdict.valid) throw new ExitWith(EXIT.negative);
}
