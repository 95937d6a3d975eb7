import { verify } from 'node:crypto';
import type { SpiffeId } from '../spiffe/id.js';
import { parseSpiffeId } from '../spiffe/id.js';
import { checkX509SvidLeaf, checkX509SvidSigner } from '../spiffe/x509-svid.js';
import { bytesEqual } from './bytes.js';
import type { Certificate } from './certificate.js';
import { parseCertificate } from './certificate.js';
import { checkDnsName } from './dns-name.js';
import { PkiError, refuse } from './errors.js';
import type { KeyType, Signer } from './keys.js';
import { exportSpki, keyTypeOfSpki } from './keys.js';
import { commonNameOf, keyIdOfBits, keyIdOfSpki } from './profile.js';
import { recheckSvid } from './recheck.js';
import { signatureAlgorithm } from './signature.js';
import type { SvidDraft, SvidHoles, SvidTemplate } from './template.js';
import { DNS_TAG, draftSvid, svidTemplate, timeEncoder, URI_TAG } from './template.js';

export { issueCa } from './issue-ca.js';
export type { CaRequest } from './issue-ca.js';

/** The most DNS names in one SVID. */
export const MAX_DNS_NAMES = 100;
/** Serial numbers have at least 64 random bits (CA/Browser Forum 7.1) and at most 20 bytes (RFC 5280 §4.1.2.2). */
export const MIN_SERIAL_BYTES = 8;
const MAX_SERIAL_BYTES = 20;

/** What one SVID shall say. All of it is decided by the signer's side; nothing comes from a CSR but the key. */
export interface SvidRequest {
  /** SubjectPublicKeyInfo of a key whose possession has been proven; `spki` of parseCsr's result. */
  readonly publicKeySpki: Uint8Array;
  readonly spiffeId: SpiffeId;
  readonly dnsNames: readonly string[];
  /** Random, unsigned, big-endian; 8 to 20 bytes. */
  readonly serial: Uint8Array;
  /** Milliseconds since the epoch; cut to the second. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** Signs X.509-SVIDs with one authority. */
export interface Issuer {
  readonly certificate: Certificate;
  /**
   * One SVID, DER, re-checked. A promise only where the key is not at hand.
   *
   * @throws PkiError `IssueRefused` or `NameInvalid` for a request that may not be signed, `KeyUnsupported` for its
   *   key, `IssuedInvalid` when what was made does not pass the check
   */
  issueSvid(request: SvidRequest): Uint8Array | Promise<Uint8Array>;
}

/** What an issuer is made of. */
export interface IssuerOptions {
  readonly signer: Signer;
  /** The authority's certificate; its key must be the signer's. */
  readonly certificate: Certificate;
  readonly profile: 'x509-svid';
  /**
   * Of ECDSA signatures made by a key at hand, every how-many-th is verified; 64 unless said, 1 for all. Verifying
   * one costs twice as much as making it. All others (remote keys, RSA, Ed25519, whose faults could come from outside
   * or reveal the key) are verified always, and so is everything once one has failed.
   */
  readonly verifyEvery?: number;
}

/**
 * An issuer for one authority. Templates are encoded here, once, and proven here: a probe made from each goes through
 * the general parser and the SVID profile, so that each certificate afterwards needs only to be compared.
 *
 * @throws PkiError `IssueRefused` when the certificate is no SVID authority or is not the signer's
 */
export function createIssuer(options: IssuerOptions): Issuer {
  const { signer, certificate } = options;
  checkAuthority(signer, certificate);
  const templateFor = (rsaSubject: boolean): SvidTemplate =>
    svidTemplate({
      algorithm: signatureAlgorithm(signer.keyType),
      issuer: certificate.subject,
      authorityKeyId: authorityKeyIdOf(certificate),
      rsaSubject,
    });
  const plain = templateFor(false);
  const rsa = templateFor(true);
  proveTemplate(plain, certificate);
  proveTemplate(rsa, certificate);

  const notBefore = timeEncoder();
  const notAfter = timeEncoder();
  const check = signatureCheck(signer, options.verifyEvery ?? 64);
  const seal = (
    template: SvidTemplate,
    holes: SvidHoles,
    draft: SvidDraft,
    signature: Uint8Array,
  ): Uint8Array => {
    const der = draft.seal(signature);
    const found = recheckSvid(der, template, holes);
    check(found.tbs, found.signature);
    return der;
  };
  return {
    certificate,
    issueSvid(request) {
      const keyType = checkRequest(request, certificate);
      const template = keyType.startsWith('rsa') ? rsa : plain;
      const holes: SvidHoles = {
        serial: withoutLeadingZeros(request.serial),
        notBefore: notBefore(request.notBefore),
        notAfter: notAfter(request.notAfter),
        spki: request.publicKeySpki,
        subjectKeyId: subjectKeyId(keyType, request.publicKeySpki),
        commonName: commonNameOf(request.dnsNames),
        names: [
          { tag: URI_TAG, text: request.spiffeId.uri },
          ...request.dnsNames.map((text) => ({ tag: DNS_TAG, text })),
        ],
      };
      const draft = draftSvid(template, holes, signer.keyType);
      const signature = signer.sign(draft.tbs);
      if (signature instanceof Promise) {
        check.always();
        return signature.then((bytes) => seal(template, holes, draft, bytes));
      }
      return seal(template, holes, draft, signature);
    },
  };
}

function checkAuthority(signer: Signer, certificate: Certificate): void {
  if (!bytesEqual(exportSpki(signer.publicKey), certificate.spki)) {
    refuse('IssueRefused', "the authority's certificate is not for the signer's key");
  }
  try {
    checkX509SvidSigner(certificate);
  } catch (cause) {
    refuse(
      'IssueRefused',
      `the authority's certificate may not sign SVIDs: ${cause instanceof Error ? cause.message : 'unreadable'}`,
      cause,
    );
  }
}

function authorityKeyIdOf(certificate: Certificate): Uint8Array {
  return certificate.subjectKeyId === undefined
    ? keyIdOfSpki(certificate.spki)
    : Buffer.from(certificate.subjectKeyId, 'hex');
}

/** Puts a sample of a template through the general parser and the profile. */
function proveTemplate(template: SvidTemplate, authority: Certificate): void {
  const encodeTime = timeEncoder();
  const holes: SvidHoles = {
    serial: Uint8Array.of(1),
    notBefore: encodeTime(authority.notBefore),
    notAfter: encodeTime(authority.notAfter),
    spki: authority.spki,
    subjectKeyId: keyIdOfSpki(authority.spki),
    commonName: 'probe.example.org',
    names: [
      { tag: URI_TAG, text: 'spiffe://example.org/probe' },
      { tag: DNS_TAG, text: 'probe.example.org' },
    ],
  };
  const probe = parseCertificate(draftSvid(template, holes, 'ed25519').seal(new Uint8Array(64)));
  checkX509SvidLeaf(probe);
  const isAsMeant =
    bytesEqual(probe.issuer, authority.subject) && probe.subjectText === 'CN=probe.example.org,O=Signet';
  if (!isAsMeant || probe.unknownCritical.length > 0) {
    refuse('IssuedInvalid', 'the template of the SVIDs is wrong; nothing is signed with it');
  }
}

/** Refuses what may not be signed; returns the type of the subject's key. */
function checkRequest(request: SvidRequest, authority: Certificate): KeyType {
  const { spiffeId, serial, notBefore, notAfter } = request;
  // Types do not bind at run time: the text that is signed is parsed again here.
  const id = parseSpiffeId(spiffeId.uri);
  if (id.uri !== spiffeId.uri)
    refuse('NameInvalid', `"${spiffeId.uri}" is not in canonical form; write "${id.uri}"`);
  if (id.path === '')
    refuse('NameInvalid', `"${id.uri}" names a trust domain; an SVID names a workload and needs a path`);
  const [authorityId] = authority.uris;
  if (authorityId !== undefined && authorityId !== `spiffe://${id.trustDomain}`) {
    refuse('IssueRefused', `the authority of "${authorityId}" may not sign "${id.uri}"`);
  }
  if (request.dnsNames.length > MAX_DNS_NAMES) {
    refuse(
      'NameInvalid',
      `an SVID may have ${MAX_DNS_NAMES} DNS names; ${request.dnsNames.length} are asked for`,
    );
  }
  for (const name of request.dnsNames) checkDnsName(name);
  checkSerialNumber(serial);
  if (!(Math.floor(notBefore / 1000) < Math.floor(notAfter / 1000))) {
    refuse(
      'IssueRefused',
      `the validity is empty: it would end (${notAfter} ms) before it begins (${notBefore} ms)`,
    );
  }
  if (notAfter > authority.notAfter + 999) {
    refuse(
      'IssueRefused',
      `the SVID would outlive its authority by ${Math.ceil((notAfter - authority.notAfter) / 1000)} s; shorten it`,
    );
  }
  return keyTypeOfSpki(request.publicKeySpki);
}

/** Refuses serial numbers that are too short to be unguessable or too long for RFC 5280. */
export function checkSerialNumber(serial: Uint8Array): void {
  const tooLong =
    serial.length > MAX_SERIAL_BYTES || (serial.length === MAX_SERIAL_BYTES && (serial[0] ?? 0) >= 0x80);
  if (serial.length < MIN_SERIAL_BYTES || tooLong || serial.every((byte) => byte === 0)) {
    refuse(
      'IssueRefused',
      `the serial number must be ${MIN_SERIAL_BYTES} to ${MAX_SERIAL_BYTES} random bytes (with a clear top bit at ${MAX_SERIAL_BYTES})`,
    );
  }
}

function withoutLeadingZeros(number: Uint8Array): Uint8Array {
  const start = number.findIndex((byte) => byte !== 0);
  return start <= 0 ? number : number.subarray(start);
}

/** SPKI is header and algorithm, then the key's bits: where these begin is fixed for all types but RSA. */
const BITS_AT: Readonly<Partial<Record<KeyType, number>>> = { 'ec-p256': 26, 'ec-p384': 23, ed25519: 12 };

function subjectKeyId(keyType: KeyType, spki: Uint8Array): Uint8Array {
  const at = BITS_AT[keyType];
  return at === undefined ? keyIdOfSpki(spki) : keyIdOfBits(spki.subarray(at));
}

interface SignatureCheck {
  /** Throws PkiError `IssuedInvalid` when the signature is looked at and is wrong. */
  (tbs: Uint8Array, signature: Uint8Array): void;
  /** From now on, look at each. */
  always(): void;
}

function signatureCheck(signer: Signer, every: number): SignatureCheck {
  let interval = signer.keyType.startsWith('ec-') ? Math.max(1, every) : 1;
  let count = 0;
  const digest = signer.keyType === 'ed25519' ? null : signer.keyType === 'ec-p384' ? 'sha384' : 'sha256';
  const check = (tbs: Uint8Array, signature: Uint8Array): void => {
    if (count++ % interval !== 0) return;
    if (verify(digest, tbs, signer.publicKey, signature)) return;
    interval = 1;
    throw new PkiError(
      'IssuedInvalid',
      "the signature that the authority's key made does not verify; the certificate is not handed out",
    );
  };
  return Object.assign(check, {
    always: () => {
      interval = 1;
    },
  });
}
