import { parseCertificate, splitCertificates } from '../identity/pki/certificate.js';
import { verifyChain } from '../identity/pki/chain.js';
import { PkiError } from '../identity/pki/errors.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import type { CachedSvid } from './svid.js';

/** What is looked at of an SVID. */
export type IssuedBy = Pick<CachedSvid, 'authorityId' | 'intermediates'>;

/**
 * Whether those who have this bundle trust what an authority signed: not when it was lost, or the authority above it, and others
 * are in their place. Thousands of SVIDs have the same issuers, so the path from these to a root is verified once for all of
 * them; leaves are the server's work, which checks each that it signs.
 */
export class IssuerTrust {
  readonly #roots: readonly Uint8Array[];
  /** Subject key IDs (hex) of authorities in the bundle: without an upstream authority they sign leaves themselves. */
  readonly #ids: ReadonlySet<string>;
  /** By the intermediates, which equal SVIDs share, and the issuer among them. */
  readonly #known = new WeakMap<Uint8Array, Map<string, boolean>>();

  constructor({ x509Authorities }: Pick<TrustBundle, 'x509Authorities'>) {
    this.#roots = x509Authorities;
    this.#ids = new Set(x509Authorities.flatMap((der) => parseCertificate(der).subjectKeyId ?? []));
  }

  /** `now`: a time at which the SVID is valid, and so are its issuers. Milliseconds since the epoch. */
  trusts({ authorityId, intermediates }: IssuedBy, now: number): boolean {
    // The server's name for it is the subject key ID, in whatever chain it stands.
    if (this.#ids.has(authorityId)) return true;
    if (intermediates.length === 0) return false;
    let known = this.#known.get(intermediates);
    if (known === undefined) this.#known.set(intermediates, (known = new Map<string, boolean>()));
    let trusted = known.get(authorityId);
    if (trusted === undefined)
      known.set(authorityId, (trusted = this.#verify(authorityId, intermediates, now)));
    return trusted;
  }

  #verify(authorityId: string, intermediates: Uint8Array, now: number): boolean {
    try {
      const helpers = splitCertificates(intermediates);
      const issuer = helpers.find((der) => parseCertificate(der).subjectKeyId === authorityId);
      if (issuer === undefined) return false;
      verifyChain({ chain: [issuer, ...helpers], roots: this.#roots, now });
      return true;
    } catch (error) {
      if (error instanceof PkiError) return false;
      throw error;
    }
  }
}
