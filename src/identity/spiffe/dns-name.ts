/** The longest DNS name in text form (RFC 1035 §2.3.4). */
const MAX_DNS_NAME_BYTES = 253;
const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** Whether a DNS name is of a Kubernetes namespace: a Service's in it, or a pod's, in the short form or the usual long one. */
export function isDnsNameOfNamespace(name: string, namespace: string): boolean {
  return ['svc', 'svc.cluster.local'].some((suffix) => name.endsWith(`.${namespace}.${suffix}`));
}

/**
 * Why a text may not stand as a DNS name in an SVID, as a clause for a person; undefined when it may.
 *
 * Strict (RFC 1123 §2.1, lower case, no wildcard, no final dot): a name is compared by many programs in many ways, and
 * one that reads like a SPIFFE ID or an IP address would satisfy a matcher that looks at all names of a certificate.
 */
export function dnsNameProblem(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (name.length > MAX_DNS_NAME_BYTES)
    return `has ${name.length} characters; a DNS name has at most ${MAX_DNS_NAME_BYTES}`;
  if (name.includes('://')) return `"${name}" is a URI; a DNS name such as "payments.example.org" is wanted`;
  if (name.startsWith('*')) return `"${name}" is a wildcard; a workload proves only names that are its own`;
  const labels = name.split('.');
  for (const label of labels) {
    if (label === '') return `"${name}" has an empty label; remove ".." and any "." at its start or end`;
    if (label.length > 63) return `"${name}" has a label of ${label.length} characters; 63 are allowed`;
    if (!LABEL.test(label))
      return `"${name}" is no DNS name: "${label}" may hold only a-z, 0-9 and "-", and "-" not at an end`;
  }
  // An all-numeric last label reads as an IPv4 address (RFC 1123 §2.1).
  if (/^[0-9]+$/.test(labels.at(-1) ?? ''))
    return `"${name}" reads as an IP address; its last label must hold a letter`;
  return undefined;
}
