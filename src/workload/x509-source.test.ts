import { afterEach, describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../test/support/fake-clock.js';
import { FakeWorkloadApi, x509Answer, type X509Answer } from '../../test/support/fake-workload-api.js';
import { TestAuthority } from '../../test/support/test-authority.js';
import { silentLogger, type Logger } from '../lib/logger.js';
import { StatusError } from '../rpc/service.js';
import { createX509Source, type X509Source, type X509SourceOptions } from './x509-source.js';

const ID = 'spiffe://example.org/ns/payments/sa/order-service';
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(answer: X509Answer): Promise<FakeWorkloadApi> {
  const api = await FakeWorkloadApi.start(answer);
  cleanups.push(() => api.stop());
  return api;
}

async function open(api: FakeWorkloadApi, options: X509SourceOptions = {}): Promise<X509Source> {
  const source = await createX509Source({ address: api.address, ...options });
  cleanups.push(() => source.close());
  return source;
}

const updated = (source: X509Source): Promise<void> =>
  new Promise((resolve) => {
    const stop = source.onUpdate(() => {
      stop();
      resolve();
    });
  });

/** A log whose next warning or error can be waited for. */
function errorLog(): { logger: Logger; next(): Promise<void> } {
  let waiting: (() => void)[] = [];
  const tell = (): void => {
    for (const resolve of waiting.splice(0)) resolve();
  };
  const logger: Logger = { ...silentLogger, warn: tell, error: tell, child: () => logger };
  return { logger, next: () => new Promise((resolve) => (waiting = [...waiting, resolve])) };
}

describe('createX509Source', () => {
  it('resolves with the first SVID, its key and the bundles', async () => {
    const authority = await TestAuthority.create('example.org');
    const foreign = await TestAuthority.create('other.example');
    const svid = await authority.issue(ID);
    const api = await start(
      x509Answer([svid], [authority.certificate], { 'other.example': [foreign.certificate] }),
    );
    const source = await open(api);
    const got = source.svid();
    expect(got.id.uri).toBe(ID);
    expect(got.authorityId).toBe(authority.keyId);
    expect(got.serial).toMatch(/^[0-9a-f]{16,}$/);
    expect(got.notAfter).toBeGreaterThan(Date.now());
    expect(source.bundle('example.org')?.x509Authorities).toHaveLength(1);
    expect(source.bundle('other.example')?.trustDomain).toBe('other.example');
    expect(source.bundle('unknown.example')).toBeUndefined();
    expect(
      source
        .bundles()
        .map(({ trustDomain }) => trustDomain)
        .sort(),
    ).toEqual(['example.org', 'other.example']);
  });

  it('reads SPIFFE_ENDPOINT_SOCKET, and says when there is no address at all', async () => {
    const authority = await TestAuthority.create('example.org');
    const api = await start(x509Answer([await authority.issue(ID)], [authority.certificate]));
    const source = await createX509Source({ environment: { SPIFFE_ENDPOINT_SOCKET: api.address } });
    cleanups.push(() => source.close());
    expect(source.svid().id.uri).toBe(ID);
    await expect(createX509Source({ environment: {} })).rejects.toMatchObject({ code: 'EndpointMissing' });
  });

  it('follows every push', async () => {
    const authority = await TestAuthority.create('example.org');
    const api = await start(x509Answer([await authority.issue(ID)], [authority.certificate]));
    const source = await open(api);
    const before = source.svid().serial;
    const change = updated(source);
    const next = await TestAuthority.create('example.org');
    api.x509.set(x509Answer([await next.issue(ID)], [authority.certificate, next.certificate]));
    await change;
    expect(source.svid().serial).not.toBe(before);
    expect(source.svid().authorityId).toBe(next.keyId);
    expect(source.bundle('example.org')?.x509Authorities).toHaveLength(2);
  });

  it('keeps the last good SVID when an answer is not usable', async () => {
    const authority = await TestAuthority.create('example.org');
    const svid = await authority.issue(ID);
    const other = await authority.issue(ID);
    const api = await start(x509Answer([svid], [authority.certificate]));
    const log = errorLog();
    const source = await open(api, { logger: log.logger });
    const { serial } = source.svid();
    for (const bad of [
      x509Answer([{ ...svid, key: other.key }], [authority.certificate]),
      x509Answer([{ ...svid, spiffeId: 'spiffe://example.org/other' }], [authority.certificate]),
      x509Answer([], []),
    ]) {
      const failure = log.next();
      api.x509.set(bad);
      await failure;
      expect(source.svid().serial).toBe(serial);
    }
    const good = await authority.issue(ID);
    const change = updated(source);
    api.x509.set(x509Answer([good], [authority.certificate]));
    await change;
    expect(source.svid().serial).not.toBe(serial);
    expect(api.x509Calls).toBe(1);
  });

  it.each([
    ['a key that is not the certificate’s', 'is not that of its certificate'],
    ['the certificate of another', 'holds the certificate of'],
    ['no SVID at all', 'holds no SVID'],
  ])('says why it gives up when the only answer is %s', async (what, message) => {
    const authority = await TestAuthority.create('example.org');
    const svid = await authority.issue(ID);
    const answers: Record<string, X509Answer> = {
      'a key that is not the certificate’s': x509Answer(
        [{ ...svid, key: (await authority.issue(ID)).key }],
        [authority.certificate],
      ),
      'the certificate of another': x509Answer([{ ...svid, spiffeId: `${ID}2` }], [authority.certificate]),
      'no SVID at all': x509Answer([], []),
    };
    const answer = answers[what];
    if (answer === undefined) throw new Error(what);
    const api = await start(answer);
    const log = errorLog();
    const clock = new FakeClock();
    const failure = log.next();
    const opening = open(api, { clock, timeoutMs: 1000, logger: log.logger });
    opening.catch(() => undefined);
    await failure;
    await clock.advance(1000);
    await expect(opening).rejects.toMatchObject({
      code: 'WorkloadApiTimeout',
      message: expect.stringContaining(message) as unknown as string,
    });
  });

  it('stops at once at InvalidArgument', async () => {
    const api = await start(new StatusError('InvalidArgument', 'security header missing'));
    await expect(open(api)).rejects.toMatchObject({ code: 'WorkloadApiRefused' });
    expect(api.x509Calls).toBe(1);
  });

  it('tries again at PermissionDenied, fast at first and never slower than every 30 s', async () => {
    const api = await start(new StatusError('PermissionDenied', 'no identity issued'));
    const clock = new FakeClock();
    const opening = open(api, { clock, timeoutMs: 10 * 60_000 });
    opening.catch(() => undefined);
    const delays: number[] = [];
    for (let attempt = 1; attempt <= 12; attempt++) {
      await clock.armed(2);
      expect(api.x509Calls).toBe(attempt);
      const delay = clock.nextIn ?? Number.NaN;
      delays.push(delay);
      await clock.advance(delay);
    }
    expect(delays[0]).toBeLessThanOrEqual(60);
    expect(delays[1]).toBeLessThanOrEqual(120);
    expect(delays.at(-1)).toBeGreaterThanOrEqual(20_000);
    expect(Math.max(...delays)).toBeLessThanOrEqual(30_000);
    const authority = await TestAuthority.create('example.org');
    const now = clock.now();
    const svid = await authority.issue(ID, { notBefore: Date.now() - 1000 });
    api.x509.set(x509Answer([svid], [authority.certificate]));
    await clock.armed(2);
    await clock.advance(clock.nextIn ?? 0);
    const source = await opening;
    expect(source.now()).toBeGreaterThan(now);
  });

  it('gives up at its timeout, names the last failure, and at the signal', async () => {
    const api = await start(new StatusError('PermissionDenied', 'no identity issued'));
    const clock = new FakeClock();
    const opening = open(api, { clock, timeoutMs: 40 });
    opening.catch(() => undefined);
    await clock.armed(2);
    await clock.advance(40);
    await expect(opening).rejects.toMatchObject({
      code: 'WorkloadApiTimeout',
      message: expect.stringContaining('no identity issued') as unknown as string,
    });
    const abort = new AbortController();
    const aborted = open(api, { signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow();
  });

  it('finds the Workload API again after it went away, with the old SVID meanwhile', async () => {
    const authority = await TestAuthority.create('example.org');
    const api = await start(x509Answer([await authority.issue(ID)], [authority.certificate]));
    const source = await open(api);
    const { serial } = source.svid();
    api.x509.set(new StatusError('Unavailable', 'restarting'));
    expect(source.svid().serial).toBe(serial);
    const change = updated(source);
    api.x509.set(x509Answer([await authority.issue(ID)], [authority.certificate]));
    await change;
    expect(source.svid().serial).not.toBe(serial);
  });

  it('refuses to hand out an SVID that is over, or after it was closed', async () => {
    const authority = await TestAuthority.create('example.org');
    const clock = new FakeClock(Date.now());
    const api = await start(x509Answer([await authority.issue(ID)], [authority.certificate]));
    const source = await open(api, { clock });
    clock.jump(61 * 60_000);
    expect(() => source.svid()).toThrow(expect.objectContaining({ code: 'SvidExpired' }));
    clock.jump(-61 * 60_000);
    expect(source.svid().id.uri).toBe(ID);
    source.close();
    expect(() => source.svid()).toThrow(expect.objectContaining({ code: 'SourceClosed' }));
  });

  it('uses the SVID that is picked', async () => {
    const authority = await TestAuthority.create('example.org');
    const second = 'spiffe://example.org/ns/payments/sa/second';
    const api = await start(
      x509Answer([await authority.issue(ID), await authority.issue(second)], [authority.certificate]),
    );
    const source = await open(api, { pick: (svids) => svids.find(({ id }) => id.uri === second) });
    expect(source.svid().id.uri).toBe(second);
    const clock = new FakeClock();
    const warned = errorLog();
    const failure = warned.next();
    const opening = open(api, { pick: () => undefined, clock, timeoutMs: 1000, logger: warned.logger });
    opening.catch(() => undefined);
    await failure;
    await clock.advance(1000);
    await expect(opening).rejects.toMatchObject({
      code: 'WorkloadApiTimeout',
      message: expect.stringContaining(second) as unknown as string,
    });
  });
});
