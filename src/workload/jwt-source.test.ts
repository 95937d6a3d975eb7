import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { generateKeyPairSync } from 'node:crypto';
import { SignJWT } from 'jose';
import { FakeClock } from '../../test/support/fake-clock.js';
import { FakeWorkloadApi } from '../../test/support/fake-workload-api.js';
import { formatJwtBundle } from '../identity/spiffe/bundle-document.js';
import { StatusError } from '../rpc/service.js';
import { createJwtSource, type JwtSource } from './jwt-source.js';

const ID = 'spiffe://example.org/ns/payments/sa/order-service';
const TTL_MS = 300_000;

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const bundle = formatJwtBundle({
  trustDomain: 'example.org',
  x509Authorities: [],
  jwtAuthorities: [{ keyId: 'one', jwk: publicKey.export({ format: 'jwk' }) }],
  sequence: 1,
});

let api: FakeWorkloadApi;
let clock: FakeClock;
let source: JwtSource;

function sign(audience: readonly string[], sub = ID): Promise<string> {
  const now = Math.floor(clock.now() / 1000);
  return new SignJWT({})
    .setProtectedHeader({ alg: 'ES256', kid: 'one' })
    .setSubject(sub)
    .setAudience([...audience])
    .setIssuedAt(now)
    .setExpirationTime(now + TTL_MS / 1000)
    .sign(privateKey);
}

beforeEach(async () => {
  api = await FakeWorkloadApi.start(new StatusError('PermissionDenied', 'none'));
  clock = new FakeClock();
  api.answerJwt = async ({ audience, spiffeId }) => ({
    svids: [{ spiffeId: spiffeId || ID, svid: await sign(audience, spiffeId || ID), hint: '' }],
  });
  api.jwtBundles.set({ bundles: { 'spiffe://example.org': Buffer.from(bundle) } });
  source = createJwtSource({ address: api.address, clock });
});
afterEach(async () => {
  source.close();
  await api.stop();
});

describe('fetch', () => {
  it('gets a token and keeps it until half of its life is over', async () => {
    const first = await source.fetch('reports');
    expect(first).toMatchObject({ id: { uri: ID }, audience: ['reports'] });
    await clock.advance(TTL_MS / 2 - 1000);
    expect((await source.fetch(['reports'])).token).toBe(first.token);
    expect(api.jwtRequests).toHaveLength(1);
    await clock.advance(1000);
    expect((await source.fetch('reports')).expiresAt).toBeGreaterThan(first.expiresAt);
    expect(api.jwtRequests).toHaveLength(2);
  });

  it('keeps tokens of other audiences and identities apart, whatever the order of audiences', async () => {
    await source.fetch(['b', 'a']);
    await source.fetch(['a', 'b', 'a']);
    expect(api.jwtRequests).toEqual([{ audience: ['a', 'b'], spiffeId: '' }]);
    await source.fetch('a');
    const other = await source.fetch('a', { spiffeId: 'spiffe://example.org/other' });
    expect(other.id.uri).toBe('spiffe://example.org/other');
    expect(api.jwtRequests).toHaveLength(3);
  });

  it('asks once for many who ask at the same time', async () => {
    const tokens = await Promise.all(Array.from({ length: 20 }, () => source.fetch('reports')));
    expect(new Set(tokens.map(({ token }) => token)).size).toBe(1);
    expect(api.jwtRequests).toHaveLength(1);
  });

  it('serves the old token while no new one can be had, and not beyond its end', async () => {
    const first = await source.fetch('reports');
    const working = api.answerJwt;
    api.answerJwt = () => Promise.reject(new StatusError('Unavailable', 'restarting'));
    await clock.advance(TTL_MS * 0.9);
    expect((await source.fetch('reports')).token).toBe(first.token);
    await clock.advance(TTL_MS * 0.1);
    await expect(source.fetch('reports')).rejects.toMatchObject({ status: 'Unavailable' });
    api.answerJwt = working;
    expect((await source.fetch('reports')).token).not.toBe(first.token);
  });

  it('bounds its cache', async () => {
    for (let index = 0; index < 257; index++) await source.fetch(`audience-${index}`);
    await source.fetch('audience-256');
    expect(api.jwtRequests).toHaveLength(257);
    await source.fetch('audience-0');
    expect(api.jwtRequests).toHaveLength(258);
  });

  it('refuses answers that are not what was asked for', async () => {
    api.answerJwt = async () => ({ svids: [] });
    await expect(source.fetch('reports')).rejects.toMatchObject({ code: 'WorkloadApiAnswerInvalid' });
    api.answerJwt = async () => ({ svids: [{ spiffeId: ID, svid: await sign(['else']), hint: '' }] });
    await expect(source.fetch('reports')).rejects.toMatchObject({ code: 'WorkloadApiAnswerInvalid' });
    api.answerJwt = async () => ({ svids: [{ spiffeId: ID, svid: 'a.b.c', hint: '' }] });
    await expect(source.fetch('reports')).rejects.toMatchObject({ code: 'JwtSvidMalformed' });
    api.answerJwt = () => Promise.reject(new StatusError('InvalidArgument', 'no audience'));
    await expect(source.fetch('reports')).rejects.toMatchObject({ code: 'WorkloadApiRefused' });
  });

  it('says so when it was closed', async () => {
    source.close();
    await expect(source.fetch('reports')).rejects.toMatchObject({ code: 'SourceClosed' });
    await expect(source.validate('a.b.c', 'x')).rejects.toMatchObject({ code: 'SourceClosed' });
  });
});

describe('validate', () => {
  it('accepts a token for us and refuses one for others, of a stranger, or that is over', async () => {
    const token = await sign(['us']);
    expect(await source.validate(token, 'us')).toMatchObject({ id: { uri: ID } });
    expect(source.bundle('example.org')?.jwtAuthorities).toHaveLength(1);
    await expect(source.validate(token, 'others')).rejects.toMatchObject({ code: 'JwtSvidAudience' });
    await expect(source.validate(await sign(['us'], 'spiffe://evil.example/x'), 'us')).rejects.toMatchObject({
      code: 'JwtSvidUntrusted',
    });
    await clock.advance(TTL_MS + 61_000);
    await expect(source.validate(token, 'us')).rejects.toMatchObject({ code: 'JwtSvidExpired' });
  });

  it('forgets a key that has left the bundle', async () => {
    const token = await sign(['us']);
    await source.validate(token, 'us');
    api.jwtBundles.set({ bundles: { 'spiffe://example.org': Buffer.from('{"keys":[]}') } });
    while ((source.bundle('example.org')?.jwtAuthorities.length ?? 0) > 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    await expect(source.validate(token, 'us')).rejects.toMatchObject({ code: 'JwtSvidUntrusted' });
  });

  it('gives up in time when no bundles come, and tries again later', async () => {
    api.jwtBundles.set(new StatusError('PermissionDenied', 'no identity issued'));
    const waiting = source.validate(await sign(['us']), 'us');
    waiting.catch(() => undefined);
    await clock.armed(2);
    await clock.advance(30_000);
    await expect(waiting).rejects.toMatchObject({ code: 'WorkloadApiTimeout' });
    api.jwtBundles.set({ bundles: { 'spiffe://example.org': Buffer.from(bundle) } });
    const again = source.validate(await sign(['us']), 'us');
    await clock.armed(2);
    await clock.advance(30_000 - 1);
    expect(await again).toMatchObject({ id: { uri: ID } });
  });

  it('stops when the Workload API refuses for good', async () => {
    api.jwtBundles.set(new StatusError('Unimplemented', 'no JWT here'));
    await expect(source.validate(await sign(['us']), 'us')).rejects.toMatchObject({
      code: 'WorkloadApiRefused',
    });
  });
});
