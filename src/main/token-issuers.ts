import { readTokenIssuers, type IssuerSettings } from '../identity/tokens/issuer-config.js';
import { SignetError } from '../lib/errors.js';
import type { TokenIssuer } from '../resources/identity.js';

/**
 * The issuers of a TrustDomain as the validator reads them.
 *
 * @throws SignetError `TokenIssuersInvalid`
 */
export function readIssuers(issuers: readonly TokenIssuer[]): readonly IssuerSettings[] {
  return readTokenIssuers(
    issuers.map(({ caBundle, jwks, trustDomain, ...issuer }, index) => ({
      ...issuer,
      ...(trustDomain === undefined ? {} : { kind: 'spiffe', trustDomain }),
      ...(caBundle === undefined ? {} : { caPem: caBundle }),
      ...(jwks === undefined ? {} : { jwks: parseJwks(jwks, index) }),
    })),
  );
}

function parseJwks(text: string, index: number): unknown {
  try {
    return JSON.parse(text);
  } catch (thrown) {
    throw new SignetError(
      'TokenIssuersInvalid',
      `spec.tokenIssuers[${index}].jwks is no JSON; write {"keys": [...]}`,
      { cause: thrown },
    );
  }
}
