import { parseCertificate, splitCertificates, type Certificate } from '../identity/pki/certificate.js';
import { encodePem } from '../identity/pki/pem.js';
import type { X509SVIDResponse } from '../rpc/gen/spiffe/workload.js';
import { distance, table, time } from './output.js';

/** What people and programs want to know of one X.509-SVID. */
export interface SvidSummary {
  readonly spiffeID: string;
  readonly hint: string;
  readonly serial: string;
  readonly notBefore: string;
  readonly notAfter: string;
  /** Subject key ID of the authority that signed. */
  readonly authority: string;
  readonly dnsNames: readonly string[];
  /** PEM, leaf first. */
  readonly certificates: readonly string[];
}

/** Summarises a certificate chain, leaf first. */
export function summarise(chain: readonly Uint8Array[], hint = ''): SvidSummary {
  const certificates = chain.map((der) => parseCertificate(der));
  const leaf = certificates[0];
  if (leaf === undefined) throw new Error('an X.509-SVID without a certificate');
  return {
    spiffeID: leaf.uris[0] ?? '',
    hint,
    serial: leaf.serial,
    notBefore: time(leaf.notBefore),
    notAfter: time(leaf.notAfter),
    authority: leaf.authorityKeyId ?? '',
    dnsNames: leaf.dnsNames,
    certificates: chain.map((der) => encodePem('CERTIFICATE', der)),
  };
}

/** All SVIDs of a Workload API message. */
export function summariseResponse(response: X509SVIDResponse): readonly SvidSummary[] {
  return response.svids.map((svid) => summarise(splitCertificates(svid.x509Svid), svid.hint));
}

/** SVIDs as a table. */
export function svidTable(svids: readonly SvidSummary[], now: number): string {
  return table(
    ['SPIFFE ID', 'HINT', 'SERIAL', 'EXPIRES', 'AUTHORITY'],
    svids.map((svid) => [
      svid.spiffeID,
      svid.hint === '' ? '-' : svid.hint,
      svid.serial,
      `${svid.notAfter} (${distance(now, Date.parse(svid.notAfter))})`,
      svid.authority,
    ]),
  );
}

/** One certificate in words. */
export function certificateText(certificate: Certificate, now: number): string {
  const rows: [string, string][] = [
    ['SPIFFE ID', certificate.uris.join(', ') || '-'],
    ['Subject', certificate.subjectText || '-'],
    ['Serial', certificate.serial],
    ['Valid from', time(certificate.notBefore)],
    ['Valid until', `${time(certificate.notAfter)} (${distance(now, certificate.notAfter)})`],
    ['DNS names', certificate.dnsNames.join(', ') || '-'],
    ['CA', certificate.isCa ? 'yes' : 'no'],
    ['Key usage', [...(certificate.keyUsage ?? [])].join(', ') || '-'],
    ['Subject key ID', certificate.subjectKeyId ?? '-'],
    ['Authority key ID', certificate.authorityKeyId ?? '-'],
  ];
  return rows.map(([name, value]) => `${`${name}:`.padEnd(18)}${value}`).join('\n');
}
