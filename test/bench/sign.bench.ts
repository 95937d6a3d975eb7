import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import type * as Csrs from '../../src/identity/pki/csr.js';
import type * as Certificates from '../../src/identity/pki/certificate.js';
import type * as Issuing from '../../src/identity/pki/issue.js';
import type * as Keys from '../../src/identity/pki/keys.js';
import type * as Ids from '../../src/identity/spiffe/id.js';
import type { BenchRow } from './row.js';

const HOUR = 3_600_000;
const ROUNDS = 3;

/**
 * X.509-SVIDs of P-256 on one core, from a public key to a certificate that was checked, beside what OpenSSL needs for
 * the bare signature and Go for the same certificate. All times are CPU times, and the runs take turns, so that other
 * work on the machine changes the values but hardly the ratios.
 */
export async function run(): Promise<BenchRow[]> {
  const { sampled, verified, fromCsr } = await contestants();
  const rounds = Array.from({ length: ROUNDS }, () => ({
    bare: opensslSignsPerSecond(),
    sampled: perSecond(sampled, 8000),
    verified: perSecond(verified, 4000),
    fromCsr: perSecond(fromCsr, 4000),
    go: goCertificatesPerSecond(),
  }));
  const value = (name: 'bare' | 'sampled' | 'verified' | 'fromCsr'): number =>
    median(rounds.map((round) => round[name]));
  const toBare = (name: 'sampled' | 'verified'): number =>
    median(rounds.map((round) => round[name] / round.bare));
  const toGo = (name: 'sampled' | 'verified'): number =>
    median(rounds.flatMap((round) => (round.go === undefined ? [] : [round[name] / round.go])));
  const go = rounds.flatMap((round) => round.go ?? []);
  const csrMs = 1000 / value('fromCsr');
  return [
    { name: 'openssl speed ecdsap256, signatures alone', value: value('bare'), unit: '/s' },
    {
      name: 'X.509-SVIDs, P-256, to openssl',
      value: value('sampled'),
      unit: '/s',
      ratio: toBare('sampled'),
      target: '>= 0.5 ×',
      pass: toBare('sampled') >= 0.5,
    },
    {
      name: 'the same, every signature verified, to openssl',
      value: value('verified'),
      unit: '/s',
      ratio: toBare('verified'),
    },
    ...(go.length === 0
      ? []
      : [
          { name: "Go's x509.CreateCertificate", value: median(go), unit: '/s' },
          {
            name: 'X.509-SVIDs, P-256, to Go',
            value: value('sampled'),
            unit: '/s',
            ratio: toGo('sampled'),
            target: '>= 1.0 ×',
            pass: toGo('sampled') >= 1,
          },
          {
            name: 'the same, every signature verified (as Go does), to Go',
            value: value('verified'),
            unit: '/s',
            ratio: toGo('verified'),
          },
        ]),
    {
      name: 'from a CSR, possession proven',
      value: csrMs,
      unit: 'ms',
      target: '<= 0.12 ms',
      pass: csrMs <= 0.12,
    },
  ];
}

interface Contestants {
  /** From a public key, with the checks as shipped. */
  readonly sampled: () => unknown;
  /** From a public key, with every signature verified as well. */
  readonly verified: () => unknown;
  /** From a CSR, with the checks as shipped. */
  readonly fromCsr: () => unknown;
}

async function contestants(): Promise<Contestants> {
  // What is shipped is measured; the types are those of its source.
  const built = async <T>(path: string): Promise<T> =>
    (await import(new URL(`../../dist/identity/${path}`, import.meta.url).href)) as T;
  const { generateKeyPair, exportSpki, signerOf } = await built<typeof Keys>('pki/keys.js');
  const { createIssuer, issueCa } = await built<typeof Issuing>('pki/issue.js');
  const { parseCertificate } = await built<typeof Certificates>('pki/certificate.js');
  const { createCsr, parseCsr } = await built<typeof Csrs>('pki/csr.js');
  const { spiffeId } = await built<typeof Ids>('spiffe/id.js');

  const serial = (): Uint8Array => {
    const bytes = randomBytes(16);
    bytes[0] = (bytes[0] ?? 0) & 0x7f;
    return bytes;
  };
  const notBefore = Date.UTC(2026, 0, 1);
  const authority = await generateKeyPair('ec-p256');
  const signer = signerOf(authority);
  const der = await issueCa({
    signer,
    subjectPublicKey: authority.publicKey,
    trustDomain: 'example.org',
    serial: serial(),
    notBefore,
    notAfter: notBefore + 24 * HOUR,
  });
  const certificate = parseCertificate(der);
  const shipped = createIssuer({ signer, certificate, profile: 'x509-svid' });
  const strict = createIssuer({ signer, certificate, profile: 'x509-svid', verifyEvery: 1 });
  const subject = await generateKeyPair('ec-p256');
  const csr = createCsr(subject);
  const spki = exportSpki(subject.publicKey);
  const id = spiffeId('example.org', '/ns/payments/sa/order-service');
  const issue = (issuer: Issuing.Issuer, publicKeySpki: Uint8Array): unknown =>
    issuer.issueSvid({
      publicKeySpki,
      spiffeId: id,
      dnsNames: [],
      serial: serial(),
      notBefore,
      notAfter: notBefore + HOUR,
    });
  return {
    sampled: () => issue(shipped, spki),
    verified: () => issue(strict, spki),
    fromCsr: () => issue(shipped, parseCsr(csr).spki),
  };
}

/** How often `act` can be done in a second of CPU time. */
function perSecond(act: () => unknown, count: number): number {
  for (let i = 0; i < count / 4; i++) act();
  const before = process.cpuUsage();
  for (let i = 0; i < count; i++) act();
  const { user, system } = process.cpuUsage(before);
  return (count * 1e6) / (user + system);
}

/** `openssl speed` counts user CPU time by itself. */
function opensslSignsPerSecond(): number {
  const out = execFileSync('openssl', ['speed', '-seconds', '1', 'ecdsap256'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const signs = /nistp256\)\s+\S+\s+\S+\s+([0-9.]+)/.exec(out)?.[1];
  if (signs === undefined) throw new Error(`openssl speed printed something else than expected: ${out}`);
  return Number(signs);
}

/** Undefined where there is no Go. */
function goCertificatesPerSecond(): number | undefined {
  const cwd = fileURLToPath(new URL('go/createcert/', import.meta.url));
  try {
    return Number(
      execFileSync('go', ['run', '.'], { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}
