import { toHex } from './bytes.js';
import type { DerNode } from './der.js';
import { contextTag, parseDer, TAG } from './der.js';
import { expectTag, readNamedBits, readOid, readSmallInteger } from './der-read.js';
import { refuse } from './errors.js';
import type { GeneralName, GeneralNames } from './general-names.js';
import { NO_NAMES, readGeneralName, readGeneralNames } from './general-names.js';
import { OID } from './oids.js';

/** Key usages by their names in RFC 5280 §4.2.1.3, in bit order. */
export const KEY_USAGES = [
  'digitalSignature',
  'contentCommitment',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const;

/** RFC 5280 §4.2.1.10. */
export interface NameConstraints {
  readonly permitted: readonly GeneralName[];
  readonly excluded: readonly GeneralName[];
}

/** What the extensions of a certificate say. */
export interface CertificateExtensions {
  /** basicConstraints cA. */
  readonly isCa: boolean;
  /** How many intermediate CAs may follow below; only with cA. */
  readonly pathLength?: number;
  /** Names as in {@link KEY_USAGES}; absent when there is no such extension. */
  readonly keyUsage?: ReadonlySet<string>;
  readonly keyUsageCritical: boolean;
  /** Dotted object identifiers; absent when there is no such extension. */
  readonly extendedKeyUsage?: readonly string[];
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  /** Raw address bytes, 4 or 16 each. */
  readonly ipAddresses: readonly Uint8Array[];
  readonly emails: readonly string[];
  /** All alternative names, also of kinds without a field of their own. */
  readonly alternativeNames: GeneralNames;
  readonly alternativeNamesCritical: boolean;
  /** Lower-case hex. */
  readonly subjectKeyId?: string;
  readonly authorityKeyId?: string;
  readonly nameConstraints?: NameConstraints;
  /** Critical extensions (dotted) that we do not understand: whoever verifies must refuse. */
  readonly unknownCritical: readonly string[];
}

/** The same, while it is put together. */
type Draft = { -readonly [K in keyof CertificateExtensions]: CertificateExtensions[K] };

type Reader = (value: DerNode, draft: Draft, critical: boolean) => void;

const READERS: ReadonlyMap<string, Reader> = new Map<string, Reader>([
  [OID.basicConstraints, readBasicConstraints],
  [OID.keyUsage, readKeyUsage],
  [OID.extendedKeyUsage, readExtendedKeyUsage],
  [OID.subjectAltName, readAlternativeNames],
  [OID.subjectKeyIdentifier, readSubjectKeyId],
  [OID.authorityKeyIdentifier, readAuthorityKeyId],
  [OID.nameConstraints, readNameConstraints],
  // Policies without constraints on them cannot make a path invalid: nobody asks for a certain policy.
  [OID.certificatePolicies, () => undefined],
]);

/** Reads the extensions part of a certificate (RFC 5280 §4.2). Throws PkiError `DerInvalid`. */
export function readExtensions(wrapper: DerNode | undefined): CertificateExtensions {
  const draft: Draft = {
    isCa: false,
    keyUsageCritical: false,
    uris: [],
    dnsNames: [],
    ipAddresses: [],
    emails: [],
    alternativeNames: NO_NAMES,
    alternativeNamesCritical: false,
    unknownCritical: [],
  };
  if (wrapper === undefined) return draft;
  const unknown: string[] = [];
  const seen = new Set<string>();
  for (const extension of expectTag(wrapper.children[0], TAG.sequence, 'the extensions').children) {
    const { name, critical, value } = readExtension(extension);
    // RFC 5280 §4.2: two would let two readers see two different certificates.
    if (seen.has(name)) refuse('DerInvalid', `extension ${name} is there twice`);
    seen.add(name);
    const reader = READERS.get(name);
    if (reader !== undefined) reader(parseDer(value, `extension ${name}`), draft, critical);
    else if (critical) unknown.push(name);
  }
  return { ...draft, unknownCritical: unknown };
}

function readExtension(node: DerNode): { name: string; critical: boolean; value: Uint8Array } {
  const parts = expectTag(node, TAG.sequence, 'an extension').children;
  const name = readOid(parts[0], 'an extension');
  const hasFlag = parts[1]?.tag === TAG.boolean;
  // FALSE is the default, so DER leaves it out; some real CAs write it nevertheless, and it means the same.
  const critical = hasFlag && parts[1]?.content[0] === 0xff;
  if (parts.length !== (hasFlag ? 3 : 2)) refuse('DerInvalid', `extension ${name} is malformed`);
  const value = expectTag(parts[hasFlag ? 2 : 1], TAG.octetString, `extension ${name}`).content;
  return { name, critical, value };
}

function readBasicConstraints(value: DerNode, draft: Draft): void {
  const parts = [...expectTag(value, TAG.sequence, 'basicConstraints').children];
  if (parts[0]?.tag === TAG.boolean) draft.isCa = parts.shift()?.content[0] === 0xff;
  const length = parts.shift();
  if (length !== undefined) draft.pathLength = readSmallInteger(length, 'pathLenConstraint');
  if (parts.length > 0) refuse('DerInvalid', 'basicConstraints is malformed');
  if (draft.pathLength !== undefined && !draft.isCa) {
    refuse('DerInvalid', 'basicConstraints has a path length, but the certificate is no CA');
  }
}

function readKeyUsage(value: DerNode, draft: Draft, critical: boolean): void {
  const bits = readNamedBits(value, 'keyUsage');
  draft.keyUsage = new Set(bits.flatMap((bit) => KEY_USAGES[bit] ?? []));
  draft.keyUsageCritical = critical;
  if (bits.length === 0) refuse('DerInvalid', 'keyUsage names no usage');
}

function readExtendedKeyUsage(value: DerNode, draft: Draft): void {
  const usages = expectTag(value, TAG.sequence, 'extendedKeyUsage').children;
  if (usages.length === 0) refuse('DerInvalid', 'extendedKeyUsage names no usage');
  draft.extendedKeyUsage = usages.map((usage) => readOid(usage, 'extendedKeyUsage'));
}

function readAlternativeNames(value: DerNode, draft: Draft, critical: boolean): void {
  const names = readGeneralNames(value, 'subjectAltName');
  draft.alternativeNames = names;
  draft.alternativeNamesCritical = critical;
  draft.uris = names.uris;
  draft.dnsNames = names.dnsNames;
  draft.ipAddresses = names.ipAddresses;
  draft.emails = names.emails;
}

function readSubjectKeyId(value: DerNode, draft: Draft): void {
  draft.subjectKeyId = toHex(expectTag(value, TAG.octetString, 'subjectKeyIdentifier').content);
}

function readAuthorityKeyId(value: DerNode, draft: Draft): void {
  const keyId = expectTag(value, TAG.sequence, 'authorityKeyIdentifier').children.find(
    (part) => part.tag === contextTag(0, false),
  );
  if (keyId !== undefined) draft.authorityKeyId = toHex(keyId.content);
}

function readNameConstraints(value: DerNode, draft: Draft): void {
  let permitted: readonly GeneralName[] = [];
  let excluded: readonly GeneralName[] = [];
  const parts = expectTag(value, TAG.sequence, 'nameConstraints').children;
  if (parts.length === 0) refuse('DerInvalid', 'nameConstraints is empty');
  for (const part of parts) {
    if (part.tag === contextTag(0, true)) permitted = part.children.map(readSubtree);
    else if (part.tag === contextTag(1, true)) excluded = part.children.map(readSubtree);
    else refuse('DerInvalid', 'nameConstraints is malformed');
  }
  draft.nameConstraints = { permitted, excluded };
}

/** GeneralSubtree; minimum must be 0 and maximum absent (RFC 5280 §4.2.1.10). */
function readSubtree(node: DerNode): GeneralName {
  const [base, ...bounds] = expectTag(node, TAG.sequence, 'a name constraint').children;
  if (base === undefined || bounds.length > 0) refuse('DerInvalid', 'a name constraint is malformed');
  return readGeneralName(base);
}
