import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { FakeClock, settle } from '../../../test/support/fake-clock.js';
import type { Trouble } from '../../../test/support/oidc-provider.js';
import {
  makeTokenKey,
  OidcProvider,
  redirectTo,
  signToken,
  troubles,
} from '../../../test/support/oidc-provider.js';
import type { RecordingLogger } from '../../../test/support/recording-logger.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import type { FetchDocument } from './fetch-document.js';
import { fetchDocument } from './fetch-document.js';
import type { TokenIssuerConfig } from './issuer-config.js';
import { readTokenIssuers } from './issuer-config.js';
import type { TokenValidator, TokenValidatorOptions } from './validator.js';
import { createTokenValidator } from './validator.js';

const NOW = Date.UTC(2026, 0, 1);
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const first = makeTokenKey('first');
const second = makeTokenKey('second');

let provider: OidcProvider;
let clock: FakeClock;
let logger: RecordingLogger;
let pending: Set<Promise<unknown>>;
let open: TokenValidator[];

beforeEach(async () => {
  provider = await OidcProvider.start();
  provider.keys = [first];
  clock = new FakeClock(NOW);
  logger = recordingLogger();
  pending = new Set();
  open = [];
});

afterEach(async () => {
  for (const tokens of open) tokens.close();
  await provider.stop();
});

/** The real client, so that a test can wait until what it does is done. */
const fetch: FetchDocument = (url, options) => {
  const promise = fetchDocument(url, options);
  pending.add(promise);
  const done = (): boolean => pending.delete(promise);
  promise.then(done, done);
  return promise;
};

/** Resolves once no fetch is under way. */
async function idle(): Promise<void> {
  await settle();
  while (pending.size > 0) {
    await Promise.allSettled(pending);
    await settle();
  }
}

/** Moves the clock on; each fetch that begins on the way is done before the next timer fires. */
async function advance(ms: number): Promise<void> {
  const end = clock.monotonic() + ms;
  for (;;) {
    const next = clock.nextIn;
    const step = Math.min(next ?? Infinity, end - clock.monotonic());
    await clock.advance(step);
    await idle();
    if (clock.monotonic() >= end) return;
  }
}

function start(
  config: Partial<TokenIssuerConfig> = {},
  options: Partial<TokenValidatorOptions> = {},
): TokenValidator {
  const tokens = createTokenValidator({
    issuers: readTokenIssuers([{ issuer: provider.issuer, audiences: ['payments'], ...config }]),
    ...{ clock, fetch, logger, random: seededRandom() },
    ...options,
  });
  open.push(tokens);
  return tokens;
}

function token(key = first, claims: Record<string, unknown> = {}): string {
  const exp = clock.now() / 1000 + 3600;
  return signToken(key, { iss: provider.issuer, sub: 'alice', aud: 'payments', exp, ...claims });
}

async function answer(tokens: TokenValidator, text: string): Promise<string> {
  const result = await tokens.validate(text);
  return result.ok ? 'ok' : `${result.code}: ${result.reason}`;
}

const stateOf = (tokens: TokenValidator): string | undefined => tokens.status().issuers[0]?.state;

describe('the keys of an issuer', () => {
  it('are discovered and fetched at once; the first tokens wait for them together', async () => {
    const tokens = start();
    expect(stateOf(tokens)).toBe('starting');
    expect(tokens.validateCached(token())).toBeUndefined();
    const answers = await Promise.all(Array.from({ length: 100 }, () => answer(tokens, token())));
    expect(new Set(answers)).toEqual(new Set(['ok']));
    expect(provider.requests).toEqual(['/.well-known/openid-configuration', '/keys']);
    expect(tokens.status().issuers[0]).toMatchObject({ state: 'ready', keyIds: ['first'] });
  });

  it('come without discovery from a jwksUri', async () => {
    const tokens = start({ jwksUri: `${provider.issuer}/keys` });
    expect(await answer(tokens, token())).toBe('ok');
    expect(provider.requests).toEqual(['/keys']);
  });

  it.each([
    ['5 minutes when nothing is said', undefined, 5 * MINUTE],
    ['its max-age', 'public, max-age=1200', 20 * MINUTE],
    ['at least a minute', 'max-age=1', MINUTE],
    ['a minute when it may not be stored', 'no-store', MINUTE],
    ['at most an hour', 'max-age=604800', HOUR],
  ])('are fetched again before they are stale: after %s', async (_, cacheControl, life) => {
    provider.cacheControl = cacheControl;
    start();
    await idle();
    expect(clock.nextIn).toBeGreaterThanOrEqual(life * 0.6);
    expect(clock.nextIn).toBeLessThanOrEqual(life * 0.75);
    await advance(life * 0.75);
    expect(provider.keyRequests).toBe(2);
  });

  it('are refreshed in the background: a key that has gone is refused, from the cache too', async () => {
    const tokens = start();
    const old = token();
    expect(await answer(tokens, old)).toBe('ok');
    expect(await answer(tokens, old)).toBe('ok');
    expect(tokens.status().cache).toMatchObject({ entries: 1, hits: 1 });
    provider.keys = [second];
    await advance(5 * MINUTE);
    expect(tokens.status().cache.entries).toBe(0);
    expect(await answer(tokens, old)).toMatch(/^TokenUnknownKey: /);
    expect(await answer(tokens, token(second))).toBe('ok');
  });

  it('stay what they are when a refresh brings the same ones: the cache is kept', async () => {
    const tokens = start();
    const kept = token();
    await answer(tokens, kept);
    provider.keys = [second, first];
    await advance(5 * MINUTE);
    expect(tokens.status().issuers[0]?.keyIds).toEqual(['second', 'first']);
    await answer(tokens, kept);
    expect(tokens.status().cache).toMatchObject({ entries: 1, hits: 1 });
  });

  it('may be none: then nothing is taken, the log says so, and the issuer is asked again soon', async () => {
    provider.keys = [];
    provider.otherKeys = [{ kty: 'oct', k: 'AAAA', kid: 'first' }];
    const tokens = start();
    expect(await answer(tokens, token())).toMatch(/^TokenUnknownKey/);
    expect(logger.lines).toEqual([
      'warn the token issuer publishes no key that can serve: all its tokens are refused',
    ]);
    provider.keys = [first];
    await advance(MINUTE);
    expect(await answer(tokens, token())).toBe('ok');
  });
});

describe('an unknown key', () => {
  it('is fetched: a token that is signed with a new key is valid at once', async () => {
    const tokens = start();
    await idle();
    provider.keys = [first, second];
    expect(tokens.validateCached(token(second))).toBeUndefined();
    expect(await answer(tokens, token(second))).toBe('ok');
    // What is known of discovery serves.
    expect(provider.requests.slice(2)).toEqual(['/keys']);
  });

  it('makes one fetch per cool-down, however many tokens come (storm of unknown kids)', async () => {
    const tokens = start();
    await idle();
    const strangers = Array.from({ length: 500 }, (_, n) => token({ ...second, jwk: { kid: `kid-${n}` } }));
    for (let round = 1; round <= 4; round++) {
      const answers = await Promise.all(strangers.map((text) => answer(tokens, text)));
      expect(answers.every((text) => text.startsWith('TokenUnknownKey: '))).toBe(true);
      for (const text of strangers) expect(await answer(tokens, text)).toMatch(/^TokenUnknownKey: /);
      expect(provider.keyRequests).toBe(1 + round);
      await clock.advance(29_999);
      for (const text of strangers.slice(0, 5)) await answer(tokens, text);
      expect(provider.keyRequests).toBe(1 + round);
      await clock.advance(1);
    }
    // Those who have a key are served all the while.
    expect(await answer(tokens, token())).toBe('ok');
  });

  it('makes a bounded number of fetches over all issuers', async () => {
    provider.discovery = undefined;
    const issuers = Array.from({ length: 10 }, (_, n) => ({
      ...{ issuer: `https://tenant-${n}.example`, audiences: ['payments'] },
      jwksUri: `${provider.issuer}/keys`,
    }));
    const tokens = start({}, { issuers: readTokenIssuers(issuers), unknownKeyFetches: 4 });
    await idle();
    expect(provider.keyRequests).toBe(10);
    const storm = (): Promise<string[]> =>
      Promise.all(issuers.map(({ issuer: iss }) => answer(tokens, token(second, { iss }))));
    await storm();
    await storm();
    expect(provider.keyRequests).toBe(14);
    await clock.advance(30_000);
    await storm();
    expect(provider.keyRequests).toBe(18);
  });

  it('makes no fetch for a token that could not be valid anyway', async () => {
    const tokens = start();
    await idle();
    const strangers = [{ exp: 1 }, { aud: 'orders' }, { nbf: NOW }, { iss: 'https://evil.example' }];
    for (const claims of strangers) await answer(tokens, token(second, claims));
    expect(provider.keyRequests).toBe(1);
  });

  it('does not let more wait than a bound', async () => {
    const tokens = start();
    await idle();
    provider.keysTrouble = troubles.stall;
    const stranger = token(second);
    const answers = Array.from({ length: 1001 }, () => answer(tokens, stranger));
    expect(await answers[1000]).toMatch(/^TokenUnknownKey/);
    expect(tokens.validateCached(stranger)).toMatchObject({ code: 'TokenUnknownKey' });
    await provider.asked(3);
    await clock.advance(10_000);
    expect(new Set((await Promise.all(answers)).map((text) => text.slice(0, 15)))).toEqual(
      new Set(['TokenUnknownKey']),
    );
  });
});

describe('an issuer that does not answer well', () => {
  const cases: readonly [string, Trouble, RegExp][] = [
    ['is cut off', troubles.cut, /aborted|socket hang up/],
    ['sends garbage', troubles.garbage, /is no JSON/],
    ['sends what is no UTF-8', troubles.notUtf8, /is no JSON/],
    ['sends too much', troubles.oversize, /longer than 262144 bytes/],
    ['sends without end', troubles.endless, /longer than 262144 bytes/],
    ['is not available', troubles.unavailable, /HTTP 503/],
    ['redirects', redirectTo('https://evil.example/'), /redirects \(HTTP 302\)/],
    ['compresses', troubles.compressed, /compresses/],
  ];

  it.each(cases)('%s: its tokens are refused, and why is said', async (_, trouble, reason) => {
    for (const where of ['discoveryTrouble', 'keysTrouble'] as const) {
      provider[where] = trouble;
      const tokens = start();
      const said = await answer(tokens, token());
      expect(said).toMatch(/^TokenKeysUnavailable: the keys of "http:\/\/localhost:\d+" are not available: /);
      expect(said).toMatch(reason);
      expect(said).toContain(where === 'keysTrouble' ? '/keys: ' : '/.well-known/openid-configuration: ');
      expect(tokens.status().issuers[0]).toMatchObject({ state: 'unavailable' });
      provider[where] = undefined;
    }
  });

  it.each([
    ['sends no key set', { noKeySet: true }, 'the document is no JWK Set: it has no list "keys"'],
    ['is another issuer', { issuer: 'https://other.example' }, 'is of another issuer'],
    ['is the issuer with a slash', { slash: true }, 'is of another issuer'],
    ['names no keys', { jwks_uri: undefined }, 'has no "jwks_uri"'],
    ['names keys on plain http elsewhere', { jwks_uri: 'http://evil.example/keys' }, 'is http'],
    ['names keys in a file', { jwks_uri: 'file:///etc/passwd' }, 'is no https URL'],
  ])('%s: its tokens are refused, and why is said', async (_, change, reason) => {
    if ('noKeySet' in change) provider.keysTrouble = troubles.noKeySet;
    else if ('slash' in change)
      provider.discovery = { issuer: `${provider.issuer}/`, jwks_uri: `${provider.issuer}/keys` };
    else provider.discovery = { issuer: provider.issuer, jwks_uri: `${provider.issuer}/keys`, ...change };
    expect(await answer(start(), token())).toMatch(new RegExp(`^TokenKeysUnavailable: .*${reason}`));
  });

  it.each([
    ['never answers', troubles.stall],
    ['answers a little and stops', troubles.drip],
  ])('%s: callers wait 10 s, and no longer', async (_, trouble) => {
    provider.keysTrouble = trouble;
    const tokens = start();
    const waiting = answer(tokens, token());
    await provider.asked(2);
    await clock.advance(9999);
    expect(stateOf(tokens)).toBe('starting');
    await clock.advance(1);
    expect(await waiting).toMatch(/^TokenKeysUnavailable: .*no complete answer within 10 s/);
  });

  it('is asked again with growing pauses, and not by those who call', async () => {
    provider.discoveryTrouble = troubles.unavailable;
    const tokens = start();
    await idle();
    const pauses: number[] = [];
    for (let n = 1; n <= 9; n++) {
      for (let call = 0; call < 20; call++)
        expect(await answer(tokens, token())).toMatch(/^TokenKeysUnavailable/);
      expect(provider.requests.length).toBe(n);
      pauses.push(clock.nextIn ?? 0);
      await advance(clock.nextIn ?? 0);
    }
    expect(pauses[0]).toBeLessThan(1500);
    expect(pauses[4]).toBeGreaterThan(10_000);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(72_000);
    provider.discoveryTrouble = undefined;
    await advance(clock.nextIn ?? 0);
    expect(await answer(tokens, token())).toBe('ok');
    // Said once each, not with every try.
    expect(logger.lines).toEqual([
      'error the keys of the token issuer are not available: its tokens are refused',
    ]);
    expect(logger.all.filter((line) => line.startsWith('info'))).toHaveLength(2);
  });

  it('leaves its last keys to serve until their bound, and none after it', async () => {
    const tokens = start({}, { maxStaleMs: HOUR });
    await idle();
    provider.keysTrouble = troubles.unavailable;
    await advance(5 * MINUTE);
    expect(stateOf(tokens)).toBe('stale');
    expect(logger.lines).toEqual([
      'warn the keys of the token issuer cannot be refreshed; the last ones serve',
    ]);
    const long = token(first, { exp: NOW / 1000 + 7200 });
    expect(await answer(tokens, long)).toBe('ok');
    await advance(55 * MINUTE - 1);
    expect(await answer(tokens, long)).toBe('ok');
    await advance(2 * MINUTE);
    expect(await answer(tokens, long)).toMatch(
      /^TokenKeysUnavailable: .* they came 62 minutes ago and count no more: .*HTTP 503/,
    );
    expect(stateOf(tokens)).toBe('unavailable');
    expect(logger.lines).toHaveLength(2);
    provider.keysTrouble = undefined;
    await advance(2 * MINUTE);
    expect(await answer(tokens, long)).toBe('ok');
    expect(stateOf(tokens)).toBe('ready');
  });

  it('keeps its last keys for a day unless said', async () => {
    const tokens = start({ jwksUri: `${provider.issuer}/keys` });
    await idle();
    const long = token(first, { exp: NOW / 1000 + 100_000 });
    // No more connections: nothing listens there.
    await provider.stop();
    await advance(24 * HOUR);
    expect(tokens.validateCached(long)).toMatchObject({ ok: true });
    await advance(1);
    expect(tokens.validateCached(long)).toMatchObject({
      code: 'TokenKeysUnavailable',
      reason: expect.stringMatching(/count no more: .*ECONNREFUSED/),
    });
    provider = await OidcProvider.start();
  });

  it('does not lose good keys to a bad answer', async () => {
    const tokens = start();
    await idle();
    for (const trouble of [troubles.garbage, troubles.oversize, troubles.noKeySet, troubles.cut]) {
      provider.keysTrouble = trouble;
      await advance(5 * MINUTE);
      expect(await answer(tokens, token())).toBe('ok');
    }
    expect(stateOf(tokens)).toBe('stale');
  });

  it('is discovered anew when its keys have moved', async () => {
    const tokens = start();
    await idle();
    const other = await OidcProvider.start();
    other.keys = [second];
    provider.discovery = { issuer: provider.issuer, jwks_uri: `${other.issuer}/keys` };
    provider.keysTrouble = troubles.unavailable;
    await advance(5 * MINUTE);
    await advance(2 * MINUTE);
    expect(await answer(tokens, token(second))).toBe('ok');
    await other.stop();
  });
});

describe('close', () => {
  it('ends what is under way and leaves no timer', async () => {
    provider.keysTrouble = troubles.stall;
    const tokens = start();
    const waiting = answer(tokens, token());
    await provider.asked(2);
    tokens.close();
    expect(await waiting).toMatch(/^TokenKeysUnavailable: .*closed/);
    await idle();
    expect(clock.timers).toBe(0);
    expect(await answer(tokens, token())).toMatch(/^TokenKeysUnavailable/);
  });

  it('refuses tokens that were verified, too', async () => {
    const tokens = start();
    const text = token();
    expect(await answer(tokens, text)).toBe('ok');
    tokens.close();
    expect(await answer(tokens, text)).toMatch(/^TokenKeysUnavailable/);
    expect(clock.timers).toBe(0);
  });
});
