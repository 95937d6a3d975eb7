import { describe, expect, it } from '@jest/globals';
import { decodeJwt, createLocalJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';
import { FakeClock } from '../../../test/support/fake-clock.js';
import type { RecordingLogger } from '../../../test/support/recording-logger.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { systemRandom } from '../../lib/random.js';
import type { KeyStore } from '../keys/key-store.js';
import { memoryKeyStore } from '../keys/key-store.js';
import { parseCertificate } from '../pki/certificate.js';
import { exportSpki, generateKeyPair } from '../pki/keys.js';
import { verifyX509Svid } from '../pki/svid.js';
import type { TrustBundle } from '../spiffe/bundle.js';
import { parseSpiffeId } from '../spiffe/id.js';
import type { AuthorityKind } from './authority-set.js';
import type { CertificateAuthority } from './certificate-authority.js';
import { openCertificateAuthority } from './certificate-authority.js';
import type { CaConfig } from './config.js';
import type { Journal } from './journal.js';
import { memoryJournal } from './journal.js';
import { verifyJwtSvid } from '../spiffe/jwt-svid.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const web = parseSpiffeId('spiffe://example.org/ns/shop/sa/web');
const workload = await generateKeyPair('ec-p256');
const spki = exportSpki(workload.publicKey);
const coded = (code: string): unknown => expect.objectContaining({ code });

interface World {
  clock: FakeClock;
  keys: KeyStore;
  journal: Journal;
  log: RecordingLogger;
}
function world(): World {
  return { clock: new FakeClock(), keys: memoryKeyStore(), journal: memoryJournal(), log: recordingLogger() };
}
const open = (one: World, config: CaConfig = {}): Promise<CertificateAuthority> =>
  openCertificateAuthority({
    trustDomain: 'example.org',
    keys: one.keys,
    journal: one.journal,
    clock: one.clock,
    random: systemRandom,
    logger: one.log,
    config,
  });
const slots = (ca: CertificateAuthority, kind: AuthorityKind): string[] =>
  ca
    .authorities()
    .filter((authority) => authority.kind === kind)
    .map(({ slot }) => slot);
const active = (ca: CertificateAuthority, kind: AuthorityKind): string =>
  ca.authorities().find((one) => one.kind === kind && one.slot === 'active')?.id ?? 'none';
const x509 = { spki, spiffeId: web, dnsNames: ['web.shop.svc'], ttlSeconds: 3600 };
const jwt = { spiffeId: web, audience: ['db'], ttlSeconds: 300 };
const verify = (chain: readonly Uint8Array[], bundle: TrustBundle, now: number): string =>
  verifyX509Svid({ chain, bundles: () => bundle, now }).id.uri;

/** Runs the loop until it sleeps; stops it at the end of the test. */
async function running({ clock }: World, ca: CertificateAuthority, act: () => Promise<void>): Promise<void> {
  const stop = new AbortController();
  const loop = ca.run(stop.signal);
  await clock.armed();
  try {
    await act();
  } finally {
    stop.abort();
    await loop;
  }
}

describe('an X.509-SVID', () => {
  it('verifies under the bundle and says what was asked', async () => {
    const one = world();
    const ca = await open(one);
    const signed = await ca.signX509(x509);
    expect(verify(signed.chain, ca.bundle.value, one.clock.now())).toBe(web.uri);
    const leaf = parseCertificate(signed.chain[0] ?? spki);
    expect(leaf.dnsNames).toEqual(['web.shop.svc']);
    expect(leaf.notBefore).toBe(one.clock.now() - 10_000);
    expect(leaf.notAfter).toBe(one.clock.now() + HOUR);
    expect([signed.notBefore, signed.notAfter, signed.serial]).toEqual([
      leaf.notBefore,
      leaf.notAfter,
      leaf.serial,
    ]);
    expect(leaf.authorityKeyId).toBe(signed.authorityId);
    expect(signed.authorityId).toBe(active(ca, 'x509'));
    expect(signed.chain).toHaveLength(1);
  });

  it('never outlives its authority', async () => {
    const one = world();
    const ca = await open(one, { authorityTtlSeconds: 600 });
    const signed = await ca.signX509(x509);
    expect(signed.notAfter).toBe(one.clock.now() + 600_000);
    expect(verify(signed.chain, ca.bundle.value, signed.notAfter - 1)).toBe(web.uri);
    const token = await ca.signJwt({ ...jwt, ttlSeconds: 3600 });
    expect(token.expiresAt).toBe(one.clock.now() + 600_000);
  });

  it('has a serial of its own, of many random bits', async () => {
    const ca = await open(world());
    const serials = new Set<string>();
    for (let n = 0; n < 200; n++) serials.add((await ca.signX509(x509)).serial);
    expect(serials.size).toBe(200);
    const longest = Math.max(...[...serials].map((serial) => serial.length));
    expect(longest).toBe(32);
    for (const serial of serials) expect(serial.length).toBeGreaterThan(20);
  });

  it.each([
    [
      'another trust domain',
      { spiffeId: parseSpiffeId('spiffe://other.org/a') },
      /other\.org.*signs for no other/,
    ],
    ['the trust domain itself', { spiffeId: parseSpiffeId('spiffe://example.org') }, /names a workload/],
    ['no lifetime', { ttlSeconds: 0 }, /lifetime is 0/],
    ['a broken lifetime', { ttlSeconds: Number.NaN }, /lifetime is NaN/],
    ['a DNS name that is none', { dnsNames: ['spiffe://example.org/ns/x/sa/y'] }, /DNS name/i],
  ])('is refused for %s', async (_name, change, message) => {
    const ca = await open(world());
    await expect(ca.signX509({ ...x509, ...change })).rejects.toThrow(message);
  });
});

describe('a JWT-SVID', () => {
  it.each(['ec-p256', 'ec-p384', 'rsa-2048'] as const)(
    'of a %s key verifies for others',
    async (jwtKeyType) => {
      const one = world();
      const ca = await open(one, { jwtKeyType, jwtIssuer: 'https://issuer.example' });
      const { token, keyId, issuedAt, expiresAt } = await ca.signJwt({ ...jwt, audience: ['db', 'cache'] });
      const keys = ca.bundle.value.jwtAuthorities.map((key) => ({ ...key.jwk, kid: key.keyId }));
      const { payload, protectedHeader } = await jwtVerify(token, createLocalJWKSet({ keys }), {
        audience: 'cache',
        currentDate: new Date(one.clock.now()),
      });
      const alg = { 'ec-p256': 'ES256', 'ec-p384': 'ES384', 'rsa-2048': 'RS256' }[jwtKeyType];
      expect(protectedHeader).toEqual({ alg, kid: keyId, typ: 'JWT' });
      expect(payload).toEqual({
        iss: 'https://issuer.example',
        sub: web.uri,
        aud: ['db', 'cache'],
        iat: one.clock.now() / 1000,
        exp: one.clock.now() / 1000 + 300,
        jti: expect.stringMatching(/^[A-Za-z0-9_-]{22}$/),
      });
      expect([issuedAt, expiresAt]).toEqual([one.clock.now(), one.clock.now() + 300_000]);
    },
  );

  it('passes our own validation, and has no issuer unless one is set', async () => {
    const one = world();
    const ca = await open(one);
    const { token } = await ca.signJwt(jwt);
    const svid = await verifyJwtSvid({
      token,
      audience: 'db',
      bundles: () => ca.bundle.value,
      now: one.clock.now(),
    });
    expect(svid.id.uri).toBe(web.uri);
    expect(Object.keys(svid.claims).sort()).toEqual(['aud', 'exp', 'iat', 'jti', 'sub']);
  });

  it.each([
    ['no audience', [], /no audience/],
    ['an empty audience', ['db', ''], /audience is empty/],
    ['too many audiences', Array<string>(33).fill('a'), /33 audiences/],
    ['a huge audience', ['a'.repeat(5000)], /5000 characters/],
  ])('is refused for %s', async (_name, audience, message) => {
    const ca = await open(world());
    await expect(ca.signJwt({ ...jwt, audience })).rejects.toThrow(message);
  });

  it('is cheap: many per second with one key', async () => {
    const ca = await open(world());
    const ids = new Set<string>();
    for (let n = 0; n < 300; n++) ids.add((await ca.signJwt(jwt)).token);
    expect(ids.size).toBe(300);
  });
});

describe('a rotation on schedule', () => {
  it('publishes long before it signs, and retires long after', async () => {
    const one = world();
    const ca = await open(one, { authorityTtlSeconds: 3600 });
    const first = active(ca, 'x509');
    const sequences = [ca.bundle.value.sequence];
    ca.bundle.watch((bundle) => sequences.push(bundle.sequence));
    await running(one, ca, async () => {
      await one.clock.advance(30 * MINUTE - 60_000);
      expect(slots(ca, 'x509')).toEqual(['active']);
      await one.clock.advance(60_000);
      expect(slots(ca, 'x509')).toEqual(['active', 'prepared']);
      expect(slots(ca, 'jwt')).toEqual(['active', 'prepared']);
      expect(ca.bundle.value.x509Authorities).toHaveLength(2);
      expect(ca.bundle.value.jwtAuthorities).toHaveLength(2);
      await one.clock.advance(20 * MINUTE - 60_000);
      expect((await ca.signX509(x509)).authorityId).toBe(first);
      await one.clock.advance(60_000);
      expect(slots(ca, 'x509')).toEqual(['old', 'active']);
      const signed = await ca.signX509(x509);
      expect(signed.authorityId).not.toBe(first);
      expect(verify(signed.chain, ca.bundle.value, one.clock.now())).toBe(web.uri);
      await one.clock.advance(69 * MINUTE);
      expect(ca.authorities().map(({ id }) => id)).toContain(first);
      await one.clock.advance(2 * MINUTE);
      expect(ca.authorities().map(({ id }) => id)).not.toContain(first);
    });
    for (const [index, sequence] of sequences.entries())
      if (index > 0) expect(sequence).toBeGreaterThan(sequences[index - 1] ?? 0);
    expect(one.log.lines).toEqual([]);
  });

  it('never lacks a signer through many rotations, and grows no list', async () => {
    const one = world();
    const ca = await open(one, { authorityTtlSeconds: 3600 });
    await running(one, ca, async () => {
      for (let half = 0; half < 16; half++) {
        await one.clock.advance(HOUR / 2);
        const signed = await ca.signX509({ ...x509, ttlSeconds: 600 });
        expect(signed.notAfter - one.clock.now()).toBe(600_000);
        expect(verify(signed.chain, ca.bundle.value, one.clock.now())).toBe(web.uri);
        expect(ca.authorities().length).toBeLessThanOrEqual(10);
        expect((await one.keys.list()).length).toBeLessThanOrEqual(4);
      }
    });
    expect(one.clock.timers).toBe(0);
  });

  it('lets the other kind rotate when one cannot, says so once, and recovers', async () => {
    const one = world();
    let broken = false;
    const keys: KeyStore = {
      ...one.keys,
      generate: (id, type) =>
        broken && id.startsWith('x509')
          ? Promise.reject(new Error('the disk is full'))
          : one.keys.generate(id, type),
    };
    const ca = await open({ ...one, keys }, { authorityTtlSeconds: 7200 });
    broken = true;
    await running(one, ca, async () => {
      await one.clock.advance(105 * MINUTE);
      expect(slots(ca, 'jwt')).toEqual(['old', 'active']);
      expect(slots(ca, 'x509')).toEqual(['active']);
      expect(ca.problem.value?.message).toBe('the disk is full');
      expect(one.log.lines).toEqual(['error the CA could not do what is due']);
      await expect(ca.signX509(x509)).resolves.toBeDefined();
      broken = false;
      await one.clock.advance(60_000);
      expect(slots(ca, 'x509')).toEqual(['active', 'prepared']);
      await one.clock.advance(120_000);
      expect(slots(ca, 'x509')).toEqual(['old', 'active']);
      expect(ca.problem.value).toBeUndefined();
    });
  });
});

describe('a rotation by hand', () => {
  it('is at once, after every watcher was told, and goes on from a restart', async () => {
    const one = world();
    const ca = await open(one);
    const before = await ca.signX509(x509);
    const told: { active: string; roots: number }[] = [];
    ca.bundle.watch((bundle) =>
      told.push({ active: active(ca, 'x509'), roots: bundle.x509Authorities.length }),
    );
    await ca.rotate('x509');
    expect(told).toEqual([{ active: before.authorityId, roots: 2 }]);
    const after = await ca.signX509(x509);
    expect(after.authorityId).not.toBe(before.authorityId);
    for (const { chain } of [before, after])
      expect(verify(chain, ca.bundle.value, one.clock.now())).toBe(web.uri);
    expect(slots(ca, 'jwt')).toEqual(['active']);
    await ca.rotate();
    expect(slots(ca, 'jwt')).toEqual(['old', 'active']);

    const authorities = ca.authorities();
    const bundle = ca.bundle.value;
    await ca.close();
    const again = await open(one);
    expect(again.authorities()).toEqual(authorities);
    expect(again.bundle.value).toEqual(bundle);
    await expect(again.signX509(x509)).resolves.toMatchObject({ authorityId: active(ca, 'x509') });
  });

  it('in steps: what is prepared is trusted, and signs when it is activated', async () => {
    const ca = await open(world());
    await ca.prepare('x509');
    expect(slots(ca, 'x509')).toEqual(['active', 'prepared']);
    expect(ca.bundle.value.x509Authorities).toHaveLength(2);
    await expect(ca.prepare('x509')).rejects.toEqual(coded('AuthorityAlreadyPrepared'));
    await ca.activate('x509');
    expect(slots(ca, 'x509')).toEqual(['old', 'active']);
    await expect(ca.activate('x509')).rejects.toEqual(coded('AuthorityNotPrepared'));
  });

  it('does not activate what a watcher could not take', async () => {
    const one = world();
    const ca = await open(one);
    let faulty = true;
    const before = active(ca, 'x509');
    ca.bundle.watch(() => {
      if (faulty) throw new Error('no room');
    });
    await expect(ca.rotate('x509')).rejects.toMatchObject({
      code: 'PublishFailed',
      message: expect.stringContaining('no room'),
    });
    await expect(ca.activate('x509')).rejects.toEqual(coded('AuthorityNotPublished'));
    expect((await ca.signX509(x509)).authorityId).toBe(before);
    faulty = false;
    await ca.rotate('x509');
    expect(slots(ca, 'x509')).toEqual(['old', 'active']);
    expect((await ca.signX509(x509)).authorityId).toBe(active(ca, 'x509'));
  });

  it('many at once come one after the other', async () => {
    const ca = await open(world());
    await Promise.all([ca.rotate(), ca.rotate(), ca.rotate('jwt')]);
    expect(slots(ca, 'x509')).toEqual(['old', 'old', 'active']);
    expect(slots(ca, 'jwt')).toEqual(['old', 'old', 'old', 'active']);
  });

  it('destroys keys that sign no more', async () => {
    const one = world();
    const ca = await open(one);
    const before = await one.keys.list();
    await ca.rotate();
    const after = await one.keys.list();
    expect(after).toHaveLength(2);
    expect(after.filter((id) => before.includes(id))).toEqual([]);
  });
});

describe('taint and revoke', () => {
  it('tell agents what to replace, then take away its trust', async () => {
    const one = world();
    const ca = await open(one);
    const { chain, authorityId } = await ca.signX509(x509);
    const { token, keyId } = await ca.signJwt(jwt);
    await expect(ca.taint('x509', authorityId)).rejects.toMatchObject({
      code: 'AuthorityInUse',
      message: expect.stringContaining('rotate first'),
    });
    await ca.rotate();
    await expect(ca.revoke('x509', authorityId)).rejects.toEqual(coded('AuthorityNotTainted'));
    const told: unknown[] = [];
    ca.taints.watch((taints) => told.push(taints));
    await expect(ca.taint('x509', authorityId)).resolves.toMatchObject({ tainted: true, revoked: false });
    await ca.taint('jwt', keyId);
    await ca.taint('jwt', keyId);
    expect(told).toEqual([
      { x509: [authorityId], jwt: [] },
      { x509: [authorityId], jwt: [keyId] },
    ]);
    expect(verify(chain, ca.bundle.value, one.clock.now())).toBe(web.uri);

    const sequence = ca.bundle.value.sequence;
    await expect(ca.revoke('x509', authorityId)).resolves.toMatchObject({ revoked: true });
    await ca.revoke('jwt', keyId);
    expect(ca.bundle.value.sequence).toBe(sequence + 2);
    expect(() => verify(chain, ca.bundle.value, one.clock.now())).toThrow();
    const options = { token, audience: 'db', bundles: () => ca.bundle.value, now: one.clock.now() };
    await expect(verifyJwtSvid(options)).rejects.toThrow();
    // Agents that were away still learn of it, after a restart too.
    await ca.close();
    const again = await open(one);
    expect(again.taints.value).toEqual({ x509: [authorityId], jwt: [keyId] });
    expect(again.bundle.value.x509Authorities).toHaveLength(1);
  });
});

describe('when the clock jumps', () => {
  it('far ahead: signing is refused with the reason until a new authority is published, then goes on', async () => {
    const one = world();
    const ca = await open(one);
    await running(one, ca, async () => {
      one.clock.jump(400 * DAY);
      await expect(ca.signX509(x509)).rejects.toMatchObject({
        code: 'AuthorityUnavailable',
        message: expect.stringMatching(/valid from 2025.*clock says 2027.*check the clock/),
      });
      await expect(ca.signJwt(jwt)).rejects.toEqual(coded('AuthorityUnavailable'));
      await one.clock.advance(1);
      const signed = await ca.signX509(x509);
      expect(verify(signed.chain, ca.bundle.value, one.clock.now())).toBe(web.uri);
    });
  });

  it('is noticed within 30 seconds even if nobody asks', async () => {
    const one = world();
    const ca = await open(one);
    const first = active(ca, 'jwt');
    await running(one, ca, async () => {
      one.clock.jump(3 * DAY);
      await one.clock.advance(30_000);
      expect(active(ca, 'jwt')).not.toBe(first);
    });
  });

  it('far back: nothing that is not yet valid signs; a new authority does', async () => {
    const one = world();
    const ca = await open(one);
    const first = active(ca, 'x509');
    await ca.prepare('x509');
    one.clock.jump(-30 * DAY);
    await expect(ca.activate('x509')).rejects.toEqual(coded('AuthorityNotYetValid'));
    await expect(ca.signX509(x509)).rejects.toEqual(coded('AuthorityUnavailable'));
    await running(one, ca, async () => {
      await one.clock.advance(1);
      const signed = await ca.signX509(x509);
      expect(signed.authorityId).not.toBe(first);
      expect(verify(signed.chain, ca.bundle.value, one.clock.now())).toBe(web.uri);
    });
    expect(one.log.lines).toContain(
      'warn a prepared authority is not valid by the clock as it stands now; it is dropped',
    );
  });

  it('ahead for a moment and back: what was signed before is still trusted', async () => {
    const one = world();
    const ca = await open(one);
    const signed = await ca.signX509(x509);
    await running(one, ca, async () => {
      one.clock.jump(26 * HOUR);
      await one.clock.advance(30_000);
      expect(slots(ca, 'x509')).toEqual(['old', 'active']);
      one.clock.jump(-26 * HOUR);
      await one.clock.advance(60_000);
      expect(verify(signed.chain, ca.bundle.value, one.clock.now())).toBe(web.uri);
      await expect(ca.signX509(x509)).resolves.toBeDefined();
    });
  });

  it('ahead does not shorten the time that consumers get', async () => {
    const one = world();
    const ca = await open(one, { authorityTtlSeconds: 7200, publishDelaySeconds: 600 });
    const first = active(ca, 'x509');
    await running(one, ca, async () => {
      await one.clock.advance(HOUR);
      expect(slots(ca, 'x509')).toEqual(['active', 'prepared']);
      one.clock.jump(50 * 60_000);
      await one.clock.advance(60_000);
      expect(active(ca, 'x509')).toBe(first);
      await one.clock.advance(540_000);
      expect(active(ca, 'x509')).not.toBe(first);
    });
  });
});

describe('what was left by an earlier run', () => {
  it('of another trust domain is refused', async () => {
    const one = world();
    await (await open(one)).close();
    const options = { ...one, logger: one.log, random: systemRandom, config: {} };
    await expect(openCertificateAuthority({ ...options, trustDomain: 'other.org' })).rejects.toMatchObject({
      code: 'JournalForeign',
      message: expect.stringContaining('"example.org", not "other.org"'),
    });
  });

  it('without its journal never becomes a new CA by silence', async () => {
    const one = world();
    await (await open(one)).close();
    const keys = await one.keys.list();
    await expect(open({ ...one, journal: memoryJournal() })).rejects.toEqual(coded('JournalMissing'));
    await expect(one.keys.list()).resolves.toEqual(keys);
  });

  it('without the key of the active authority is an error, and no other key is made', async () => {
    const one = world();
    await (await open(one)).close();
    for (const id of await one.keys.list()) if (id.startsWith('x509')) await one.keys.remove(id);
    await expect(open(one)).rejects.toMatchObject({
      code: 'AuthorityKeyMismatch',
      message: expect.stringMatching(/key x509-[0-9a-f]+\) is gone; restore it/),
    });
    await expect(one.keys.list()).resolves.toHaveLength(1);
  });

  it('with another key under the name of the active one is an error', async () => {
    const one = world();
    await (await open(one)).close();
    for (const id of await one.keys.list()) {
      await one.keys.remove(id);
      await one.keys.generate(id, 'ec-p256');
    }
    await expect(open(one)).rejects.toMatchObject({
      code: 'AuthorityKeyMismatch',
      message: expect.stringContaining('is not the key of'),
    });
  });

  it('with a prepared authority whose key is gone prepares another', async () => {
    const one = world();
    const ca = await open(one);
    const before = await one.keys.list();
    await ca.prepare('x509');
    const prepared = (await one.keys.list()).find((id) => !before.includes(id)) ?? '';
    await ca.close();
    await one.keys.remove(prepared);
    const again = await open(one);
    expect(slots(again, 'x509')).toEqual(['active']);
    expect(one.log.lines).toEqual(['warn the key of a prepared authority is gone; another is prepared']);
  });

  it('loses keys that nothing refers to', async () => {
    const one = world();
    await (await open(one)).close();
    await one.keys.generate('x509-stray', 'ec-p256');
    await open(one);
    await expect(one.keys.list()).resolves.not.toContain('x509-stray');
  });
});

it('signs nothing once closed', async () => {
  const ca = await open(world());
  await ca.close();
  await expect(ca.signX509(x509)).rejects.toEqual(coded('CaClosed'));
  await expect(ca.signJwt(jwt)).rejects.toEqual(coded('CaClosed'));
  await expect(ca.rotate()).rejects.toEqual(coded('CaClosed'));
  await ca.run(new AbortController().signal);
});

it('ends its loop when it is closed', async () => {
  const one = world();
  const ca = await open(one);
  const loop = ca.run(new AbortController().signal);
  await one.clock.armed();
  await ca.close();
  await loop;
  expect(one.clock.timers).toBe(0);
});

it.each<[string, CaConfig]>([
  ['authorityTtlSeconds', { authorityTtlSeconds: 1 }],
  ['publishDelaySeconds', { publishDelaySeconds: -1 }],
  ['jwtKeyType', { jwtKeyType: 'ed25519' as never }],
  ['jwtIssuer', { jwtIssuer: '' }],
])('refuses a wrong %s by name', async (field, config) => {
  await expect(open(world(), config)).rejects.toMatchObject({
    code: 'CaConfigInvalid',
    message: expect.stringContaining(field),
  });
});

it('takes another configuration while it runs: the issuer at once, what authorities are like with the next of them', async () => {
  const one = world();
  const ca = await open(one);
  const before = [active(ca, 'x509'), active(ca, 'jwt')];
  const config: CaConfig = {
    ...{ x509KeyType: 'ec-p384', jwtKeyType: 'rsa-2048', authorityTtlSeconds: 7200 },
    jwtIssuer: 'https://issuer.example',
  };
  ca.configure(config);
  expect(decodeJwt((await ca.signJwt(jwt)).token).iss).toBe('https://issuer.example');
  expect([active(ca, 'x509'), active(ca, 'jwt')]).toEqual(before);
  expect(() => ca.configure({ ...config, authorityTtlSeconds: 1 })).toThrow(coded('CaConfigInvalid'));
  await ca.rotate();
  const now = one.clock.now();
  const signing = ca.authorities().filter(({ slot }) => slot === 'active');
  expect(signing.map(({ kind, keyType }) => `${kind} ${keyType}`).sort()).toEqual([
    'jwt rsa-2048',
    'x509 ec-p384',
  ]);
  for (const { notAfter } of signing) expect(Math.abs(notAfter - now - 2 * HOUR)).toBeLessThan(MINUTE);
  ca.configure({});
  expect(decodeJwt((await ca.signJwt(jwt)).token).iss).toBeUndefined();
});

it('writes the JWT header once and with nothing else in it', async () => {
  const ca = await open(world());
  const { token, keyId } = await ca.signJwt(jwt);
  expect(decodeProtectedHeader(token)).toEqual({ alg: 'ES256', kid: keyId, typ: 'JWT' });
  expect(keyId).toMatch(/^[A-Za-z0-9_-]{43}$/);
});

it('logs no key and no token', async () => {
  const one = world();
  const ca = await open(one);
  const { token } = await ca.signJwt(jwt);
  await ca.rotate();
  const text = one.log.all.join('\n');
  expect(text).toContain('authority activated');
  expect(text).not.toContain(token.slice(0, 40));
  expect(text).not.toMatch(/PRIVATE KEY|"d":/);
});
