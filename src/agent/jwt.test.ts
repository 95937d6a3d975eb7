import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { testContext, until } from '../../test/support/fake-call.js';
import { FakeClock, settle } from '../../test/support/fake-clock.js';
import { FakeNodeApi, podRegistration } from '../../test/support/fake-node-api.js';
import { seededRandom } from '../../test/support/seeded-random.js';
import { parseJwtSvidUnverified } from '../identity/spiffe/jwt-svid.js';
import { silentLogger } from '../lib/logger.js';
import { JWTSVIDResponse, ValidateJWTSVIDResponse } from '../rpc/gen/spiffe/workload.js';
import { type Agent, createAgent, workloadApiHandlers } from './agent.js';
import { audienceSet, JwtKeeper } from './jwt-keeper.js';
import { type AgentLimits, defaultAgentLimits } from './limits.js';
import type { WorkloadApiHandlers } from './workload-api.js';

let clock: FakeClock;
let api: FakeNodeApi;
let agent: Agent;
let handlers: WorkloadApiHandlers;
let stop: AbortController;
let running: Promise<void> | undefined;

async function start(limits: Partial<AgentLimits> = {}): Promise<void> {
  agent = createAgent({
    api,
    nodeName: 'node-1',
    clock,
    random: seededRandom(),
    logger: silentLogger,
    limits,
  });
  handlers = workloadApiHandlers(agent);
  running = agent.run(stop.signal);
  await until(() => agent.ready.value && agent.stats().svids === api.registrations.size);
}

beforeEach(async () => {
  clock = new FakeClock();
  api = await FakeNodeApi.create(clock);
  stop = new AbortController();
  running = undefined;
});

afterEach(async () => {
  stop.abort();
  await running;
});

async function fetch(uid: string, audience: string[], spiffeId = ''): Promise<JWTSVIDResponse> {
  const answer = await handlers.fetchJwtsvid({ audience, spiffeId }, testContext({ listener: `pod/${uid}` }));
  return answer instanceof Uint8Array ? JWTSVIDResponse.decode(answer) : answer;
}

async function validate(uid: string, audience: string, svid: string): Promise<ValidateJWTSVIDResponse> {
  const answer = await handlers.validateJwtsvid({ audience, svid }, testContext({ listener: `pod/${uid}` }));
  return answer instanceof Uint8Array ? ValidateJWTSVIDResponse.decode(answer) : answer;
}

describe('FetchJWTSVID', () => {
  it('gives a token for the audience, the same while it is fresh', async () => {
    api.upsert(podRegistration('order', { hint: 'h' }));
    await start();
    const { svids } = await fetch('order', ['bank', 'audit']);
    expect(svids).toHaveLength(1);
    expect(svids[0]).toMatchObject({ spiffeId: 'spiffe://example.org/ns/shop/sa/order', hint: 'h' });
    const token = parseJwtSvidUnverified(svids[0]?.svid ?? '');
    expect([...token.audience].sort()).toEqual(['audit', 'bank']);
    // The same set in another order, with repetition.
    expect((await fetch('order', ['audit', 'bank', 'bank'])).svids).toEqual(svids);
    expect(api.jwtBatches).toHaveLength(1);
    expect((await fetch('order', ['bank'])).svids[0]?.svid).not.toBe(svids[0]?.svid);
  });

  it('asks once for the same token asked twice at a time', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const [one, other] = await Promise.all([fetch('order', ['bank']), fetch('order', ['bank'])]);
    expect(one).toEqual(other);
    expect(api.jwtBatches).toHaveLength(1);
  });

  it('gives all identities in one request to the server, the default first', async () => {
    api.upsert(
      podRegistration('order', { id: 'b', path: '/b', hint: 'b' }),
      podRegistration('order', { id: 'a', path: '/a', hint: 'default' }),
    );
    await start();
    const { svids } = await fetch('order', ['bank']);
    expect(svids.map(({ hint }) => hint)).toEqual(['default', 'b']);
    expect(api.jwtBatches.map((batch) => batch.length)).toEqual([2]);
    const one = await fetch('order', ['bank'], 'spiffe://example.org/b');
    expect(one.svids).toEqual([svids[1]]);
  });

  it('gives those that can be signed when another cannot', async () => {
    api.upsert(
      podRegistration('order', { id: 'a', path: '/a' }),
      podRegistration('order', { id: 'b', path: '/b' }),
    );
    await start();
    api.refusals.set('a', { ok: false, code: 'No', message: 'never', retryable: false });
    expect((await fetch('order', ['bank'])).svids.map(({ spiffeId }) => spiffeId)).toEqual([
      'spiffe://example.org/b',
    ]);
    api.refusals.set('b', { ok: false, code: 'Busy', message: 'not now', retryable: true });
    await expect(fetch('order', ['other'])).rejects.toMatchObject({ status: 'PermissionDenied' });
  });

  it('refuses what is mandatory and missing, and what is too much', async () => {
    api.upsert(podRegistration('order'));
    await start();
    for (const [audience, id] of [
      [[], ''],
      [[''], ''],
      [['x'.repeat(2_000)], ''],
      [Array.from({ length: 65 }, (_value, index) => `a${index}`), ''],
      [['bank'], 'http://example.org/x'],
    ] as [string[], string][]) {
      await expect(fetch('order', audience, id)).rejects.toMatchObject({ status: 'InvalidArgument' });
    }
  });

  it('refuses an identity that the caller does not have, naming those it has', async () => {
    api.upsert(podRegistration('order'), podRegistration('payment'));
    await start();
    await expect(fetch('order', ['bank'], 'spiffe://example.org/ns/shop/sa/payment')).rejects.toMatchObject({
      status: 'PermissionDenied',
      message: expect.stringContaining('spiffe://example.org/ns/shop/sa/order'),
    });
  });

  it('refuses an audience that the identity may not ask for', async () => {
    api.upsert(podRegistration('order', { audiences: ['bank'] }));
    await start();
    await expect(fetch('order', ['bank', 'evil'])).rejects.toMatchObject({
      status: 'PermissionDenied',
      message: expect.stringContaining('bank'),
    });
    expect((await fetch('order', ['bank'])).svids).toHaveLength(1);
  });

  it('keeps no token of a registration that is gone', async () => {
    api.upsert(podRegistration('order'));
    await start();
    await fetch('order', ['bank']);
    expect(agent.stats().jwtSvids).toBe(1);
    api.remove('order/id');
    await until(() => agent.stats().registrations === 0);
    expect(agent.stats().jwtSvids).toBe(0);
  });

  it('holds a caller whose registration is on its way', async () => {
    await start();
    const pending = fetch('order', ['bank']);
    await settle();
    api.upsert(podRegistration('order'));
    expect((await pending).svids).toHaveLength(1);
  });

  it('bounds new tokens per caller, not those from the cache', async () => {
    api.upsert(podRegistration('order'));
    await start({ jwtPerSecond: 1, jwtBurst: 1 });
    await fetch('order', ['a']);
    await fetch('order', ['a']);
    await expect(fetch('order', ['b'])).rejects.toMatchObject({ status: 'ResourceExhausted' });
    await clock.advance(1_000);
    expect((await fetch('order', ['b'])).svids).toHaveLength(1);
  });
});

describe('ValidateJWTSVID', () => {
  it('tells whose a token is and its claims', async () => {
    api.upsert(podRegistration('order'), podRegistration('payment'));
    await start();
    const { svids } = await fetch('order', ['payment']);
    const valid = await validate('payment', 'payment', svids[0]?.svid ?? '');
    expect(valid.spiffeId).toBe('spiffe://example.org/ns/shop/sa/order');
    expect(valid.claims).toMatchObject({ sub: 'spiffe://example.org/ns/shop/sa/order' });
    // What goes over the wire is a Struct.
    expect(ValidateJWTSVIDResponse.decode(ValidateJWTSVIDResponse.encode(valid).finish()).claims).toEqual(
      valid.claims,
    );
  });

  it('refuses a token for another audience, of an unknown trust domain, expired, or nothing at all', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const svid = (await fetch('order', ['payment'])).svids[0]?.svid ?? '';
    const stranger = await FakeNodeApi.create(clock, 'evil.example');
    stranger.registrations.set('order/id', podRegistration('order'));
    const [foreign] = await stranger.signJwt([{ registrationId: 'order/id', audience: ['payment'] }]);
    for (const [audience, token] of [
      ['other', svid],
      ['payment', ''],
      ['', svid],
      ['payment', 'x'.repeat(100_000)],
      ['payment', foreign?.ok === true ? foreign.token : ''],
    ] as [string, string][]) {
      const outcome = await validate('order', audience, token).catch((error: unknown) => error);
      expect(outcome).toMatchObject({ status: 'InvalidArgument' });
      expect(String(outcome)).not.toContain(svid.slice(-20));
    }
    await clock.advance(3_600_000);
    await expect(validate('order', 'payment', svid)).rejects.toMatchObject({ status: 'InvalidArgument' });
  });
});

describe('JwtKeeper', () => {
  const audience = audienceSet(['bank']);
  const order = podRegistration('order');

  function keeper(limits: Partial<AgentLimits> = {}): JwtKeeper {
    api.registrations.set(order.id, order);
    return new JwtKeeper({
      api,
      clock,
      random: seededRandom(),
      limits: { ...defaultAgentLimits, ...limits },
    });
  }

  async function token(jwt: JwtKeeper, values = audience): Promise<string> {
    const [answer] = await jwt.fetch([order], values, stop.signal);
    if (answer?.ok !== true) throw new Error(answer?.message ?? 'no answer');
    return answer.token;
  }

  it('renews from half-life on, and serves the old one when that fails', async () => {
    const jwt = keeper();
    const first = await token(jwt);
    await clock.advance(130_000);
    expect(await token(jwt)).toBe(first);
    await clock.advance(40_000);
    api.unreachable = new Error('connection refused');
    expect(await token(jwt)).toBe(first);
    api.unreachable = undefined;
    const second = await token(jwt);
    expect(second).not.toBe(first);
    api.unreachable = new Error('connection refused');
    await clock.advance(300_000);
    await expect(token(jwt)).rejects.toThrow('connection refused');
  });

  it('forgets the least recently used of a registration that has too many', async () => {
    const jwt = keeper({ maxJwtSvidsPerRegistration: 2 });
    const a = await token(jwt, ['a']);
    const b = await token(jwt, ['b']);
    expect(await token(jwt, ['a'])).toBe(a);
    await token(jwt, ['c']);
    expect(jwt.size).toBe(2);
    expect(await token(jwt, ['a'])).toBe(a);
    expect(await token(jwt, ['b'])).not.toBe(b);
  });

  it('keeps no more than allowed in all', async () => {
    const jwt = keeper({ maxJwtSvids: 3 });
    for (const value of ['a', 'b', 'c', 'd', 'e']) await token(jwt, [value]);
    expect(jwt.size).toBe(3);
  });

  it('drops what is removed, tainted or of an older revision', async () => {
    const jwt = keeper();
    const first = await token(jwt);
    jwt.remove(order.id);
    expect(jwt.size).toBe(0);
    const second = await token(jwt);
    expect(second).not.toBe(first);
    const changed = { ...order, revision: '2' };
    expect(jwt.misses([changed], audience)).toBe(1);
    expect(jwt.misses([order], audience)).toBe(0);
    jwt.taint(['jwt-1']);
    expect(jwt.size).toBe(0);
    await expect(token(jwt)).rejects.toThrow('tainted');
  });
});
