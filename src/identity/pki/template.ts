import { concatBytes } from './bytes.js';
import { contextTag, TAG } from './der.js';
import { readTime } from './der-read.js';
import {
  encode,
  header,
  octetString,
  oid,
  sequence,
  smallInteger,
  time,
  unsignedInteger,
} from './der-write.js';
import { BugError } from '../../lib/errors.js';
import { OID } from './oids.js';
import {
  authorityKeyIdentifier,
  KEY_ID_BYTES,
  keyUsageExtension,
  LEAF_CONSTRAINTS,
  SVID_SUBJECT,
  TLS_BOTH_ROLES,
} from './profile.js';

/** The parts of an SVID that are the same for all of one authority and profile, encoded once. */
export interface SvidTemplate {
  /** AlgorithmIdentifier of the signature. */
  readonly algorithm: Uint8Array;
  /** AlgorithmIdentifier and issuer, as they stand together in the signed part. */
  readonly algorithmAndIssuer: Uint8Array;
  /** All extensions but subjectKeyIdentifier and subjectAltName. */
  readonly extensions: Uint8Array;
}

/** What is spliced into a template. */
export interface SvidHoles {
  /** Unsigned, big-endian. */
  readonly serial: Uint8Array;
  /** Both validity times, encoded. */
  readonly notBefore: Uint8Array;
  readonly notAfter: Uint8Array;
  /** SubjectPublicKeyInfo. */
  readonly spki: Uint8Array;
  readonly subjectKeyId: Uint8Array;
  /** First the URI, then the DNS names; checked ASCII. */
  readonly names: readonly { readonly tag: number; readonly text: string }[];
}

/** version v3, [0] EXPLICIT. */
export const VERSION_3: Uint8Array = encode(contextTag(0, true), smallInteger(2));
export const EXTENSIONS_TAG: number = contextTag(3, true);
export const URI_TAG: number = contextTag(6, false);
export const DNS_TAG: number = contextTag(2, false);
/** subjectKeyIdentifier up to the key ID itself, whose size is fixed. */
export const SKI_PREFIX: Uint8Array = concatBytes([
  header(TAG.sequence, 9 + KEY_ID_BYTES),
  oid(OID.subjectKeyIdentifier),
  header(TAG.octetString, 2 + KEY_ID_BYTES),
  header(TAG.octetString, KEY_ID_BYTES),
]);
export const SAN_OID: Uint8Array = oid(OID.subjectAltName);

/** The template of an authority. RSA subjects may also encipher keys (X509-SVID §4.3). */
export function svidTemplate(options: {
  readonly algorithm: Uint8Array;
  readonly issuer: Uint8Array;
  readonly authorityKeyId: Uint8Array;
  readonly rsaSubject: boolean;
}): SvidTemplate {
  return {
    algorithm: options.algorithm,
    algorithmAndIssuer: concatBytes([options.algorithm, options.issuer]),
    extensions: concatBytes([
      keyUsageExtension(options.rsaSubject ? ['digitalSignature', 'keyEncipherment'] : ['digitalSignature']),
      TLS_BOTH_ROLES,
      LEAF_CONSTRAINTS,
      authorityKeyIdentifier(options.authorityKeyId),
    ]),
  };
}

/** The signed part (TBSCertificate) of an SVID. */
export function fillTemplate(template: SvidTemplate, holes: SvidHoles): Uint8Array {
  const names = holes.names.map(({ tag, text }) => encode(tag, Buffer.from(text, 'latin1')));
  const alternativeNames = sequence(SAN_OID, octetString(sequence(...names)));
  const extensionsSize =
    template.extensions.length + SKI_PREFIX.length + KEY_ID_BYTES + alternativeNames.length;
  const extensionsHeader = header(TAG.sequence, extensionsSize);
  return sequence(
    VERSION_3,
    unsignedInteger(holes.serial),
    template.algorithmAndIssuer,
    sequence(holes.notBefore, holes.notAfter),
    SVID_SUBJECT,
    holes.spki,
    header(EXTENSIONS_TAG, extensionsHeader.length + extensionsSize),
    extensionsHeader,
    template.extensions,
    SKI_PREFIX,
    holes.subjectKeyId,
    alternativeNames,
  );
}

/** Joins the signed part with its signature. */
export function sealCertificate(tbs: Uint8Array, algorithm: Uint8Array, signature: Uint8Array): Uint8Array {
  const bits = header(TAG.bitString, signature.length + 1);
  const size = tbs.length + algorithm.length + bits.length + 1 + signature.length;
  return concatBytes([header(TAG.sequence, size), tbs, algorithm, bits, NO_UNUSED_BITS, signature]);
}

const NO_UNUSED_BITS = Uint8Array.of(0);

/**
 * Encodes times and remembers the last one: in one second, most certificates share theirs. Each new encoding is read
 * back before it is used.
 */
export function timeEncoder(): (ms: number) => Uint8Array {
  let lastSecond = NaN;
  let last: Uint8Array = new Uint8Array();
  return (ms) => {
    const second = Math.floor(ms / 1000);
    if (second !== lastSecond) {
      const encoded = time(ms);
      const readBack = readTime(
        { tag: encoded[0] ?? 0, content: encoded.subarray(2), der: encoded, children: [] },
        'time',
      );
      if (readBack !== second * 1000) throw new BugError(`time ${ms} was encoded as ${readBack}`);
      last = encoded;
      lastSecond = second;
    }
    return last;
  };
}
