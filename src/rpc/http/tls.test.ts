import { afterEach, describe, expect, it } from '@jest/globals';
import { request as send } from 'node:https';
import { connect as connectTcp } from 'node:net';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { recordingLogger } from '../../../test/support/recording-logger.js';
import { closed } from '../../../test/support/sockets.js';
import { AnyAuthority } from '../../../test/support/tls-identity.js';
import { until } from '../../../test/support/until.js';
import { encodePem } from '../../identity/pki/pem.js';
import { systemRandom } from '../../lib/random.js';
import { WatchedValue } from '../../lib/watched.js';
import { linuxPeerCredentials } from '../peer/linux.js';
import type { TlsSvid } from '../tls/identity.js';
import type { HttpLimits } from './limits.js';
import { createHttpServer, type HttpServer } from './server.js';

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface World {
  readonly server: HttpServer;
  readonly port: number;
  readonly ca: string;
  readonly svid: WatchedValue<TlsSvid | undefined>;
  issue(): Promise<TlsSvid>;
  /** Posts a body; the status. Rejects when there is no answer. */
  post(body: Buffer): Promise<number>;
  connect(options?: ConnectionOptions): Promise<TLSSocket>;
}

async function world(limits: Partial<HttpLimits> = {}, shows = true): Promise<World> {
  // TLS looks at the clock of the machine.
  const clock = new FakeClock(Date.now());
  const authority = await AnyAuthority.create('shop.test', clock);
  const issue = (): Promise<TlsSvid> =>
    authority.issue('spiffe://shop.test/signet/webhook', { dnsNames: ['localhost'] });
  const svid = new WatchedValue<TlsSvid | undefined>(shows ? await issue() : undefined);
  const server = createHttpServer({
    routes: [{ method: 'POST', path: '/say', handle: ({ body }) => ({ status: 200, body: body ?? {} }) }],
    ...{
      clock,
      random: systemRandom,
      logger: recordingLogger(),
      peerCredentials: linuxPeerCredentials,
      limits,
    },
  });
  closers.push(() => server.close());
  const { path } = await server.listenTls({ address: '127.0.0.1', port: 0, name: 'webhook', svid });
  const port = Number(path.split(':')[1]);
  const ca = encodePem('CERTIFICATE', authority.certificate.der);
  const to = { host: '127.0.0.1', servername: 'localhost', port, ca };
  return {
    ...{ server, port, ca, svid, issue },
    post: (body) =>
      new Promise((resolve, reject) => {
        const headers = { 'content-type': 'application/json' };
        const call = send({ ...to, agent: false, path: '/say', method: 'POST', headers }, (response) => {
          response.resume();
          response.once('end', () => resolve(response.statusCode ?? 0));
        });
        call.once('error', reject);
        call.end(body);
      }),
    connect: (options = {}) =>
      new Promise((resolve, reject) => {
        const socket = connect({ ...to, ...options }, () => resolve(socket));
        closers.push(() => void socket.destroy());
        socket.once('error', reject);
      }),
  };
}

const bodyOf = (bytes: number): Buffer => Buffer.from(JSON.stringify({ a: 'x'.repeat(bytes - 8) }));

describe('a port with TLS of the server alone', () => {
  it('is known by its DNS name, and each handshake shows the newest certificate', async () => {
    const { connect: dial, svid, issue, post } = await world();
    expect(await post(bodyOf(100))).toBe(200);
    const first = (await dial()).getPeerCertificate();
    expect(first.subjectaltname).toContain('DNS:localhost');
    svid.set(await issue());
    expect((await dial()).getPeerCertificate().serialNumber).not.toBe(first.serialNumber);
    expect(await post(bodyOf(100))).toBe(200);
  });

  it('takes no handshake while there is nothing to show', async () => {
    const { connect: dial, svid, issue } = await world({}, false);
    await expect(dial()).rejects.toThrow();
    svid.set(await issue());
    await dial();
    svid.set(undefined);
    await expect(dial()).rejects.toThrow();
  });

  it('speaks TLS 1.3 and 1.2, and nothing older or weaker', async () => {
    const { connect: dial } = await world();
    expect((await dial()).getProtocol()).toBe('TLSv1.3');
    expect((await dial({ maxVersion: 'TLSv1.2' })).getProtocol()).toBe('TLSv1.2');
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    await expect(dial(old)).rejects.toThrow();
    await expect(dial({ maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA' })).rejects.toThrow();
  });

  it('survives what is no TLS', async () => {
    const { port, post } = await world();
    const junk = connectTcp(port, '127.0.0.1');
    closers.push(() => void junk.destroy());
    junk.on('error', () => undefined);
    junk.write('GET / HTTP/1.1\r\n\r\n');
    await closed(junk);
    expect(await post(bodyOf(100))).toBe(200);
  });

  it('bounds a body, and all bodies together; one address never gets more than half', async () => {
    const { connect: dial, post } = await world({ maxBodyBytes: 100_000, maxBodiesBytes: 160_000 });
    expect(await post(bodyOf(70_000))).toBe(200);
    // Headers first: the client sees the answer before it has sent all.
    await expect(post(bodyOf(300_000)).then((status) => ({ status }))).resolves.toEqual({ status: 413 });
    const slow = await dial();
    slow.write(
      `POST /say HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 80000\r\n\r\n${'x'.repeat(60_000)}`,
    );
    await until('no more room', async () => (await post(bodyOf(70_000))) === 503);
    expect(await post(bodyOf(5_000))).toBe(200);
    slow.destroy();
    await until('room again', async () => (await post(bodyOf(70_000))) === 200);
  });
});
