import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { until } from '../../test/support/fake-call.js';
import { FakeClock, settle } from '../../test/support/fake-clock.js';
import { FakeNodeApi, podRegistration } from '../../test/support/fake-node-api.js';
import { seededRandom } from '../../test/support/seeded-random.js';
import { exportSpki, keyPairFromPkcs8 } from '../identity/pki/keys.js';
import { parseCertificate } from '../identity/pki/certificate.js';
import type { Registration } from '../identity/registration/registration.js';
import { silentLogger } from '../lib/logger.js';
import { IssuerTrust } from './issuer-trust.js';
import type { NodeApi, SignX509Result } from '../rpc/node-api.js';
import { makeKey } from './key-maker.js';
import { type AgentLimits, defaultAgentLimits } from './limits.js';
import { keyOf, leafOf } from './svid.js';
import { X509Keeper } from './x509-keeper.js';

const HOUR = 3_600_000;

let clock: FakeClock;
let api: FakeNodeApi;
let changes: string[];
let stop: AbortController;
let running: Promise<void> | undefined;

beforeEach(async () => {
  clock = new FakeClock();
  api = await FakeNodeApi.create(clock);
  changes = [];
  stop = new AbortController();
  running = undefined;
});

afterEach(async () => {
  stop.abort();
  await running;
});

function keep(
  options: { limits?: Partial<AgentLimits>; api?: Pick<NodeApi, 'signX509'>; rsa?: boolean } = {},
): X509Keeper {
  const keeper = new X509Keeper({
    api: options.api ?? api,
    clock,
    random: seededRandom(),
    logger: silentLogger,
    limits: { ...defaultAgentLimits, ...options.limits },
    keyType: options.rsa === true ? 'rsa-2048' : 'ec-p256',
    makeKey,
    onChange: ({ id }) => changes.push(id),
  });
  running = keeper.run(stop.signal);
  return keeper;
}

function add(keeper: X509Keeper, ...registrations: Registration[]): void {
  for (const registration of registrations) {
    api.registrations.set(registration.id, registration);
    keeper.upsert(registration, false);
  }
}

async function pass(ms: number): Promise<void> {
  await settle();
  await clock.advance(ms);
}

const many = (count: number): Registration[] =>
  Array.from({ length: count }, (_value, index) => podRegistration(`p${index}`));

describe('batches', () => {
  it('hold many registrations, no more than allowed, and every one is signed', async () => {
    const keeper = keep({ limits: { signBatch: 10 } });
    add(keeper, ...many(35));
    await until(() => keeper.stats().svids === 35);
    expect(api.x509Batches.map((batch) => batch.length).sort()).toEqual([10, 10, 10, 5]);
    expect(keeper.stats()).toMatchObject({ queued: 0, failing: 0 });
  });

  it('give each registration the key that its certificate is for', async () => {
    const keeper = keep();
    add(keeper, ...many(12));
    await until(() => keeper.stats().svids === 12);
    for (let index = 0; index < 12; index++) {
      const svid = keeper.svid(`p${index}/id`);
      if (svid === undefined) throw new Error('no SVID');
      const leaf = parseCertificate(leafOf(svid));
      expect(leaf.uris).toEqual([`spiffe://example.org/ns/shop/sa/p${index}`]);
      expect(Buffer.from(exportSpki(keyPairFromPkcs8(keyOf(svid)).publicKey)).equals(leaf.spki)).toBe(true);
    }
  });

  it('for callers that wait hold nobody else', async () => {
    const keeper = keep({ limits: { signBatch: 10 } });
    add(keeper, ...many(15));
    const waiting = podRegistration('waiting');
    api.registrations.set(waiting.id, waiting);
    keeper.upsert(waiting, true);
    keeper.urge(['p14/id']);
    await until(() => keeper.stats().svids === 16);
    expect(api.x509Batches[0]).toEqual(['waiting/id', 'p14/id']);
  });

  it('are small for RSA, whose keys take long', async () => {
    const keeper = keep({ rsa: true });
    add(keeper, ...many(5));
    await waitReal(() => keeper.stats().svids === 5);
    expect(Math.max(...api.x509Batches.map((batch) => batch.length))).toBeLessThanOrEqual(4);
  });

  it('have keys of the type that the server says, and of another once it says that', async () => {
    const keeper = keep();
    const one = podRegistration('p');
    const typeOf = (): string => {
      const svid = keeper.svid('p/id');
      return svid === undefined ? 'none' : keyPairFromPkcs8(keyOf(svid)).type;
    };
    add(keeper, { ...one, keyType: 'ec-p384' });
    await until(() => typeOf() === 'ec-p384');
    add(keeper, { ...one, keyType: 'ed25519', revision: 'next' });
    // The former one serves until the new one is there.
    expect(typeOf()).toBe('ec-p384');
    await until(() => typeOf() === 'ed25519');
    add(keeper, { ...one, revision: 'last' });
    await until(() => typeOf() === 'ec-p256');
  });

  it('are small where the server says RSA', async () => {
    const keeper = keep();
    add(keeper, ...many(5).map((one): Registration => ({ ...one, keyType: 'rsa-2048' })));
    await waitReal(() => keeper.stats().svids === 5);
    expect(Math.max(...api.x509Batches.map((batch) => batch.length))).toBeLessThanOrEqual(4);
  });

  it('whose answers are mixed up give nobody another’s SVID', async () => {
    const mixed: Pick<NodeApi, 'signX509'> = {
      signX509: async (requests): Promise<readonly SignX509Result[]> =>
        [...(await api.signX509(requests))].reverse(),
    };
    const keeper = keep({ api: mixed });
    add(keeper, ...many(2));
    await until(() => keeper.stats().failing === 2);
    expect(keeper.stats().svids).toBe(0);
    expect(keeper.failure('p0/id')).toMatchObject({ code: 'SvidInvalid', retryable: true });
  });

  it('with too few answers count for nothing', async () => {
    let short = true;
    const keeper = keep({
      api: {
        signX509: async (requests) => {
          const results = await api.signX509(requests);
          return short ? results.slice(1) : results;
        },
      },
    });
    add(keeper, ...many(3));
    await until(() => api.x509Batches.length === 1);
    await settle();
    expect(keeper.stats()).toMatchObject({ svids: 0, failing: 0 });
    short = false;
    await pass(1_000);
    await until(() => keeper.stats().svids === 3);
  });

  it('that are never answered are given up and asked again', async () => {
    let answer = false;
    const keeper = keep({
      api: {
        signX509: async (requests) => (answer ? api.signX509(requests) : new Promise<never>(() => undefined)),
      },
    });
    add(keeper, ...many(1));
    await settle();
    answer = true;
    await pass(29_000);
    expect(keeper.stats().svids).toBe(0);
    await pass(2_000);
    await until(() => keeper.stats().svids === 1);
  });
});

describe('back-off', () => {
  it('of a refused registration does not stall the others', async () => {
    const keeper = keep();
    api.refusals.set('p0/id', { ok: false, code: 'Busy', message: 'not now', retryable: true });
    add(keeper, ...many(3));
    await until(() => keeper.stats().svids === 2);
    expect(keeper.failure('p0/id')).toMatchObject({ code: 'Busy' });
    const asked = (): number => api.x509Batches.flat().filter((id) => id === 'p0/id').length;
    await pass(10 * 60_000);
    // 0.5 s, 1, 2, 4 … 60 s, ± 20 %: about 16 in ten minutes.
    expect(asked()).toBeGreaterThan(10);
    expect(asked()).toBeLessThan(25);
    api.refusals.clear();
    await pass(80_000);
    expect(keeper.svid('p0/id')).toBeDefined();
    expect(keeper.failure('p0/id')).toBeUndefined();
  });

  it('of a final refusal lasts until the registration changes or the server is another', async () => {
    const keeper = keep();
    api.refusals.set('p0/id', { ok: false, code: 'No', message: 'never', retryable: false });
    add(keeper, ...many(1));
    await until(() => keeper.stats().failing === 1);
    await pass(HOUR);
    expect(api.x509Batches).toHaveLength(1);
    api.refusals.clear();
    keeper.reconnected();
    await until(() => keeper.stats().svids === 1);
  });
});

describe('a keeper that waits', () => {
  it('goes on at once when a server is there again', async () => {
    const keeper = keep();
    api.unreachable = new Error('no route');
    add(keeper, ...many(3));
    await pass(HOUR);
    api.unreachable = undefined;
    keeper.reconnected();
    await until(() => keeper.stats().svids === 3);
  });

  it.each([
    ['ahead, for which SVIDs are expired when they come', HOUR],
    ['behind, where the server cannot be believed', -HOUR],
  ])('goes on at once when a clock is set that was %s', async (_, ahead) => {
    const keeper = keep();
    if (ahead < 0) api.unreachable = new Error('the peer is of the future');
    // The server's own clock is right.
    else
      for (const { id } of many(3))
        api.refusals.set(id, { ok: false, code: 'SvidExpired', message: 'expired', retryable: true });
    clock.jump(ahead);
    add(keeper, ...many(3));
    await pass(HOUR);
    api.unreachable = undefined;
    api.refusals.clear();
    clock.jump(-ahead);
    keeper.clockSet();
    await until(() => keeper.stats().svids === 3);
    expect(keeper.stats()).toMatchObject({ failing: 0, queued: 0 });
  });
});

describe('rotation', () => {
  it('spreads what was signed together over a tenth of the life', async () => {
    const keeper = keep();
    add(keeper, ...many(40));
    await until(() => keeper.stats().svids === 40);
    const times: number[] = [];
    changes.length = 0;
    for (let minute = 0; minute < 40; minute++) {
      const before = changes.length;
      await pass(60_000);
      for (let count = before; count < changes.length; count++) times.push(minute);
    }
    expect(changes).toHaveLength(40);
    expect(new Set(changes).size).toBe(40);
    expect(Math.min(...times)).toBeGreaterThanOrEqual(26);
    expect(Math.max(...times)).toBeLessThanOrEqual(33);
    expect(new Set(times).size).toBeGreaterThan(3);
  });

  it('notices a clock that jumps forward within 30 s, and never serves what has expired by it', async () => {
    const keeper = keep();
    add(keeper, ...many(1));
    await until(() => keeper.stats().svids === 1);
    const before = keeper.svid('p0/id')?.serial;
    clock.jump(HOUR + 1);
    // At once, though no timer has fired yet.
    expect(keeper.svid('p0/id')).toBeUndefined();
    await pass(30_000);
    expect(keeper.svid('p0/id')?.serial).not.toBe(before);
    expect(keeper.svid('p0/id')).toBeDefined();
  });

  it('notices a clock that is set back behind the SVID’s start', async () => {
    const keeper = keep();
    add(keeper, ...many(1));
    await until(() => keeper.stats().svids === 1);
    const before = keeper.svid('p0/id')?.serial;
    clock.jump(-24 * HOUR);
    await pass(30_000);
    const after = keeper.svid('p0/id');
    expect(after?.serial).not.toBe(before);
    expect(after?.notBefore).toBeLessThanOrEqual(clock.now());
    const batches = api.x509Batches.length;
    await pass(10 * 60_000);
    expect(api.x509Batches).toHaveLength(batches);
  });

  it('does not serve an SVID beyond its life after the clock was set back', async () => {
    const keeper = keep();
    add(keeper, ...many(1));
    await until(() => keeper.stats().svids === 1);
    api.refusals.set('p0/id', { ok: false, code: 'Busy', message: 'not now', retryable: true });
    await pass(0.4 * HOUR);
    clock.jump(-0.3 * HOUR);
    await pass(0.59 * HOUR);
    expect(keeper.svid('p0/id')).toBeDefined();
    await pass(0.01 * HOUR + 1_000);
    expect(keeper.svid('p0/id')).toBeUndefined();
    expect(keeper.stats().svids).toBe(0);
  });

  it('keeps serving the old SVID while the server refuses, and drops it when it expires', async () => {
    const keeper = keep();
    add(keeper, ...many(1));
    await until(() => keeper.stats().svids === 1);
    const before = keeper.svid('p0/id')?.serial;
    api.refusals.set('p0/id', { ok: false, code: 'Busy', message: 'not now', retryable: true });
    await pass(0.9 * HOUR);
    expect(keeper.svid('p0/id')?.serial).toBe(before);
    changes.length = 0;
    await pass(0.1 * HOUR + 1_000);
    expect(keeper.svid('p0/id')).toBeUndefined();
    expect(changes).toContain('p0/id');
    expect(keeper.stats().svids).toBe(0);
  });

  it('replaces what a tainted authority signed, in batches, and nothing else', async () => {
    const keeper = keep({ limits: { signBatch: 500 } });
    add(keeper, ...many(20));
    await until(() => keeper.stats().svids === 20);
    const old = api.authorityId;
    await api.rotate();
    add(keeper, podRegistration('late'));
    await until(() => keeper.stats().svids === 21);
    const late = keeper.svid('late/id')?.serial;
    api.x509Batches.length = 0;
    keeper.judge([old]);
    await until(() => many(20).every(({ id }) => keeper.svid(id)?.authorityId === api.authorityId));
    expect(api.x509Batches.map((batch) => batch.length)).toEqual([20]);
    expect(keeper.svid('late/id')?.serial).toBe(late);
  });

  it('does not ask in a hot loop when the server goes on signing with a tainted authority', async () => {
    const keeper = keep();
    add(keeper, ...many(1));
    await until(() => keeper.stats().svids === 1);
    keeper.judge([api.authorityId]);
    await pass(10 * 60_000);
    expect(api.x509Batches.length).toBeGreaterThan(5);
    expect(api.x509Batches.length).toBeLessThan(25);
    expect(keeper.svid('p0/id')).toBeDefined();
  });

  it('replaces what nobody with the newest bundle trusts, and nothing else; without a rush while that stays so', async () => {
    const keeper = keep({ limits: { signBatch: 500 } });
    add(keeper, ...many(3));
    await until(() => keeper.stats().svids === 3);
    const old = api.authorityId;
    await api.rotate();
    add(keeper, podRegistration('late'));
    await until(() => keeper.stats().svids === 4);
    const late = keeper.svid('late/id')?.serial;
    keeper.judge([], new IssuerTrust(api.bundle()));
    await pass(60_000);
    expect(keeper.svid('p0/id')?.authorityId).toBe(old);
    const [, newer = new Uint8Array()] = api.bundle().x509Authorities;
    keeper.judge([], new IssuerTrust({ x509Authorities: [newer] }));
    await until(() => many(3).every(({ id }) => keeper.svid(id)?.authorityId === api.authorityId));
    expect(keeper.svid('late/id')?.serial).toBe(late);
    api.x509Batches.length = 0;
    keeper.judge([], new IssuerTrust({ x509Authorities: [] }));
    await pass(10 * 60_000);
    expect(api.x509Batches.flat().length).toBeGreaterThan(4 * 5);
    expect(api.x509Batches.flat().length).toBeLessThan(4 * 25);
    expect(keeper.stats().svids).toBe(4);
  });
});

describe('a registration that is removed', () => {
  it('is not served, even when its SVID comes afterwards', async () => {
    let open: (() => void) | undefined;
    api.gate = () => new Promise<void>((resolve) => (open = resolve));
    const keeper = keep();
    add(keeper, ...many(1));
    await until(() => open !== undefined);
    keeper.remove('p0/id');
    open?.();
    await settle();
    expect(keeper.svid('p0/id')).toBeUndefined();
    expect(keeper.stats()).toMatchObject({ registrations: 0, svids: 0, queued: 0 });
  });
});

/** RSA keys are made on another thread: only real turns of the loop bring them. */
async function waitReal(holds: () => boolean): Promise<void> {
  const end = performance.now() + 20_000;
  while (!holds()) {
    if (performance.now() > end) throw new Error('it did not come to hold');
    await settle();
  }
}

describe('an SVID that is revoked by its serial number', () => {
  it('is served no more, and another takes its place; nothing else changes', async () => {
    const keeper = keep();
    add(keeper, podRegistration('web'), podRegistration('other'));
    await until(() => keeper.stats().svids === 2);
    const [web, other] = [keeper.svid('web/id'), keeper.svid('other/id')];
    const batches = api.x509Batches.length;
    changes = [];
    keeper.revoke([web?.serial ?? '']);
    expect(keeper.svid('web/id')).toBeUndefined();
    expect(changes).toEqual(['web/id']);
    await until(() => keeper.stats().svids === 2);
    expect(keeper.svid('web/id')?.serial).not.toBe(web?.serial);
    expect(keeper.svid('other/id')).toBe(other);
    expect(api.x509Batches.slice(batches)).toEqual([['web/id']]);
    // Told again, as with every bundle: it is gone already.
    keeper.revoke([web?.serial ?? '']);
    await pass(1_000);
    expect(api.x509Batches).toHaveLength(batches + 1);
  });
});
