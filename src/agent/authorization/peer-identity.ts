import { parseCertificate } from '../../identity/pki/certificate.js';
import { decodePem } from '../../identity/pki/pem.js';
import { parseSpiffeId } from '../../identity/spiffe/id.js';
import { SignetError } from '../../lib/errors.js';

/** Who called, or why that cannot be told. */
export type CallerFinding =
  | { readonly ok: true; readonly spiffeId: string | undefined }
  | { readonly ok: false; readonly reason: string };

/** What a proxy says of the certificate of its peer. */
export interface PeerCertificateSays {
  /** Envoy: the first URI SAN, else a DNS SAN, else the subject; empty without a certificate. */
  readonly principal: string;
  /** The certificate, URL-encoded PEM, where the proxy is told to send it; else empty. */
  readonly certificate: string;
}

const MAX_CERTIFICATE = 256 * 1024;

/**
 * Reads the caller from what Envoy says of its peer's certificate, which Envoy has verified. As a principal may also be
 * a DNS name or a subject, only a SPIFFE ID of a known trust domain is taken; where the certificate itself came, it must
 * have that ID as its only URI SAN (X.509-SVID §2). A certificate that is no SVID is refused, not taken for none.
 */
export function readCaller(
  { principal, certificate }: PeerCertificateSays,
  knowsTrustDomain: (name: string) => boolean,
): CallerFinding {
  if (principal === '')
    return certificate === ''
      ? { ok: true, spiffeId: undefined }
      : { ok: false, reason: 'the certificate of the caller has no name' };
  let trustDomain: string;
  try {
    ({ trustDomain } = parseSpiffeId(principal));
  } catch {
    return { ok: false, reason: 'the certificate of the caller has no SPIFFE ID' };
  }
  if (!knowsTrustDomain(trustDomain))
    return { ok: false, reason: `the caller is of trust domain ${trustDomain}, of which there is no bundle` };
  const problem = certificate === '' ? undefined : certificateProblem(certificate, principal);
  return problem === undefined ? { ok: true, spiffeId: principal } : { ok: false, reason: problem };
}

function certificateProblem(certificate: string, principal: string): string | undefined {
  if (certificate.length > MAX_CERTIFICATE) return 'the certificate of the caller is too long';
  const read = uriSans(certificate);
  if (!read.ok) return read.reason;
  const { uris } = read;
  if (uris.length !== 1) return `the certificate of the caller has ${uris.length} URI SANs; an SVID has one`;
  return uris[0] === principal
    ? undefined
    : 'the certificate of the caller has another SPIFFE ID than is said';
}

type UriSans =
  { readonly ok: true; readonly uris: readonly string[] } | { readonly ok: false; readonly reason: string };

/**
 * What certificates were found to hold, and nothing else: a proxy sends the same few again and again, and reading one costs
 * more than the decision. Bounded by number and size; the oldest goes first.
 */
const known = new Map<string, UriSans>();
const MAX_KNOWN = 512;
const MAX_KNOWN_LENGTH = 8 * 1024;

function uriSans(certificate: string): UriSans {
  const before = known.get(certificate);
  if (before !== undefined) return before;
  const read = readUriSans(certificate);
  if (certificate.length > MAX_KNOWN_LENGTH) return read;
  const [oldest] = known.keys();
  if (known.size >= MAX_KNOWN && oldest !== undefined) known.delete(oldest);
  known.set(certificate, read);
  return read;
}

function readUriSans(certificate: string): UriSans {
  try {
    const [der] = decodePem(decodeURIComponent(certificate), 'CERTIFICATE');
    return { ok: true, uris: parseCertificate(der ?? new Uint8Array()).uris };
  } catch (thrown) {
    const reason = `the certificate of the caller cannot be read: ${SignetError.from(thrown).message}`;
    return { ok: false, reason };
  }
}
