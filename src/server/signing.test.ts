import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../test/support/fake-clock.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import type { CertificateAuthority } from '../identity/ca/certificate-authority.js';
import { openCertificateAuthority } from '../identity/ca/certificate-authority.js';
import { memoryJournal } from '../identity/ca/journal.js';
import { memoryKeyStore } from '../identity/keys/key-store.js';
import { parseCertificate } from '../identity/pki/certificate.js';
import { createCsr } from '../identity/pki/csr.js';
import { exportSpki, generateKeyPair } from '../identity/pki/keys.js';
import { verifyX509Svid } from '../identity/pki/svid.js';
import type { Registration } from '../identity/registration/registration.js';
import { parseSpiffeId } from '../identity/spiffe/id.js';
import { parseJwtSvidUnverified } from '../identity/spiffe/jwt-svid.js';
import { systemRandom } from '../lib/random.js';
import type { SignRefusal } from '../rpc/node-api.js';
import { MAX_SIGN_BATCH } from '../rpc/node-api.js';
import type { SigningAuthority } from './signing.js';
import { createSigningService } from './signing.js';

const pair = await generateKeyPair('ec-p256');
const csr = createCsr(pair);

function registration(id: string, change: Partial<Registration> = {}): Registration {
  return {
    id,
    subject: { kind: 'pod', namespace: 'shop', name: 'web-1', uid: id },
    nodeName: 'node-1',
    spiffeId: parseSpiffeId(`spiffe://example.org/ns/shop/sa/${id}`),
    x509TtlSeconds: 600,
    jwtTtlSeconds: 60,
    dnsNames: ['web.shop.svc'],
    hint: '',
    federatesWith: [],
    audiences: [],
    identity: { kind: 'WorkloadIdentity', namespace: 'shop', name: 'web' },
    revision: '1',
    ...change,
  };
}

async function setup(over: Partial<SigningAuthority> = {}) {
  const clock = new FakeClock();
  const log = recordingLogger();
  const ca: CertificateAuthority = await openCertificateAuthority({
    trustDomain: 'example.org',
    keys: memoryKeyStore(),
    journal: memoryJournal(),
    clock,
    random: systemRandom,
    logger: log,
    config: {},
  });
  const known = new Map<string, Registration>([['web', registration('web')]]);
  const authority: SigningAuthority = { signX509: ca.signX509, signJwt: ca.signJwt, ...over };
  const signing = createSigningService({ ca: authority, registrations: known, logger: log });
  return { clock, log, ca, known, signing };
}
const refused = (code: string, retryable: boolean, message: RegExp): SignRefusal => ({
  ok: false,
  code,
  retryable,
  message: expect.stringMatching(message) as unknown as string,
});

describe('signing X.509-SVIDs', () => {
  it('takes the key from the CSR, and everything else from the registration', async () => {
    const { signing, ca, clock } = await setup();
    const greedy = createCsr(pair, {
      uris: ['spiffe://example.org/ns/shop/sa/admin'],
      dnsNames: ['admin.shop.svc'],
    });
    const [result] = await signing.signX509([{ registrationId: 'web', csr: greedy }]);
    if (result?.ok !== true) throw new Error('refused');
    const { leaf, id } = verifyX509Svid({
      chain: result.chain,
      bundles: () => ca.bundle.value,
      now: clock.now(),
    });
    expect(id.path).toBe('/ns/shop/sa/web');
    expect(leaf.dnsNames).toEqual(['web.shop.svc']);
    expect(leaf.notAfter).toBe(clock.now() + 600_000);
    expect(Buffer.from(leaf.spki)).toEqual(Buffer.from(exportSpki(pair.publicKey)));
    expect(result.serial).toBe(leaf.serial);
  });

  it('answers one by one, in order', async () => {
    const { signing, known, log } = await setup();
    known.set('api', registration('api'));
    known.set('odd', registration('odd', { dnsNames: ['spiffe://example.org/x'] }));
    const results = await signing.signX509([
      { registrationId: 'api', csr },
      { registrationId: 'gone', csr },
      { registrationId: 'web', csr: csr.subarray(0, 50) },
      { registrationId: 'odd', csr },
      { registrationId: 'web', csr },
    ]);
    const names = results.map((result) =>
      result.ok
        ? parseCertificate(result.chain[0] ?? csr)
            .uris[0]?.split('/')
            .at(-1)
        : result,
    );
    expect(names).toEqual([
      'api',
      refused('RegistrationNotFound', false, /registration "gone" does not exist/),
      refused('DerInvalid', false, /CSR/),
      refused('NameInvalid', false, /DNS name/i),
      'web',
    ]);
    expect(log.lines).toHaveLength(3);
  });

  it('refuses a CSR whose sender does not hold the key', async () => {
    const { signing } = await setup();
    const other = await generateKeyPair('ec-p256');
    const forged = Buffer.from(csr);
    const at = forged.indexOf(exportSpki(pair.publicKey));
    forged.set(exportSpki(other.publicKey), at);
    const [result] = await signing.signX509([{ registrationId: 'web', csr: forged }]);
    expect(result).toEqual(refused('SignatureInvalid', false, /not signed by the key it holds/));
  });

  it('looks a registration up at the moment of signing, for each request', async () => {
    const { signing, known } = await setup();
    const requests = Array.from({ length: 100 }, () => ({ registrationId: 'web', csr }));
    const batch = signing.signX509(requests);
    setImmediate(() => known.delete('web'));
    const results = await batch;
    expect(results[0]?.ok).toBe(true);
    expect(results.at(-1)).toMatchObject({ ok: false, code: 'RegistrationNotFound' });
    const turn = results.findIndex(({ ok }) => !ok);
    expect(results.slice(turn).every(({ ok }) => !ok)).toBe(true);
  });

  it('does not echo an endless id', async () => {
    const { signing } = await setup();
    const [result] = await signing.signX509([{ registrationId: 'x'.repeat(100_000), csr }]);
    expect(result?.ok === false && result.message.length).toBeLessThan(500);
  });

  it('says that it is worth asking again when no authority may sign', async () => {
    const { signing, clock } = await setup();
    clock.jump(3 * 86_400_000);
    const [result] = await signing.signX509([{ registrationId: 'web', csr }]);
    expect(result).toEqual(refused('AuthorityUnavailable', true, /no authority may sign now/));
  });

  it('keeps its own faults to the log', async () => {
    const { signing, log } = await setup({
      signX509: () => Promise.reject(new Error('secret of /var/state')),
    });
    const [result] = await signing.signX509([{ registrationId: 'web', csr }]);
    expect(result).toEqual(refused('Internal', true, /its log says why/));
    expect(JSON.stringify(result)).not.toContain('secret of');
    expect(log.lines).toEqual(['error signing failed']);
    expect(log.all.join()).toContain('secret of /var/state');
  });

  it('logs which registration was refused, and in which call', async () => {
    const { signing, log } = await setup();
    await signing.signX509([{ registrationId: 'gone', csr }], undefined, 'r-1');
    await signing.signJwt([{ registrationId: 'y'.repeat(2_000), audience: ['a'] }], undefined, 'r-2');
    const lines = log.all.filter((line) => line.startsWith('warn signing refused'));
    expect(lines).toEqual([
      expect.stringMatching(/"registration":"gone","code":"RegistrationNotFound".*"requestId":"r-1"/),
      expect.stringMatching(/"registration":"y{200}","code":.*"requestId":"r-2"/),
    ]);
  });
});

describe('a batch', () => {
  it('has a bound', async () => {
    const { signing } = await setup();
    const requests = Array.from({ length: MAX_SIGN_BATCH + 1 }, () => ({ registrationId: 'web', csr }));
    await expect(signing.signX509(requests)).rejects.toMatchObject({
      status: 'InvalidArgument',
      code: 'BatchTooLarge',
      message: expect.stringContaining('501 requests; 500 are allowed'),
    });
    await expect(signing.signX509([])).resolves.toEqual([]);
    await expect(signing.signX509(requests.slice(1))).resolves.toHaveLength(MAX_SIGN_BATCH);
  });

  it('stops when nobody waits for it any more', async () => {
    let signed = 0;
    const { signing, ca } = await setup({
      signX509: (request) => {
        signed++;
        return ca.signX509(request);
      },
    });
    const stop = new AbortController();
    const requests = Array.from({ length: 400 }, () => ({ registrationId: 'web', csr }));
    const batch = signing.signX509(requests, stop.signal);
    setImmediate(() => stop.abort(new Error('gone')));
    await expect(batch).rejects.toThrow('gone');
    expect(signed).toBeLessThan(200);
  });
});

describe('signing JWT-SVIDs', () => {
  it('signs for the audiences asked for, and for as long as the registration says', async () => {
    const { signing, clock } = await setup();
    const [result] = await signing.signJwt([{ registrationId: 'web', audience: ['db', 'cache'] }]);
    if (result?.ok !== true) throw new Error('refused');
    const svid = parseJwtSvidUnverified(result.token);
    expect(svid.id.path).toBe('/ns/shop/sa/web');
    expect(svid.audience).toEqual(['db', 'cache']);
    expect(svid.expiresAt).toBe(clock.now() + 60_000);
  });

  it('refuses audiences that the identity does not allow, and says where to allow them', async () => {
    const { signing, known } = await setup();
    known.set('web', registration('web', { audiences: ['db', 'cache'] }));
    const results = await signing.signJwt([
      { registrationId: 'web', audience: ['cache'] },
      { registrationId: 'web', audience: ['db', 'bank'] },
      { registrationId: 'web', audience: [] },
      { registrationId: 'gone', audience: ['db'] },
    ]);
    expect(results).toEqual([
      expect.objectContaining({ ok: true }),
      refused('AudienceNotAllowed', false, /"bank" is not among .*WorkloadIdentity web .*spec\.audiences/),
      refused('SignRequestInvalid', false, /no audience/),
      refused('RegistrationNotFound', false, /gone/),
    ]);
  });

  it('logs no token', async () => {
    const { signing, log } = await setup();
    const [result] = await signing.signJwt([{ registrationId: 'web', audience: ['db'] }]);
    expect(result?.ok === true && log.all.join().includes(result.token.slice(0, 30))).toBe(false);
    expect(log.all.join()).toContain('JWT-SVID signed');
  });
});
