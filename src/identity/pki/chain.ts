import type { KeyObject } from 'node:crypto';
import { bytesEqual } from './bytes.js';
import type { Certificate } from './certificate.js';
import { parseCertificate } from './certificate.js';
import { PkiError, refuse } from './errors.js';
import { checkNameConstraints } from './name-constraints.js';

/** The most certificates that are looked at in a chain as it was sent. */
export const MAX_CHAIN_LENGTH = 16;
/** The most trust anchors. */
export const MAX_ROOTS = 1000;
/** The longest path, root and leaf included. */
const MAX_PATH_LENGTH = 10;
/** Signatures verified in one search, so that look-alike certificates cannot make it long. */
const MAX_SIGNATURE_CHECKS = 64;
const MIN_RSA_BITS = 2048;
const CURVES: ReadonlySet<string> = new Set(['prime256v1', 'secp384r1', 'secp521r1']);

/** What {@link verifyChain} needs. */
export interface ChainOptions {
  /** DER; the certificate in question first, then helpers in any order. */
  readonly chain: readonly Uint8Array[];
  /** Trust anchors, DER. They must be valid CA certificates themselves. */
  readonly roots: readonly Uint8Array[];
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** A path that was verified. */
export interface VerifiedChain {
  readonly leaf: Certificate;
  /** From the leaf to the root, both included. */
  readonly path: readonly Certificate[];
}

/**
 * Finds and verifies a path from the first certificate to a root (RFC 5280 §6.1): signatures, validity, cA, key usage,
 * path length, name constraints; a critical extension that is not understood is refused. What the leaf may be used for
 * is the caller's to check.
 *
 * @throws PkiError `ChainEmpty`, `ChainTooLong`, `CertificateInvalid`, `ChainUntrusted`, `ChainExpired`,
 *   `ChainNotYetValid`, `ChainSignature`, `ChainNotCa`, `ChainPathLength`, `ChainNameConstraint`, `ChainCritical`,
 *   `ChainWeakKey`: the reason of the path that came farthest
 */
export function verifyChain(options: ChainOptions): VerifiedChain {
  const { chain, roots, now } = options;
  if (chain.length > MAX_CHAIN_LENGTH)
    refuse('ChainTooLong', `the chain has ${chain.length} certificates; ${MAX_CHAIN_LENGTH} are allowed`);
  if (roots.length > MAX_ROOTS)
    refuse('ChainTooLong', `there are ${roots.length} roots; ${MAX_ROOTS} are allowed`);
  const [leaf, ...helpers] = chain.map(parseCertificate);
  if (leaf === undefined) refuse('ChainEmpty', 'there is no certificate');
  const search = new Search(roots.map(parseCertificate), helpers, now);
  const path = search.from(leaf);
  if (path === undefined) throw search.reason(leaf);
  return { leaf, path };
}

/** A bounded depth-first search for one valid path. */
class Search {
  readonly #roots: readonly Certificate[];
  readonly #helpers: readonly Certificate[];
  readonly #now: number;
  #signatureChecks = 0;
  #farthest: { depth: number; error: PkiError } | undefined;

  constructor(roots: readonly Certificate[], helpers: readonly Certificate[], now: number) {
    this.#roots = roots;
    this.#helpers = helpers;
    this.#now = now;
  }

  /** A verified path that begins with `leaf`. */
  from(leaf: Certificate): readonly Certificate[] | undefined {
    return this.#attempt(1, () => checkOne(leaf, this.#now)) ? this.#extend([leaf]) : undefined;
  }

  /** Why there is no path. */
  reason(leaf: Certificate): PkiError {
    return (
      this.#farthest?.error ??
      new PkiError(
        'ChainUntrusted',
        `no trusted authority signed "${leaf.subjectText}"${leaf.authorityKeyId === undefined ? '' : ` (it names authority ${leaf.authorityKeyId})`}`,
      )
    );
  }

  #extend(path: readonly Certificate[]): readonly Certificate[] | undefined {
    const last = path.at(-1);
    if (last === undefined) return undefined;
    for (const root of this.#roots) {
      if (!mayHaveIssued(root, last)) continue;
      const whole = [...path, root];
      if (this.#attempt(whole.length + 1, () => this.#checkStep(whole))) return whole;
    }
    if (path.length + 1 >= MAX_PATH_LENGTH) return undefined;
    for (const helper of this.#helpers) {
      if (!mayHaveIssued(helper, last) || path.some((used) => sameSubjectAndKey(used, helper))) continue;
      const longer = [...path, helper];
      if (!this.#attempt(longer.length, () => this.#checkStep(longer))) continue;
      const whole = this.#extend(longer);
      if (whole !== undefined) return whole;
    }
    return undefined;
  }

  /** Checks the last certificate of a path as the issuer of the one before it, and of all below. */
  #checkStep(path: readonly Certificate[]): void {
    const issuer = path.at(-1);
    const subject = path.at(-2);
    if (issuer === undefined || subject === undefined) return;
    checkOne(issuer, this.#now);
    checkIssuer(issuer, path.slice(0, -1));
    if (++this.#signatureChecks > MAX_SIGNATURE_CHECKS) {
      refuse('ChainTooLong', `the chain needs more than ${MAX_SIGNATURE_CHECKS} signature checks`);
    }
    if (!subject.isSignedBy(strongKey(issuer))) {
      refuse('ChainSignature', `the signature of "${subject.subjectText}" is not by "${issuer.subjectText}"`);
    }
  }

  /** Runs a check; remembers the failure that came farthest up. */
  #attempt(depth: number, check: () => void): boolean {
    try {
      check();
      return true;
    } catch (error) {
      if (!(error instanceof PkiError)) throw error;
      if (this.#farthest === undefined || depth > this.#farthest.depth) this.#farthest = { depth, error };
      return false;
    }
  }
}

/** Cheap hints only; the signature decides. */
function mayHaveIssued(issuer: Certificate, subject: Certificate): boolean {
  if (!bytesEqual(issuer.subject, subject.issuer)) return false;
  const { subjectKeyId } = issuer;
  const { authorityKeyId } = subject;
  return subjectKeyId === undefined || authorityKeyId === undefined || subjectKeyId === authorityKeyId;
}

/** A loop would come back to the same name and key, perhaps in another certificate. */
function sameSubjectAndKey(left: Certificate, right: Certificate): boolean {
  return bytesEqual(left.subject, right.subject) && bytesEqual(left.spki, right.spki);
}

function isSelfIssued(certificate: Certificate): boolean {
  return bytesEqual(certificate.subject, certificate.issuer);
}

/** RFC 5280 §6.1.3 (a) and §6.1.5 (f), for one certificate by itself. */
function checkOne(certificate: Certificate, now: number): void {
  const { subjectText, notBefore, notAfter, unknownCritical } = certificate;
  if (now < notBefore) {
    refuse('ChainNotYetValid', `"${subjectText}" is valid from ${new Date(notBefore).toISOString()} only`);
  }
  // The second that is named is still inside (§4.1.2.5).
  if (now >= notAfter + 1000)
    refuse('ChainExpired', `"${subjectText}" expired at ${new Date(notAfter).toISOString()}`);
  if (unknownCritical.length > 0) {
    refuse(
      'ChainCritical',
      `"${subjectText}" has critical extensions that are not understood: ${unknownCritical.join(', ')}`,
    );
  }
}

/** RFC 5280 §6.1.4 (h)–(n): whether `issuer` may stand above `below` (leaf first). */
function checkIssuer(issuer: Certificate, below: readonly Certificate[]): void {
  const { subjectText, isCa, keyUsage, pathLength, nameConstraints } = issuer;
  if (!isCa) refuse('ChainNotCa', `"${subjectText}" signed a certificate, but is no CA`);
  if (keyUsage !== undefined && !keyUsage.has('keyCertSign'))
    refuse('ChainNotCa', `"${subjectText}" signed a certificate, but its key usage lacks keyCertSign`);
  const intermediates = below.slice(1).filter((certificate) => !isSelfIssued(certificate)).length;
  if (pathLength !== undefined && intermediates > pathLength) {
    refuse(
      'ChainPathLength',
      `"${subjectText}" allows ${pathLength} CAs below it; there are ${intermediates}`,
    );
  }
  if (nameConstraints === undefined) return;
  below.forEach((certificate, index) => {
    // §6.1.3 (b): constraints do not bind self-issued certificates, unless they are the last.
    if (index === 0 || !isSelfIssued(certificate)) checkNameConstraints(nameConstraints, certificate);
  });
}

/** The key of an issuer, if it is strong enough to trust a signature by it. */
function strongKey(issuer: Certificate): KeyObject {
  const key = issuer.publicKey;
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
  const strong =
    key.asymmetricKeyType === 'rsa'
      ? (modulusLength ?? 0) >= MIN_RSA_BITS
      : key.asymmetricKeyType === 'ed25519' || CURVES.has(namedCurve ?? '');
  if (!strong) refuse('ChainWeakKey', `the key of "${issuer.subjectText}" is too weak or of an unknown kind`);
  return key;
}
