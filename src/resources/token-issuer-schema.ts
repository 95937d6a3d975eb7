import { names, trustDomainName } from './forms.js';
import type { TokenIssuer } from './identity.js';
import type { Schema } from './schema.js';
import { atMostOneOf, exactlyOneOf, objectSchema, optional, text } from './schema.js';

function url(description: string): Schema<string> {
  return text(description, {
    minLength: 1,
    maxLength: 2048,
    pattern: '^https?://[^\\s]+$',
    form: 'write a URL such as "https://login.example.org"',
  });
}

/** An entry of the TrustDomain's tokenIssuers. */
export const tokenIssuer = objectSchema<TokenIssuer>(
  'Whose end-user tokens are accepted.',
  {
    issuer: optional(url('Issuer (iss) of the tokens of an OpenID Connect provider, exact.')),
    trustDomain: optional(trustDomainName('A trust domain whose JWT-SVIDs are accepted as tokens.')),
    audiences: names(
      'A token must be for one of these.',
      text('An audience.', { minLength: 1, maxLength: 512 }),
      16,
    ),
    jwksUri: optional(url('Where its keys are; OpenID Connect discovery says unless this does.')),
    jwks: optional(text('Its keys: a JWK set as JSON.', { minLength: 2, maxLength: 65_536 })),
    algorithms: optional(
      names(
        'Signature algorithms; RS256, ES256, PS256 and EdDSA unless said.',
        text('An algorithm.', {
          maxLength: 8,
          pattern: '^(RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA)$',
          form: 'write one of RS256, ES256, PS256, EdDSA (or 384, 512); HS256 and none are never accepted',
        }),
        10,
      ),
    ),
    caBundle: optional(
      text('PEM certificates that the TLS of the issuer is verified with.', {
        minLength: 1,
        maxLength: 65_536,
      }),
    ),
  },
  {
    rules: [
      exactlyOneOf(['issuer', 'trustDomain']),
      atMostOneOf(['jwksUri', 'jwks', 'trustDomain']),
      {
        rule: '!has(self.caBundle) || !has(self.trustDomain)',
        message: 'caBundle goes with issuer: the keys of a trust domain come with its bundle',
        fix: 'leave caBundle out',
      },
    ],
  },
);
