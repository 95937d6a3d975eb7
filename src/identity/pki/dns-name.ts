import { refuse } from './errors.js';

const LABEL = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;
const MAX_DNS_NAME = 253;
const MAX_LABEL = 63;

/**
 * Checks that a text may be signed as a DNS name: lower-case labels of letters, digits and inner hyphens (RFC 1123
 * §2.1), no wildcard, no dot at the end, not all digits. Anything looser is dangerous: some proxies match principals
 * against DNS names too, so a "DNS name" that reads `spiffe://…` would pass for an identity.
 *
 * @throws PkiError `NameInvalid`
 */
export function checkDnsName(name: string): void {
  if (name.length === 0 || name.length > MAX_DNS_NAME) {
    refuse('NameInvalid', `a DNS name has ${name.length} characters; it must have 1 to ${MAX_DNS_NAME}`);
  }
  const labels = name.split('.');
  for (const label of labels) {
    if (label.length > MAX_LABEL || !LABEL.test(label)) {
      refuse(
        'NameInvalid',
        `"${name}" is no DNS name: ${label === '' ? 'it has an empty label' : `label "${label}" is not made of a-z, 0-9 and inner "-" (1 to ${MAX_LABEL} characters)`}`,
      );
    }
  }
  // 10.0.0.1 would be taken for an address by some readers and for a name by others.
  if (/^[0-9]+$/.test(labels.at(-1) ?? '')) {
    refuse(
      'NameInvalid',
      `"${name}" is no DNS name: its last label is a number, so it reads like an IP address`,
    );
  }
}
