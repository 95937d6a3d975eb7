import { describe, expect, it } from '@jest/globals';
import { FakeClock, settle } from '../../../test/support/fake-clock.js';
import { makeTokenKey } from '../../../test/support/oidc-provider.js';
import { silentLogger } from '../../lib/logger.js';
import type { FetchDocument } from './fetch-document.js';
import { readTokenIssuers } from './issuer-config.js';
import { createTokenValidator } from './validator.js';

const HOUR = 3_600_000;

describe('what is published of the issuers', () => {
  it('has the keys as they are written for others, each for the algorithms that it was given for', () => {
    const keys = [makeTokenKey('one'), makeTokenKey('rsa', 'RS256'), makeTokenKey('ed', 'Ed25519')];
    const any = makeTokenKey('any', 'PS256');
    delete any.jwk['alg'];
    delete any.jwk['kid'];
    const jwks = { keys: [...keys, any].map(({ jwk }) => jwk) };
    const { published } = validator([{ issuer: 'https://a.example', audiences: ['x', 'y'], jwks }]);
    const [issuer, ...others] = published();
    expect(others).toEqual([]);
    expect(issuer).toMatchObject({ issuer: 'https://a.example', audiences: ['x', 'y'] });
    expect(issuer?.algorithms).toContain('ES256');
    const told = JSON.parse(issuer?.jwks ?? '') as { readonly keys: readonly Record<string, unknown>[] };
    expect(told.keys.map(({ kid, alg }) => [kid, alg])).toEqual([
      ['one', 'ES256'],
      ['rsa', 'RS256'],
      ['ed', undefined],
      [undefined, undefined],
    ]);
    expect(told.keys[0]).toMatchObject({ x: keys[0]?.jwk['x'], y: keys[0]?.jwk['y'], crv: 'P-256' });
    expect(told.keys.some((key) => 'd' in key)).toBe(false);
  });

  it('tells when keys come and when they serve no more, and has none of trust domains', async () => {
    const clock = new FakeClock();
    const { jwk } = makeTokenKey('one');
    let reachable = true;
    const fetch: FetchDocument = () =>
      reachable
        ? Promise.resolve({ body: Buffer.from(JSON.stringify({ keys: [jwk] })) })
        : Promise.reject(new Error('not reachable'));
    const told: boolean[] = [];
    const config = [
      { issuer: 'https://a.example', jwksUri: 'https://a.example/keys', audiences: ['x'] },
      { kind: 'spiffe', trustDomain: 'example.org', audiences: ['x'] },
    ];
    const { published, close } = validator(config, {
      ...{ clock, fetch, maxStaleMs: HOUR },
      onKeys: () => told.push(published().some(({ jwks }) => jwks !== undefined)),
    });
    expect(published()).toMatchObject([{ issuer: 'https://a.example' }]);
    expect(published()[0]?.jwks).toBeUndefined();
    await settle();
    expect(told.at(-1)).toBe(true);
    reachable = false;
    const before = told.length;
    for (let minutes = 0; minutes < 75; minutes++) await clock.advance(60_000);
    expect(told.slice(before)).toContain(false);
    close();
  });
});

type Options = Partial<Parameters<typeof createTokenValidator>[0]>;

function validator(
  issuers: unknown,
  options: Options = {},
): Pick<ReturnType<typeof createTokenValidator>, 'published' | 'close'> {
  const made = createTokenValidator({
    issuers: readTokenIssuers(issuers),
    clock: new FakeClock(),
    fetch: () => Promise.reject(new Error('nothing is fetched here')),
    logger: silentLogger,
    ...options,
  });
  return { published: () => made.published(), close: () => made.close() };
}
