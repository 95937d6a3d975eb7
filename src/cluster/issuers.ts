import type { RenderedIssuer } from '../access/mesh/renderer.js';
import type { TokenIssuer } from '../resources/identity.js';

/** The issuers of end-user tokens as meshes are told of them. Those by trust domain are for Signet's own agents alone. */
export function renderedIssuers(issuers: readonly TokenIssuer[]): readonly RenderedIssuer[] {
  return issuers.flatMap(({ issuer, audiences, algorithms, jwksUri, jwks }) =>
    issuer === undefined
      ? []
      : [
          {
            issuer,
            audiences,
            ...(algorithms === undefined ? {} : { algorithms }),
            ...(jwksUri === undefined ? {} : { jwksUri }),
            ...(jwks === undefined ? {} : { jwks }),
          },
        ],
  );
}
