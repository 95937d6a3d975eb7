import { describe, expect, it } from '@jest/globals';
import { makeCertificate } from '../../../test/support/certificates.js';
import { makeTokenKey } from '../../../test/support/oidc-provider.js';
import { generateKeyPair } from '../pki/keys.js';
import { encodePem } from '../pki/pem.js';
import { nameOf, readTokenIssuers } from './issuer-config.js';
import { TokenConfigError } from './refusal.js';

const issuer = 'https://login.example.com/';
const audiences = ['payments'];
const good = { issuer, audiences };
const svid = { kind: 'spiffe', trustDomain: 'example.org', audiences };
const jwks = { keys: [makeTokenKey('a').jwk] };

/** The problems, one a line. */
function problemsOf(value: unknown): string[] {
  try {
    readTokenIssuers(value);
  } catch (error) {
    if (error instanceof TokenConfigError && error.code === 'TokenIssuersInvalid')
      return error.message.split('\n');
    throw error;
  }
  return [];
}

describe('issuers of tokens', () => {
  it('are read with safe defaults', () => {
    expect(readTokenIssuers([good, svid])).toEqual([
      {
        issuer,
        audiences: new Set(audiences),
        algorithms: new Set(['RS256', 'ES256', 'PS256', 'EdDSA', 'Ed25519']),
        clockSkewMs: 30_000,
        maxAgeMs: undefined,
        requiredType: undefined,
        keys: { kind: 'discovery', url: undefined },
      },
      {
        issuer: undefined,
        audiences: new Set(audiences),
        algorithms: new Set([
          'RS256',
          'RS384',
          'RS512',
          'PS256',
          'PS384',
          'PS512',
          'ES256',
          'ES384',
          'ES512',
        ]),
        clockSkewMs: 30_000,
        maxAgeMs: undefined,
        requiredType: undefined,
        keys: { kind: 'bundle', trustDomain: 'example.org' },
      },
    ]);
    expect(readTokenIssuers([])).toEqual([]);
  });

  it('are read with all that can be said', () => {
    const [read] = readTokenIssuers([
      {
        ...good,
        ...{ kind: 'oidc', algorithms: ['ES384'], clockSkewSeconds: 0, maxTokenAgeSeconds: 3600 },
        ...{ requiredTyp: 'application/AT+jwt', caFile: '/etc/ca.pem', jwksUri: 'https://x.example/keys' },
      },
    ]);
    expect(read).toMatchObject({
      algorithms: new Set(['ES384']),
      clockSkewMs: 0,
      maxAgeMs: 3_600_000,
      requiredType: 'at+jwt',
      keys: { kind: 'jwks-uri', url: 'https://x.example/keys', trust: { kind: 'file', path: '/etc/ca.pem' } },
    });
  });

  it('may be on this machine over http, for development', () => {
    for (const host of ['localhost:8080', '127.0.0.1', '127.3.2.1:1', '[::1]:8080'])
      expect(problemsOf([{ issuer: `http://${host}`, audiences }])).toEqual([]);
  });

  it('need not be URLs where nothing is discovered', () => {
    expect(problemsOf([{ issuer: 'accounts.example.com', audiences, jwksUri: 'https://x.example' }])).toEqual(
      [],
    );
    expect(problemsOf([{ issuer: 'accounts.example.com', audiences, jwks }])).toEqual([]);
  });

  it('trust a given certificate', async () => {
    const { der } = makeCertificate({ subject: 'ca', pair: await generateKeyPair('ec-p256'), ca: true });
    const caPem = encodePem('CERTIFICATE', der);
    expect(readTokenIssuers([{ ...good, caPem }])).toMatchObject([
      { keys: { kind: 'discovery', trust: { kind: 'pem', pem: caPem } } },
    ]);
  });

  it.each<[string, unknown, string]>([
    ['no list', {}, 'issuers: must be a list'],
    ['too many', Array.from({ length: 101 }, () => good), 'issuers: has 101 entries; 100 are allowed'],
    ['an entry that is no object', ['x'], 'issuers[0]: must be an object'],
    ['an unknown kind', [{ ...good, kind: 'saml' }], 'issuers[0].kind: "saml" is unknown; write "oidc"'],
    ['an unknown field', [{ ...good, jwks_uri: 'x' }], 'issuers[0].jwks_uri: is unknown; the fields are'],
    ['a field of the other kind', [{ ...svid, jwks }], 'issuers[0].jwks: is unknown'],
    ['no issuer', [{ audiences }], 'issuers[0].issuer: is missing; write'],
    ['an issuer that is no text', [{ issuer: 1, audiences }], 'issuers[0].issuer: must be a text'],
    ['no audiences', [{ issuer }], 'issuers[0].audiences: is missing; name this service'],
    ['empty audiences', [{ issuer, audiences: [] }], 'issuers[0].audiences: must be a list of 1 to 100'],
    ['audiences as a text', [{ issuer, audiences: 'x' }], 'issuers[0].audiences: must be a list'],
    ['algorithm none', [{ ...good, algorithms: ['none'] }], '"none" is not allowed; choose from RS256'],
    ['algorithm HS256', [{ ...good, algorithms: ['ES256', 'HS256'] }], '"HS256" is not allowed'],
    ['EdDSA for SVIDs', [{ ...svid, algorithms: ['EdDSA'] }], '"EdDSA" is not allowed'],
    [
      'too much skew',
      [{ ...good, clockSkewSeconds: 301 }],
      'clockSkewSeconds: must be a number of seconds from 0 to 300',
    ],
    ['skew as a text', [{ ...good, clockSkewSeconds: '30s' }], 'clockSkewSeconds: must be a number'],
    ['a skew that is no number', [{ ...good, clockSkewSeconds: NaN }], 'clockSkewSeconds: must be a number'],
    ['no age at all', [{ ...good, maxTokenAgeSeconds: 0 }], 'maxTokenAgeSeconds: must be a number'],
    ['http elsewhere', [{ issuer: 'http://x.example', audiences }], 'issuer: is http; only https is safe'],
    ['a query', [{ issuer: 'https://x.example?a', audiences }], 'issuer: has a query'],
    ['no URL and no keys', [{ issuer: 'x', audiences }], 'issuer: is no absolute URL, so its keys cannot be'],
    ['keys over http', [{ ...good, jwksUri: 'http://x.example/k' }], 'jwksUri: is http; only https'],
    ['keys in a file', [{ ...good, jwksUri: 'file:///k' }], 'jwksUri: is no https URL'],
    ['a password', [{ ...good, jwksUri: 'https://u:p@x.example' }], 'jwksUri: holds a user name'],
    ['a fragment', [{ ...good, jwksUri: 'https://x.example/#k' }], 'jwksUri: has a fragment'],
    [
      'keys twice',
      [{ ...good, jwks, jwksUri: 'https://x.example' }],
      'jwksUri: has no meaning beside "jwks"',
    ],
    ['keys that are none', [{ ...good, jwks: 'x' }], 'jwks: the document is no JWK Set'],
    ['no keys', [{ ...good, jwks: { keys: [] } }], 'jwks: has no key'],
    [
      'a secret as a key',
      [{ ...good, jwks: { keys: [{ kty: 'oct', k: 'x' }] } }],
      'jwks: keys[0]: a symmetric',
    ],
    ['a CA that is none', [{ ...good, caPem: 'x' }], 'caPem: is no certificate'],
    ['CAs twice', [{ ...good, caPem: 'x', caFile: '/x' }], 'caFile: has no meaning beside "caPem"'],
    ['no trust domain', [{ kind: 'spiffe', audiences }], 'issuers[0].trustDomain: is missing'],
    ['no valid trust domain', [{ ...svid, trustDomain: 'Example Org' }], 'issuers[0].trustDomain: '],
    ['an issuer twice', [good, svid, good], `issuers[2]: "${issuer}" is issuers[0] already`],
    ['a trust domain twice', [svid, svid], 'issuers[1]: "spiffe://example.org" is issuers[0] already'],
  ])('are refused with field, problem and fix: %s', (_, value, problem) => {
    expect(problemsOf(value)).toContainEqual(expect.stringContaining(problem));
  });

  it('are refused with all that is wrong, once each', () => {
    expect(problemsOf([{ ...good, x: 1 }, {}, { ...svid, trustDomain: 7, algorithms: [] }])).toEqual([
      expect.stringMatching(/^issuers\[0\]\.x: /),
      expect.stringMatching(/^issuers\[1\]\.issuer: /),
      expect.stringMatching(/^issuers\[1\]\.audiences: /),
      expect.stringMatching(/^issuers\[2\]\.trustDomain: /),
      expect.stringMatching(/^issuers\[2\]\.algorithms: /),
    ]);
  });

  it('are called by their iss, or by their trust domain', () => {
    const all = readTokenIssuers([good, svid, { ...svid, issuer: 'https://oidc.example.org' }]);
    expect(all.map(nameOf)).toEqual([issuer, 'spiffe://example.org', 'https://oidc.example.org']);
  });
});
