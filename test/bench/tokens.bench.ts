import type { KeyObject } from 'node:crypto';
import { verify } from 'node:crypto';
import { compactVerify } from 'jose';
import type * as Config from '../../src/identity/tokens/issuer-config.js';
import type * as Validator from '../../src/identity/tokens/validator.js';
import type * as Clock from '../../src/lib/clock.js';
import type * as Log from '../../src/lib/logger.js';
import { makeTokenKey, signToken } from '../support/oidc-provider.js';
import type { BenchRow } from './row.js';
import { bounded } from './row.js';

const ROUNDS = 5;
const COUNT = 2000;
const ISSUER = 'https://login.example.com/';

/**
 * End-user tokens of ES256 and about a kilobyte: the first time (signature verified with a key that is known), again
 * (from the cache of verified tokens), and refused, beside the bare verification by node:crypto and jose's. Times are CPU
 * times of one core, and the contestants take turns.
 */
export async function run(): Promise<BenchRow[]> {
  // What is shipped is measured; the types are those of its source.
  const built = async <T>(path: string): Promise<T> =>
    (await import(new URL(`../../dist/${path}`, import.meta.url).href)) as T;
  const { readTokenIssuers } = await built<typeof Config>('identity/tokens/issuer-config.js');
  const { createTokenValidator } = await built<typeof Validator>('identity/tokens/validator.js');
  const { systemClock } = await built<typeof Clock>('lib/clock.js');
  const { silentLogger } = await built<typeof Log>('lib/logger.js');

  const key = makeTokenKey('key-1');
  const tokens = Array.from({ length: COUNT }, (_, n) => signToken(key, claimsOf(n)));
  const wrong = tokens.map((token, n) => token.slice(0, -86) + (tokens[(n + 1) % COUNT] ?? '').slice(-86));
  const validator = createTokenValidator({
    issuers: readTokenIssuers([{ issuer: ISSUER, audiences: ['payments'], jwks: { keys: [key.jwk] } }]),
    clock: systemClock,
    fetch: () => Promise.reject(new Error('nothing is fetched here')),
    logger: silentLogger,
    // Smaller than the number of tokens, so that in turn each is new again.
    cache: { entries: COUNT / 2, weight: 64 * 1024 * 1024 },
  });
  const validate = (token: string, ok: boolean): void => {
    if (validator.validateCached(token)?.ok !== ok) throw new Error('the answer is not the one expected');
  };
  const [repeated = ''] = tokens;

  const rounds: Record<'bare' | 'first' | 'again' | 'refused' | 'jose', number>[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const bare = microseconds(tokens.map(bareVerification(key.publicKey)));
    const first = microseconds(tokens.map((token) => () => validate(token, true)));
    validate(repeated, true);
    const again = microseconds(tokens.flatMap(() => Array(5).fill(() => validate(repeated, true)) as Act[]));
    const refused = microseconds(wrong.map((token) => () => validate(token, false)));
    rounds.push({ bare, first, again, refused, jose: await joseMicroseconds(tokens, key.publicKey) });
  }
  const value = (name: keyof (typeof rounds)[number]): number => median(rounds.map((round) => round[name]));
  const ratio = (name: 'first' | 'again' | 'refused' | 'jose'): { ratio: number } => ({
    ratio: median(rounds.map((round) => round[name] / round.bare)),
  });
  return [
    { name: 'node:crypto verify alone, ES256', value: value('bare'), unit: 'µs' },
    { ...bounded('token of ES256, key known, to bare', value('first'), 'µs', 150), ...ratio('first') },
    { ...bounded('token verified before, to bare', value('again'), 'µs', 10), ...ratio('again') },
    {
      name: 'token with a wrong signature, to bare',
      value: value('refused'),
      unit: 'µs',
      ...ratio('refused'),
    },
    {
      name: "jose's compactVerify (signature alone), to bare",
      value: value('jose'),
      unit: 'µs',
      ...ratio('jose'),
    },
  ];
}

type Act = () => unknown;

function claimsOf(n: number): Record<string, unknown> {
  const now = Math.floor(Date.now() / 1000);
  return {
    ...{ iss: ISSUER, sub: `user-${n}`, aud: ['payments', 'orders'], iat: now - 10, exp: now + 3600 },
    ...{
      jti: `4f6c1c1e-0000-4000-8000-${n}`,
      azp: 'web',
      email: `user-${n}@example.com`,
      amr: ['pwd', 'otp'],
    },
    realm_access: { roles: ['admin', 'editor', 'viewer'] },
    groups: Array.from({ length: 12 }, (_, group) => `group-${group}-of-the-company`),
  };
}

function bareVerification(key: KeyObject): (token: string) => Act {
  return (token) => {
    const end = token.lastIndexOf('.');
    const input = Buffer.from(token.slice(0, end));
    const signature = Buffer.from(token.slice(end + 1), 'base64url');
    return () => verify('sha256', input, { key, dsaEncoding: 'ieee-p1363' }, signature);
  };
}

/** The mean CPU time of one act. */
function microseconds(acts: readonly Act[]): number {
  const before = process.cpuUsage();
  for (const act of acts) act();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / acts.length;
}

async function joseMicroseconds(tokens: readonly string[], key: KeyObject): Promise<number> {
  const before = process.cpuUsage();
  for (const token of tokens) await compactVerify(token, key);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / tokens.length;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}
