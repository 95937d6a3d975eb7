import { parseCertificate } from '../identity/pki/certificate.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';

/** Authorities by ID: subject key IDs (hex) of those of X.509, key IDs of those of JWT. */
export interface AuthorityIds {
  readonly x509: readonly string[];
  readonly jwt: readonly string[];
}

/** So many are remembered of each kind; one is added whenever an authority ends. */
const REMEMBERED = 64;

/**
 * Tells of authorities that were in the bundle and are in it no more. One that has come to its end leaves it after the last
 * SVID that it signed; one that was lost, with others made in its place, leaves SVIDs behind that nobody takes.
 */
export class LostAuthorities {
  #present: AuthorityIds = { x509: [], jwt: [] };
  #lost: AuthorityIds = { x509: [], jwt: [] };

  /** Those that are lost as of this bundle, the newest. One that is back, from a backup, is not. */
  asOf(bundle: TrustBundle): AuthorityIds {
    const present: AuthorityIds = {
      x509: bundle.x509Authorities.map((der) => parseCertificate(der).subjectKeyId ?? ''),
      jwt: bundle.jwtAuthorities.map(({ keyId }) => keyId),
    };
    const lost = (kind: keyof AuthorityIds): readonly string[] => {
      const are = new Set(present[kind]);
      const were = new Set([...this.#lost[kind], ...this.#present[kind]]);
      return [...were].filter((id) => !are.has(id)).slice(-REMEMBERED);
    };
    this.#lost = { x509: lost('x509'), jwt: lost('jwt') };
    this.#present = present;
    return this.#lost;
  }
}
