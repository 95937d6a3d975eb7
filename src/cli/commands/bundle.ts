import { Command } from 'commander';
import { parseCertificate, splitCertificates } from '../../identity/pki/certificate.js';
import { formatBundleDocument, parseBundleDocument } from '../../identity/spiffe/bundle-document.js';
import type { TrustBundle } from '../../identity/spiffe/bundle.js';
import { parseTrustDomain } from '../../identity/spiffe/id.js';
import { first, socketOption, timeoutOption, withWorkloadApi } from '../endpoint.js';
import type { CliIo } from '../io.js';
import { answer, distance, outputOption, table, time, type OutputFormat } from '../output.js';

interface ShowOptions {
  readonly socket?: string;
  readonly timeout: number;
  readonly output: OutputFormat;
}

/** `signet bundle show`. */
export function bundleCommand(io: CliIo): Command {
  const bundle = new Command('bundle').description('Work with trust bundles.');
  bundle
    .command('show')
    .description('Print the bundles that the workload behind the socket may know, its own first.')
    .addOption(socketOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .action((options: ShowOptions) => showBundles(io, options));
  return bundle;
}

async function showBundles(io: CliIo, options: ShowOptions): Promise<void> {
  const call = { deadlineMs: options.timeout * 1000, signal: io.signal };
  const [x509, jwt] = await withWorkloadApi(io, options.socket, (api) =>
    Promise.all([first(api.fetchX509Bundles({}, call)), first(api.fetchJwtBundles({}, call))]),
  );
  const names = [...new Set([...Object.keys(x509.bundles), ...Object.keys(jwt.bundles)])];
  const bundles = names.map((name): TrustBundle => {
    const trustDomain = parseTrustDomain(name);
    const keys = jwt.bundles[name];
    const jwtAuthorities = keys === undefined ? [] : parseBundleDocument(trustDomain, keys).jwtAuthorities;
    const x509Authorities = splitCertificates(x509.bundles[name] ?? new Uint8Array());
    return { trustDomain, x509Authorities, jwtAuthorities, sequence: 0 };
  });
  const documents = bundles.map((bundle) => ({
    trustDomain: bundle.trustDomain,
    bundle: JSON.parse(formatBundleDocument(bundle)) as unknown,
  }));
  answer(io, options.output, { bundles: documents }, () =>
    bundles.map((bundle) => text(bundle, io.clock.now())).join('\n\n'),
  );
}

function text(bundle: TrustBundle, now: number): string {
  const rows = [
    ...bundle.x509Authorities.map((der) => {
      const certificate = parseCertificate(der);
      const until = `${time(certificate.notAfter)} (${distance(now, certificate.notAfter)})`;
      return ['X.509', certificate.subjectKeyId ?? '-', until];
    }),
    ...bundle.jwtAuthorities.map(({ keyId }) => ['JWT', keyId, '-']),
  ];
  return `${bundle.trustDomain}\n${table(['KIND', 'ID', 'EXPIRES'], rows)}`;
}
