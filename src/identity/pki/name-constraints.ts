import type { Certificate } from './certificate.js';
import { bytesEqual } from './bytes.js';
import { refuse } from './errors.js';
import type { NameConstraints } from './extensions.js';
import type { GeneralName } from './general-names.js';
import { comparableName, EMPTY_NAME } from './names.js';

/** emailAddress as an attribute of a subject, which e-mail constraints would cover, too. */
const EMAIL_ATTRIBUTE = '1.2.840.113549.1.9.1=';

/**
 * Checks the names of a certificate against the constraints of a CA above it (RFC 5280 §4.2.1.10, §6.1.3 b, c). URI,
 * DNS, IP and directory names are compared; where e-mail or other kinds are constrained, a certificate that has such a
 * name is refused, as the RFC asks of those who cannot compare them.
 *
 * @throws PkiError `ChainNameConstraint`
 */
export function checkNameConstraints(constraints: NameConstraints, certificate: Certificate): void {
  for (const name of namesOf(certificate)) {
    const same = (constraint: GeneralName): boolean => constraint.kind === name.kind;
    if (constraints.excluded.filter(same).some((constraint) => covers(constraint, name, 'excluded'))) {
      refuse('ChainNameConstraint', `a CA excludes ${describe(name)} by its name constraints`);
    }
    const permitted = constraints.permitted.filter(same);
    if (permitted.length > 0 && !permitted.some((constraint) => covers(constraint, name, 'permitted'))) {
      refuse('ChainNameConstraint', `no CA name constraint permits ${describe(name)}`);
    }
  }
}

function namesOf(certificate: Certificate): GeneralName[] {
  const names = certificate.alternativeNames;
  const list: GeneralName[] = [
    ...names.uris.map((text): GeneralName => ({ kind: 'uri', text })),
    ...names.dnsNames.map((text): GeneralName => ({ kind: 'dns', text })),
    ...names.emails.map((text): GeneralName => ({ kind: 'email', text })),
    ...names.ipAddresses.map((bytes): GeneralName => ({ kind: 'ip', bytes })),
    ...names.directoryNames.map((bytes): GeneralName => ({ kind: 'directory', bytes })),
  ];
  if (!bytesEqual(certificate.subject, EMPTY_NAME))
    list.push({ kind: 'directory', bytes: certificate.subject });
  if (certificate.subjectText.includes(EMAIL_ATTRIBUTE)) list.push({ kind: 'email', text: '' });
  if (names.other > 0) list.push({ kind: 'other' });
  return list;
}

function describe(name: GeneralName): string {
  switch (name.kind) {
    case 'uri':
    case 'dns':
    case 'email':
      return `the ${name.kind.toUpperCase()} name "${name.text}"`;
    case 'ip':
      return 'an IP address';
    case 'directory':
      return 'a directory name';
    case 'other':
      return 'a name of another kind';
  }
}

/**
 * Whether a constraint covers a name of the same kind. Where that cannot be told, the answer is the one that refuses:
 * yes for an excluded subtree, no for a permitted one.
 */
function covers(constraint: GeneralName, name: GeneralName, use: 'excluded' | 'permitted'): boolean {
  const unsure = use === 'excluded';
  if (constraint.kind === 'uri' && name.kind === 'uri') {
    const host = hostOf(name.text);
    return host === undefined ? unsure : coversHost(constraint.text, host);
  }
  if (constraint.kind === 'dns' && name.kind === 'dns') return coversDns(constraint.text, name.text, use);
  if (constraint.kind === 'ip' && name.kind === 'ip') {
    return coversAddress(constraint.bytes, name.bytes) ?? unsure;
  }
  if (constraint.kind === 'directory' && name.kind === 'directory') {
    const prefix = comparableName(constraint.bytes);
    const full = comparableName(name.bytes);
    return prefix.length <= full.length && prefix.every((part, index) => part === full[index]);
  }
  return unsure;
}

/** The host of a URI; undefined where there is none, or where it is an IP address (which RFC 5280 says to refuse). */
function hostOf(uri: string): string | undefined {
  const [, authority = ''] = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/([^/?#]*)/.exec(uri) ?? [];
  const host = authority
    .slice(authority.lastIndexOf('@') + 1)
    .replace(/:[0-9]*$/, '')
    .toLowerCase();
  if (host === '' || host.startsWith('[') || /^[0-9]+(\.[0-9]+){3}$/.test(host)) return undefined;
  return host;
}

/** A URI constraint: `.example.org` stands for hosts below, `example.org` for that host alone. */
function coversHost(constraint: string, host: string): boolean {
  const wanted = constraint.toLowerCase();
  if (wanted === '') return true;
  return wanted.startsWith('.') ? host.endsWith(wanted) && host.length > wanted.length : host === wanted;
}

/** A DNS constraint: the name itself and everything below. */
function coversDns(constraint: string, name: string, use: 'excluded' | 'permitted'): boolean {
  const wanted = constraint.toLowerCase();
  const host = name.toLowerCase();
  if (wanted === '') return true;
  const below = wanted.startsWith('.') ? wanted : `.${wanted}`;
  if (host.endsWith(below) || (host === wanted && !wanted.startsWith('.'))) return true;
  // A wildcard also stands for names that an excluded subtree holds.
  return use === 'excluded' && host.startsWith('*.') && below.endsWith(host.slice(1));
}

/** An address and its mask; undefined where the constraint is malformed. */
function coversAddress(constraint: Uint8Array, address: Uint8Array): boolean | undefined {
  if (constraint.length !== 8 && constraint.length !== 32) return undefined;
  if (constraint.length !== address.length * 2) return false;
  return address.every((byte, index) => {
    const mask = constraint[address.length + index] ?? 0;
    return (byte & mask) === ((constraint[index] ?? 0) & mask);
  });
}
