import { afterEach, describe, expect, it } from '@jest/globals';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { FakeClock, settle } from '../../test/support/fake-clock.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import { openCertificateAuthority, type CertificateAuthority } from '../identity/ca/certificate-authority.js';
import { memoryJournal } from '../identity/ca/journal.js';
import { memoryKeyStore } from '../identity/keys/key-store.js';
import { SignetError } from '../lib/errors.js';
import { systemRandom } from '../lib/random.js';
import { openOwnIdentity, type OwnIdentity, type OwnIdentityOptions } from './own-identity.js';

const MINUTE = 60_000;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface World {
  readonly clock: FakeClock;
  readonly ca: CertificateAuthority;
  readonly log: ReturnType<typeof recordingLogger>;
  open(options?: Partial<OwnIdentityOptions>): Promise<OwnIdentity>;
}

async function world(): Promise<World> {
  const clock = new FakeClock();
  const log = recordingLogger();
  const shared = { clock, random: systemRandom, logger: log };
  const ca = await openCertificateAuthority({
    ...{ trustDomain: 'example.org', keys: memoryKeyStore(), journal: memoryJournal(), config: {} },
    ...shared,
  });
  closers.push(() => ca.close());
  return {
    clock,
    ca,
    log,
    async open(options = {}) {
      const identity = await openOwnIdentity({
        ...{ ca, path: '/signet/agent', keyType: 'ec-p256', ttlSeconds: () => 600 },
        bundleOf: (name) => (name === 'example.org' ? ca.bundle.value : undefined),
        onTrustChange: (listener) => ca.bundle.watch(listener),
        ...shared,
        ...options,
      });
      closers.push(() => identity.close());
      return identity;
    },
  };
}

const leafOf = (identity: OwnIdentity): X509Certificate =>
  new X509Certificate(identity.svid.value?.cert ?? '');
const shown = (identity: OwnIdentity): readonly Uint8Array[] => [leafOf(identity).raw];

describe('Signet’s own identity', () => {
  it('is signed by the CA under a reserved path, with the key that goes with it', async () => {
    const { open } = await world();
    const identity = await open();
    expect(identity.spiffeId.uri).toBe('spiffe://example.org/signet/agent');
    const leaf = leafOf(identity);
    expect(leaf.subjectAltName).toBe('URI:spiffe://example.org/signet/agent');
    const key = identity.svid.value?.key ?? '';
    expect(leaf.checkPrivateKey(createPrivateKey(key))).toBe(true);
    const { notAfter } = identity.svid.value ?? {};
    expect(identity.verifyPeer(shown(identity))).toMatchObject({
      spiffeId: { uri: identity.spiffeId.uri },
      notAfter,
    });
  });

  it('is renewed around half of its life, with a new key each time', async () => {
    const { clock, open } = await world();
    const identity = await open();
    const first = identity.svid.value;
    await clock.advance(4 * MINUTE);
    expect(identity.svid.value).toBe(first);
    await clock.advance(2 * MINUTE);
    await settle();
    expect(identity.svid.value?.notAfter).toBeGreaterThan(first?.notAfter ?? Infinity);
    expect(identity.svid.value?.key).not.toBe(first?.key);
  });

  it('is renewed at once when its authority is tainted', async () => {
    const { clock, ca, open } = await world();
    const identity = await open();
    const before = leafOf(identity).serialNumber;
    const authority = ca.authorities().find(({ kind }) => kind === 'x509')?.id ?? '';
    await ca.rotate('x509');
    expect(leafOf(identity).serialNumber).toBe(before);
    await ca.taint('x509', authority);
    await clock.advance(0);
    await settle();
    expect(leafOf(identity).serialNumber).not.toBe(before);
    // By the new authority, so that the old one can go.
    await ca.revoke('x509', authority);
    expect(() => identity.verifyPeer(shown(identity))).not.toThrow();
  });

  it('is kept while the CA fails, asked for again with back-off, and shown no more once it is over', async () => {
    const { clock, ca, log, open } = await world();
    let broken = false;
    let asked = 0;
    const identity = await open({
      ca: {
        ...ca,
        signX509: (request) => {
          asked++;
          return broken ? Promise.reject(new SignetError('CaClosed', 'not now')) : ca.signX509(request);
        },
      },
    });
    broken = true;
    await clock.advance(9 * MINUTE);
    expect(identity.svid.value).toBeDefined();
    expect(asked).toBeGreaterThan(3);
    expect(asked).toBeLessThan(20);
    expect(log.all.join('\n')).toContain('could not be renewed');
    await clock.advance(2 * MINUTE);
    expect(identity.svid.value).toBeUndefined();
    broken = false;
    await clock.advance(2 * MINUTE);
    expect(identity.svid.value?.notAfter).toBeGreaterThan(clock.now());
  });

  it('is not renewed any more once it is closed', async () => {
    const { clock, open } = await world();
    const identity = await open();
    const first = identity.svid.value;
    identity.close();
    await clock.advance(8 * MINUTE);
    expect(identity.svid.value).toBe(first);
    expect(clock.timers).toBe(0);
  });
});
