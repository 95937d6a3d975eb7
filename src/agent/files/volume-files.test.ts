import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { decodeJwt } from 'jose';
import { until } from '../../../test/support/fake-call.js';
import { FakeClock, settle } from '../../../test/support/fake-clock.js';
import { FakeNodeApi, podRegistration } from '../../../test/support/fake-node-api.js';
import { type RecordingLogger, recordingLogger } from '../../../test/support/recording-logger.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import { decodePem } from '../../identity/pki/pem.js';
import { parseBundleDocument } from '../../identity/spiffe/bundle-document.js';
import { type Agent, createAgent } from '../agent.js';
import { parseVolumeSettings } from '../csi/settings.js';
import { createOpenFiles } from './open-files.js';
import type { FilesRequest, VolumeFiles } from './volume-files.js';

const HOUR = 3_600_000;

let clock: FakeClock;
let api: FakeNodeApi;
let agent: Agent;
let logger: RecordingLogger;
let stop: AbortController;
let running: Promise<void>;
let directory: string;
const opened: VolumeFiles[] = [];

beforeEach(async () => {
  clock = new FakeClock();
  api = await FakeNodeApi.create(clock);
  logger = recordingLogger();
  stop = new AbortController();
  directory = mkdtempSync(join(tmpdir(), 'signet-files-'));
  startAgent();
});

afterEach(async () => {
  for (const files of opened.splice(0)) await files.close();
  stop.abort();
  await running;
  rmSync(directory, { recursive: true, force: true });
});

function startAgent(): void {
  agent = createAgent({ api, nodeName: 'node-1', clock, random: seededRandom(), logger });
  running = agent.run(stop.signal);
}

function open(attributes: Record<string, string>, request: Partial<FilesRequest> = {}): VolumeFiles {
  const openFiles = createOpenFiles({ parts: agent.parts, random: seededRandom(3) });
  const files = openFiles({
    podUid: 'order',
    settings: parseVolumeSettings(attributes),
    directory,
    signal: new AbortController().signal,
    ...request,
  });
  opened.push(files);
  return files;
}

const read = (path: string): string => readFileSync(join(directory, path), 'utf8');
const here = (path: string): boolean => existsSync(join(directory, path));
const certificate = (path = 'tls.crt'): X509Certificate => new X509Certificate(read(path));
const names = (): string[] => readdirSync(directory).sort();
const visible = (): string[] => names().filter((name) => !name.startsWith('..'));

function expectPair(certificatePath = 'tls.crt', keyPath = 'tls.key'): void {
  expect(certificate(certificatePath).checkPrivateKey(createPrivateKey(read(keyPath)))).toBe(true);
}

async function pass(ms: number): Promise<void> {
  await settle();
  await clock.advance(ms);
}

/** Waits for another certificate than this one. */
async function replaced(serial: string): Promise<void> {
  await until(() => here('tls.crt') && certificate().serialNumber !== serial);
}

describe('the first set', () => {
  it('is there as soon as the SVID is signed: chain, key, authorities and bundle, of one pair', async () => {
    const files = open({ files: 'pem' });
    await settle();
    expect(visible()).toEqual([]);
    api.upsert(podRegistration('order'));
    await files.written;
    expect(visible()).toEqual(['bundle.json', 'ca.crt', 'tls.crt', 'tls.key']);
    expect(certificate().subjectAltName).toBe('URI:spiffe://example.org/ns/shop/sa/order');
    expectPair();
    expect(certificate().verify(new X509Certificate(read('ca.crt')).publicKey)).toBe(true);
    const bundle = parseBundleDocument('example.org', read('bundle.json'));
    expect(bundle.x509Authorities).toHaveLength(1);
    expect(bundle.jwtAuthorities.map(({ keyId }) => keyId)).toEqual(['jwt-1']);
    expect(files.state.value).toEqual({ kind: 'current' });
  });

  it('has the names, modes and forms that are asked for', async () => {
    api.upsert(podRegistration('order'));
    const files = open({
      files: 'pem,combined,pkcs12,jks',
      certificateName: 'client.crt',
      keyName: 'client.key',
      mode: '0644',
      keyMode: '0400',
    });
    await files.written;
    expect(visible()).toEqual(
      [
        'bundle.json',
        'ca.crt',
        'client.crt',
        'client.key',
        'keystore.jks',
        'keystore.p12',
        'tls.pem',
        'truststore.jks',
        'truststore.p12',
      ].sort(),
    );
    const mode = (name: string): string => (statSync(join(directory, name)).mode & 0o777).toString(8);
    for (const secret of ['client.key', 'tls.pem', 'keystore.p12', 'keystore.jks'])
      expect(mode(secret)).toBe('400');
    for (const open of ['client.crt', 'ca.crt', 'bundle.json', 'truststore.p12', 'truststore.jks'])
      expect(mode(open)).toBe('644');
    expectPair('tls.pem', 'tls.pem');
    expect(read('tls.pem')).toBe(read('client.key') + read('client.crt'));
  });

  it('is of the group that is given, and closed to others then', async () => {
    const group = process.getuid?.() === 0 ? 4242 : (process.getgid?.() ?? 0);
    api.upsert(podRegistration('order'));
    await open({ files: 'pem' }, { group }).written;
    const { mode, gid } = statSync(join(directory, 'tls.key'));
    expect([gid, mode & 0o777]).toEqual([group, 0o440]);
    expect(statSync(join(directory, '..data')).mode & 0o777).toBe(0o755);
  });

  it('says as the Workload API does why a pod has no identity', async () => {
    await until(() => agent.ready.value);
    api.explanation = 'no identity selects it';
    const files = open({ files: 'pem' });
    await pass(5_100);
    await expect(files.written).rejects.toMatchObject({
      code: 'NoIdentity',
      message: 'no identity is issued to the pod with UID order: no identity selects it',
    });
    // It comes later: the files do, too.
    api.upsert(podRegistration('order'));
    await until(() => here('tls.crt'));
    expectPair();
  });

  it('waits while the SVID cannot be signed, until whoever waits gives up, and says what it waited for', async () => {
    api.upsert(podRegistration('order'));
    api.refusals.set('order/id', { ok: false, code: 'Busy', message: 'the CA is away', retryable: true });
    const waiting = new AbortController();
    const files = open({ files: 'pem' }, { signal: waiting.signal });
    await pass(20_000);
    expect(files.state.value.kind).toBe('waiting');
    waiting.abort();
    await expect(files.written).rejects.toMatchObject({
      code: 'Busy',
      message: 'no SVID is signed for spiffe://example.org/ns/shop/sa/order: the CA is away',
    });
    api.refusals.clear();
    await pass(60_000);
    await until(() => here('tls.crt'));
  });

  it('ends the wait at once when signing is refused for good', async () => {
    api.upsert(podRegistration('order'));
    api.refusals.set('order/id', { ok: false, code: 'Revoked', message: 'it is revoked', retryable: false });
    await expect(open({ files: 'pem' }).written).rejects.toMatchObject({ code: 'Revoked' });
  });

  it('does not wait longer than it may for a server that is not there', async () => {
    stop.abort();
    await running;
    stop = new AbortController();
    api.unreachable = new Error('no route');
    startAgent();
    const waiting = new AbortController();
    const files = open({ files: 'pem' }, { signal: waiting.signal });
    await pass(20_000);
    waiting.abort();
    await expect(files.written).rejects.toMatchObject({ code: 'NotSynced' });
  });

  it('leaves what else is in the directory alone, and refuses to replace it', async () => {
    writeFileSync(join(directory, 'api.sock'), 'socket');
    api.upsert(podRegistration('order'));
    const files = open({ files: 'pem' });
    await files.written;
    expect(read('api.sock')).toBe('socket');
    await files.close();
    writeFileSync(join(directory, 'own.crt'), 'not ours');
    const other = open({ files: 'pem', certificateName: 'own.crt' });
    await until(() => other.state.value.kind === 'failing');
    expect(other.state.value).toMatchObject({
      reason: 'own.crt is there already and is not a file of the volume',
    });
    expect(read('own.crt')).toBe('not ours');
    expectPair();
  });
});

describe('following', () => {
  beforeEach(() => api.upsert(podRegistration('order')));

  it('replaces certificate and key together when the SVID is renewed, and leaves the rest as it is', async () => {
    await open({ files: 'pem' }).written;
    const { serialNumber } = certificate();
    const authorities = statSync(join(directory, 'ca.crt')).ino;
    await pass(0.44 * HOUR);
    for (let second = 0; second < 600 && certificate().serialNumber === serialNumber; second++)
      await pass(1_000);
    await replaced(serialNumber);
    expectPair();
    expect(statSync(join(directory, 'ca.crt')).ino).toBe(authorities);
    // The set before goes a little later: whoever reads it is not cut off.
    expect(names().filter((name) => name.startsWith('..2'))).toHaveLength(2);
    await pass(10_100);
    expect(names().filter((name) => name.startsWith('..'))).toHaveLength(2);
  });

  it('writes nothing when nothing of the pod changed', async () => {
    await open({ files: 'pem,pkcs12' }).written;
    const before = names();
    api.upsert(podRegistration('other'));
    api.breakStreams();
    await pass(20_000);
    await until(() => agent.stats().connected && agent.stats().svids === 2);
    expect(names()).toEqual(before);
  });

  it('follows the bundle', async () => {
    await open({ files: 'pem,pkcs12' }).written;
    const truststore = createHash('sha256')
      .update(readFileSync(join(directory, 'truststore.p12')))
      .digest('hex');
    await api.rotate();
    await until(() => decodePem(read('ca.crt'), 'CERTIFICATE').length === 2);
    expect(
      createHash('sha256')
        .update(readFileSync(join(directory, 'truststore.p12')))
        .digest('hex'),
    ).not.toBe(truststore);
    expect(parseBundleDocument('example.org', read('bundle.json')).x509Authorities).toHaveLength(2);
  });

  it('has an SVID of another authority when its own is tainted', async () => {
    await open({ files: 'pem' }).written;
    const { serialNumber } = certificate();
    const tainted = api.authorityId;
    await api.rotate();
    api.taint(tainted);
    await replaced(serialNumber);
    expectPair();
  });

  it('has federated bundles beside the own one, and never in ca.crt', async () => {
    const foreign = await FakeNodeApi.create(clock, 'partner.example');
    api.federated = [foreign.bundle(), (await FakeNodeApi.create(clock, 'stranger.example')).bundle()];
    api.pushBundles();
    api.upsert(podRegistration('order', { federatesWith: ['partner.example'], revision: '2' }));
    await open({ files: 'pem' }).written;
    await until(() => here('bundles/partner.example.json'));
    expect(readdirSync(join(directory, 'bundles'))).toEqual(['partner.example.json']);
    expect(
      parseBundleDocument('partner.example', read('bundles/partner.example.json')).x509Authorities,
    ).toHaveLength(1);
    expect(decodePem(read('ca.crt'), 'CERTIFICATE')).toHaveLength(1);
    api.upsert(podRegistration('order', { federatesWith: [], revision: '3' }));
    await until(() => !here('bundles'));
    expect(visible()).not.toContain('bundles');
  });

  it('removes everything at once when the registration goes, and says so', async () => {
    const files = open({ files: 'pem,combined', jwtAudiences: 'a' });
    await files.written;
    api.remove('order/id');
    await until(() => files.state.value.kind === 'withdrawn');
    expect(names()).toEqual([]);
    expect(logger.lines).toContain('warn files of a volume are removed');
    api.upsert(podRegistration('order', { revision: '2' }));
    await until(() => here('tls.crt'));
    expect(files.state.value.kind).toBe('current');
  });

  it('removes an SVID that is revoked before the next one is signed', async () => {
    const files = open({ files: 'pem' });
    await files.written;
    const { serialNumber } = certificate();
    let release: () => void = () => undefined;
    api.gate = () => new Promise((resolve) => (release = resolve));
    const revoked = serialNumber.toLowerCase();
    const update = api.bundleUpdate();
    api.bundleUpdate = () => ({ ...update, revokedSerials: [revoked] });
    api.pushBundles();
    await until(() => files.state.value.kind === 'withdrawn');
    expect(names()).toEqual([]);
    release();
    await until(() => here('tls.crt'));
    expect(certificate().serialNumber).not.toBe(serialNumber);
    expectPair();
  });

  it('removes what has expired, as no API would serve it any more', async () => {
    const files = open({ files: 'pem' });
    await files.written;
    api.unreachable = new Error('no route');
    await pass(HOUR - 2_000);
    expectPair();
    await pass(3_000);
    expect(here('tls.key')).toBe(false);
    expect(files.state.value.kind).toBe('withdrawn');
    api.unreachable = undefined;
    await pass(60_000);
    await until(() => here('tls.crt'));
    expectPair();
  });

  it('holds no timer, no view and no half of a set when it is closed; the files stay', async () => {
    const files = open({ files: 'pem', jwtAudiences: 'a' });
    await files.written;
    await settle();
    const idle = clock.timers;
    await files.close();
    expect(agent.parts.views.size).toBe(0);
    expect(clock.timers).toBeLessThan(idle);
    expectPair();
    expect(names().filter((name) => name.startsWith('..'))).toHaveLength(2);
  });
});

describe('after a restart', () => {
  async function restart(): Promise<void> {
    for (const files of opened.splice(0)) await files.close();
    stop.abort();
    await running;
    stop = new AbortController();
    startAgent();
  }

  it('keeps the files until it has others, however long the server is away, but no longer than they are good', async () => {
    api.upsert(podRegistration('order'));
    await open({ files: 'pem' }).written;
    const { serialNumber } = certificate();
    api.unreachable = new Error('no route');
    await restart();
    open({ files: 'pem' });
    await pass(HOUR / 2);
    expect(certificate().serialNumber).toBe(serialNumber);
    expectPair();
    await pass(HOUR / 2 + 1_000);
    expect(here('tls.key')).toBe(false);
    api.unreachable = undefined;
    await pass(60_000);
    await until(() => here('tls.key'));
    expectPair();
  });

  it('removes the files of an identity that went while nobody looked', async () => {
    api.upsert(podRegistration('order'));
    const before = open({ files: 'pem' });
    await before.written;
    await before.close();
    api.remove('order/id');
    await restart();
    const files = open({ files: 'pem' });
    await until(() => agent.ready.value);
    expect(here('tls.key')).toBe(true);
    await pass(5_100);
    await until(() => files.state.value.kind === 'withdrawn');
    expect(names()).toEqual([]);
  });

  it('removes the files of an identity that the server will not sign for any more', async () => {
    api.upsert(podRegistration('order'));
    await open({ files: 'pem' }).written;
    api.refusals.set('order/id', { ok: false, code: 'Revoked', message: 'it is revoked', retryable: false });
    await restart();
    const files = open({ files: 'pem' });
    await until(() => files.state.value.kind === 'withdrawn');
    expect(names()).toEqual([]);
  });
});

describe('tokens', () => {
  const token = (path: string): ReturnType<typeof decodeJwt> => decodeJwt(read(path));

  it('are there under encoded names, whatever the audience, and nothing is outside', async () => {
    api.upsert(podRegistration('order'));
    await open({ jwtAudiences: 'vault, https://api.example.org/x, ../../x, .data, a%2Fb, a/b' }).written;
    expect(visible()).toEqual(['jwt']);
    expect(readdirSync(join(directory, 'jwt')).sort()).toEqual(
      ['%2E.%2F..%2Fx', '%2Edata', 'a%252Fb', 'a%2Fb', 'https%3A%2F%2Fapi.example.org%2Fx', 'vault'].sort(),
    );
    expect(token('jwt/vault')).toMatchObject({
      sub: 'spiffe://example.org/ns/shop/sa/order',
      aud: ['vault'],
    });
    expect(token('jwt/a%252Fb').aud).toEqual(['a%2Fb']);
    expect(token('jwt/a%2Fb').aud).toEqual(['a/b']);
  });

  it('are renewed in time, by themselves, without touching the SVID', async () => {
    api.upsert(podRegistration('order'));
    await open({ files: 'pem', jwtAudiences: 'vault' }).written;
    const first = token('jwt/vault').exp ?? 0;
    const { ino } = statSync(join(directory, 'tls.crt'));
    for (let minute = 0; minute < 20; minute++) {
      await pass(60_000);
      const left = (token('jwt/vault').exp ?? 0) * 1000 - clock.now();
      expect(left).toBeGreaterThan(60_000);
    }
    expect(token('jwt/vault').exp).toBeGreaterThan(first);
    expect(statSync(join(directory, 'tls.crt')).ino).toBe(ino);
  });

  it('serve to their end when they cannot be renewed, then go, and come back', async () => {
    api.upsert(podRegistration('order'));
    await open({ files: 'pem', jwtAudiences: 'vault' }).written;
    api.unreachable = new Error('no route');
    await pass(299_000);
    expect(here('jwt/vault')).toBe(true);
    await pass(2_000);
    expect(here('jwt/vault')).toBe(false);
    expectPair();
    // Not asked for again and again.
    expect(api.jwtBatches.length).toBeLessThan(40);
    api.unreachable = undefined;
    await pass(120_000);
    await until(() => here('jwt/vault'));
  });

  it('serve no longer than they live by a clock that was set back', async () => {
    api.upsert(podRegistration('order'));
    await open({ files: 'pem', jwtAudiences: 'vault' }).written;
    api.unreachable = new Error('no route');
    clock.jump(-HOUR);
    await pass(299_000);
    expect(here('jwt/vault')).toBe(true);
    await pass(2_000);
    expect(here('jwt/vault')).toBe(false);
    expectPair();
  });

  it('come within a second of the clock being set that was ahead of them', async () => {
    api.upsert(podRegistration('order'));
    await open({ files: 'pem', jwtAudiences: 'vault' }).written;
    // As the server's clock is right.
    const expired = { ok: false, code: 'SvidExpired', message: 'expired already', retryable: true } as const;
    api.refusals.set('order/id', expired);
    clock.jump(30 * 60_000);
    await pass(10 * 60_000);
    expect(here('jwt/vault')).toBe(false);
    api.refusals.clear();
    clock.jump(-30 * 60_000);
    await pass(1_000);
    await until(() => here('jwt/vault'));
  });

  it('go when their key is tainted', async () => {
    api.upsert(podRegistration('order'));
    await open({ files: 'pem', jwtAudiences: 'vault' }).written;
    api.taintJwt('jwt-1');
    await until(() => !here('jwt/vault'));
    expectPair();
  });

  it('are refused by name when the identity may not have them', async () => {
    api.upsert(podRegistration('order', { audiences: ['vault'] }));
    await expect(open({ jwtAudiences: 'vault,bank' }).written).rejects.toMatchObject({
      code: 'AudienceNotAllowed',
      message: expect.stringMatching(/for audience "bank" is not signed: .* may have tokens for vault only/),
    });
  });

  it('follow what the identity may ask for', async () => {
    api.upsert(podRegistration('order'));
    await open({ jwtAudiences: 'vault,bank' }).written;
    api.upsert(podRegistration('order', { audiences: ['vault'], revision: '2' }));
    await until(() => !here('jwt/bank'));
    expect(here('jwt/vault')).toBe(true);
  });
});

describe('other identities of the pod', () => {
  const one = podRegistration('order');
  const admin = podRegistration('order', { path: '/ns/shop/sa/admin', hint: 'admin' });
  const odd = podRegistration('order', { path: '/ns/shop/sa/odd', hint: 'a/../b' });
  const withId = <T extends object>(registration: T, id: string): T => ({
    ...registration,
    id: `order/${id}`,
  });

  it('are the ones of the volume, or in directories, by hint', async () => {
    api.upsert(withId(one, '1'), withId(admin, '2'), withId(odd, '3'));
    await open({ files: 'pem', hint: 'admin', hints: '*', jwtAudiences: 'a' }).written;
    expect(visible()).toEqual(['a%2F..%2Fb', 'admin', 'bundle.json', 'ca.crt', 'jwt', 'tls.crt', 'tls.key']);
    expect(certificate().subjectAltName).toContain('/sa/admin');
    expect(certificate('admin/tls.crt').subjectAltName).toContain('/sa/admin');
    expect(certificate('a%2F..%2Fb/tls.crt').subjectAltName).toContain('/sa/odd');
    expectPair('a%2F..%2Fb/tls.crt', 'a%2F..%2Fb/tls.key');
    await until(() => here('a%2F..%2Fb/jwt/a'));
  });

  it('go one by one', async () => {
    api.upsert(withId(one, '1'), withId(admin, '2'), withId(odd, '3'));
    await open({ files: 'pem', hint: 'admin', hints: '*' }).written;
    api.remove('order/1');
    api.upsert(withId(podRegistration('order', { path: '/ns/shop/sa/third', hint: 'third' }), '4'));
    await until(() => here('third/tls.key'));
    api.remove('order/4');
    await until(() => !here('third'));
    expectPair();
    api.remove('order/2');
    await until(() => !here('admin') && !here('tls.key') && !here('ca.crt'));
    expectPair('a%2F..%2Fb/tls.crt', 'a%2F..%2Fb/tls.key');
  });

  it('are missed by hint, with what there is', async () => {
    api.upsert(withId(one, '1'), withId(admin, '2'));
    await until(() => agent.ready.value);
    const files = open({ files: 'pem', hints: 'admim' });
    await pass(5_100);
    await expect(files.written).rejects.toMatchObject({
      code: 'HintNotFound',
      message:
        'the volume asks for an identity with hint "admim", which the pod has not: it has admin; correct the volume\'s attributes, or set the hint of an identity',
    });
  });

  it('do not hide a file of the volume: one whose directory would is left out, and told', async () => {
    api.upsert(
      withId(one, '1'),
      withId({ ...admin, hint: 'tls.crt' }, '2'),
      withId({ ...admin, hint: 'bundles' }, '3'),
    );
    await open({ files: 'pem', hints: '*' }).written;
    expectPair();
    expect(logger.lines).toContain(
      'warn identities get no directory in a volume: its name is taken by another file',
    );
    expect(() => open({ files: 'pem', hints: 'bundles' })).toThrow('taken by another of its files');
    expect(() => open({ files: 'pem', keyName: 'bundles' })).toThrow('taken by another of its files');
  });

  it('never change over to a lesser one while the default is not signed', async () => {
    // By name, admin comes first.
    api.refusals.set('order/2', { ok: false, code: 'Busy', message: 'later', retryable: true });
    api.upsert(withId(one, '1'), withId(admin, '2'));
    open({ files: 'pem' });
    await pass(10_000);
    expect(here('tls.crt')).toBe(false);
    api.refusals.clear();
    await pass(60_000);
    await until(() => here('tls.crt'));
    expect(certificate().subjectAltName).toContain('/sa/admin');
  });
});
