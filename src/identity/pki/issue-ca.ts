import type { KeyObject } from 'node:crypto';
import { spiffeId } from '../spiffe/id.js';
import { checkX509SvidSigner } from '../spiffe/x509-svid.js';
import { bytesEqual, toHex } from './bytes.js';
import type { Certificate } from './certificate.js';
import { parseCertificate } from './certificate.js';
import { bitString, encode, octetString, oid, sequence, time, unsignedInteger } from './der-write.js';
import { refuse } from './errors.js';
import { uriName } from './general-names.js';
import type { Signer } from './keys.js';
import { exportSpki, keyTypeOf } from './keys.js';
import type { NameAttribute } from './names.js';
import { encodeName } from './names.js';
import { OID } from './oids.js';
import {
  authorityKeyIdentifier,
  caConstraints,
  keyIdOfSpki,
  keyUsageExtension,
  subjectKeyIdentifier,
} from './profile.js';
import { signatureAlgorithm } from './signature.js';
import { EXTENSIONS_TAG, VERSION_3 } from './template.js';

/** What one CA certificate shall say. */
export interface CaRequest {
  /** Signs: the subject's own key for a root, the issuer's for an intermediate. */
  readonly signer: Signer;
  /** Absent for a self-signed root. */
  readonly issuerCertificate?: Certificate;
  readonly subjectPublicKey: KeyObject;
  readonly trustDomain: string;
  /** Random, unsigned, big-endian; 8 to 20 bytes. Also part of the subject, which makes it unique. */
  readonly serial: Uint8Array;
  /** Milliseconds since the epoch; cut to the second. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** How many CAs may follow below; unlimited unless said. */
  readonly pathLength?: number;
  readonly commonName?: string;
}

/**
 * A CA certificate of a trust domain (X509-SVID §3), DER, re-checked before it is returned.
 *
 * @throws PkiError `IssueRefused` for a request that may not be signed, `IssuedInvalid` when the result does not pass
 */
export async function issueCa(request: CaRequest): Promise<Uint8Array> {
  const id = spiffeId(request.trustDomain, '');
  const spki = exportSpki(request.subjectPublicKey);
  keyTypeOf(request.subjectPublicKey);
  checkCaRequest(request, spki);

  // Distinct subjects: where two authorities share a name, some libraries try only the first they find.
  const subject = encodeName([
    { type: 'organization', value: 'Signet' },
    { type: 'serialNumber', value: toHex(request.serial) },
    ...(request.commonName === undefined
      ? []
      : [{ type: 'commonName', value: request.commonName } satisfies NameAttribute]),
  ]);
  const keyId = keyIdOfSpki(spki);
  const issuer = request.issuerCertificate;
  const algorithm = signatureAlgorithm(request.signer.keyType);
  const tbs = sequence(
    VERSION_3,
    unsignedInteger(request.serial),
    algorithm,
    issuer?.subject ?? subject,
    sequence(time(request.notBefore), time(request.notAfter)),
    subject,
    spki,
    encode(
      EXTENSIONS_TAG,
      sequence(
        keyUsageExtension(['keyCertSign', 'cRLSign']),
        caConstraints(request.pathLength),
        subjectKeyIdentifier(keyId),
        authorityKeyIdentifier(issuer === undefined ? keyId : authorityKeyId(issuer)),
        sequence(oid(OID.subjectAltName), octetString(sequence(uriName(id.uri)))),
      ),
    ),
  );
  const signature = await request.signer.sign(tbs);
  const der = sequence(tbs, algorithm, bitString(signature));
  recheckCa(der, request, id.uri, spki);
  return der;
}

function authorityKeyId(issuer: Certificate): Uint8Array {
  return issuer.subjectKeyId === undefined
    ? keyIdOfSpki(issuer.spki)
    : Buffer.from(issuer.subjectKeyId, 'hex');
}

function checkCaRequest(request: CaRequest, spki: Uint8Array): void {
  const { issuerCertificate: issuer, serial } = request;
  if (serial.length < 8 || serial.length > 20 || (serial.length === 20 && (serial[0] ?? 0) >= 0x80)) {
    refuse('IssueRefused', 'the serial number must be 8 to 20 random bytes (with a clear top bit at 20)');
  }
  if (!(Math.floor(request.notBefore / 1000) < Math.floor(request.notAfter / 1000)))
    refuse('IssueRefused', 'the validity of the CA certificate is empty');
  const signerSpki = exportSpki(request.signer.publicKey);
  if (issuer === undefined) {
    if (!bytesEqual(signerSpki, spki))
      refuse('IssueRefused', "a self-signed CA is signed by its own key; this signer's is another");
    return;
  }
  if (!bytesEqual(signerSpki, issuer.spki))
    refuse('IssueRefused', "the issuer's certificate is not for the signer's key");
  checkX509SvidSigner(issuer);
  if (request.notAfter > issuer.notAfter + 999)
    refuse('IssueRefused', 'the CA certificate would outlive its issuer; shorten it');
  if (issuer.pathLength === 0)
    refuse('IssueRefused', 'the issuer may sign no further CAs (its path length is 0)');
}

/** Reads the finished certificate with the general parser and compares it with the request. */
function recheckCa(der: Uint8Array, request: CaRequest, uri: string, spki: Uint8Array): void {
  const made = parseCertificate(der);
  checkX509SvidSigner(made);
  const right =
    made.uris[0] === uri &&
    made.pathLength === request.pathLength &&
    made.notBefore === Math.floor(request.notBefore / 1000) * 1000 &&
    made.notAfter === Math.floor(request.notAfter / 1000) * 1000 &&
    made.unknownCritical.length === 0 &&
    bytesEqual(made.spki, spki) &&
    made.isSignedBy(request.signer.publicKey);
  if (!right) refuse('IssuedInvalid', 'the CA certificate that was made is wrong; it is not handed out');
}
