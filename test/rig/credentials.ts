import { splitCertificates } from '../../src/identity/pki/certificate.js';
import { encodePem } from '../../src/identity/pki/pem.js';
import { TestAuthority } from '../support/test-authority.js';

/** A certificate chain and its key, PEM. */
export interface Credentials {
  readonly cert: string;
  readonly key: string;
}

/** The authorities of some trust domains, and SVIDs that they sign. */
export interface CredentialSource {
  /** PEM of each authority by trust domain, as `serverTls` takes them. */
  readonly trust: Readonly<Record<string, string>>;
  /** An SVID; the same at each call. Throws for a trust domain that is not among them. */
  of(spiffeId: string): Promise<Credentials>;
}

/** Makes an authority for each of these trust domains. */
export async function newCredentialSource(trustDomains: readonly string[]): Promise<CredentialSource> {
  const authorities = new Map<string, TestAuthority>();
  for (const name of trustDomains) authorities.set(name, await TestAuthority.create(name));
  const issued = new Map<string, Promise<Credentials>>();
  const issue = async (spiffeId: string): Promise<Credentials> => {
    const authority = authorities.get(/^spiffe:\/\/([^/]+)/.exec(spiffeId)?.[1] ?? '');
    if (authority === undefined) throw new Error(`there is no authority for ${spiffeId}`);
    const { chain, key } = await authority.issue(spiffeId);
    const certificates = splitCertificates(chain).map((der) => encodePem('CERTIFICATE', der));
    return { cert: certificates.join(''), key: encodePem('PRIVATE KEY', key) };
  };
  return {
    trust: Object.fromEntries(
      [...authorities].map(([name, { certificate }]) => [name, encodePem('CERTIFICATE', certificate)]),
    ),
    of(spiffeId): Promise<Credentials> {
      const known = issued.get(spiffeId) ?? issue(spiffeId);
      issued.set(spiffeId, known);
      return known;
    },
  };
}
