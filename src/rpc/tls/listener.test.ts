import { describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { certificateOptions, tlsFixture, type TlsWorld } from '../../../test/support/tls-fixture.js';
import { closed } from '../../../test/support/sockets.js';
import { until } from '../../../test/support/until.js';
import { encodeFrame } from '../authority/frames.js';
import { encodeBlock } from '../authority/hpack.js';
import { HealthService } from '../gen/grpc/health/v1/health.js';
import type { Peer } from '../service.js';
import type { TlsSvid } from './identity.js';
import type { ListenTlsOptions } from './listener.js';

const { world } = tlsFixture();
const CLIENT = 'spiffe://own.test/ns/shop/sa/front';
const FOREIGN = 'spiffe://other.test/ns/shop/sa/front';

/** Everything that a client needs to say for one call, after the handshake. */
function wholeCall(): Buffer {
  const fields = {
    ':method': 'POST',
    ':scheme': 'https',
    ':path': HealthService.check.path,
    ':authority': 'localhost',
    'content-type': 'application/grpc',
    te: 'trailers',
  };
  const block = encodeBlock(
    Object.entries(fields).map(([name, value]) => ({ name, value, neverIndexed: false })),
  );
  return Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    encodeFrame({ type: 4, flags: 0, stream: 0 }, Buffer.alloc(0)),
    encodeFrame({ type: 1, flags: 4, stream: 1 }, block),
    encodeFrame({ type: 0, flags: 1, stream: 1 }, Buffer.alloc(5)),
  ]);
}

/** A server whose handler notes who has called. */
async function recording(
  one: TlsWorld,
  options: Partial<ListenTlsOptions> = {},
): Promise<{ readonly port: number; readonly peers: Peer[] }> {
  const peers: Peer[] = [];
  one.server.service(HealthService, {
    check: async (_, { peer }) => {
      peers.push(peer);
      return { status: 1 };
    },
  });
  const { port } = await one.listen(options);
  return { port, peers };
}

/** Opens a socket as OpenSSL would let it, sends a whole call at once, and gives what came back before the end. */
async function impostor(port: number, options: ConnectionOptions): Promise<string> {
  const socket = connect({
    host: '127.0.0.1',
    port,
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
    ...options,
  });
  const seen: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => seen.push(chunk));
  socket.on('error', () => undefined);
  socket.once('secureConnect', () => socket.write(wholeCall()));
  await closed(socket);
  return Buffer.concat(seen).toString('latin1');
}

describe('a TLS listener', () => {
  it('tells the handler who calls, by which certificate, and from where', async () => {
    const one = await world();
    const { port, peers } = await recording(one);
    const svid = await one.own.issue(CLIENT);
    await one.dial(port, svid).health().check({ service: '' });
    expect(peers).toEqual([
      {
        listener: 'api',
        connectionId: expect.stringMatching(/^c\d+$/),
        spiffeId: expect.objectContaining({ uri: CLIENT, trustDomain: 'own.test' }),
        certificate: { serial: expect.stringMatching(/^[0-9a-f]+$/), notAfter: svid.notAfter },
        remoteAddress: '127.0.0.1',
      },
    ]);
  });

  it('speaks TLS 1.3 alone, and HTTP/2 alone', async () => {
    const one = await world();
    const { port, peers } = await recording(one);
    const svid = certificateOptions(await one.own.issue(CLIENT));
    const socket = connect({
      host: '127.0.0.1',
      port,
      rejectUnauthorized: false,
      ALPNProtocols: ['h2'],
      ...svid,
    });
    await once(socket, 'secureConnect');
    expect([socket.getProtocol(), socket.alpnProtocol]).toEqual(['TLSv1.3', 'h2']);
    socket.destroy();
    expect(await impostor(port, { ...svid, maxVersion: 'TLSv1.2' })).toBe('');
    expect(await impostor(port, { ...svid, ALPNProtocols: ['http/1.1'] })).toBe('');
    expect(await impostor(port, { ...svid, ALPNProtocols: [] })).toBe('');
    expect(peers).toEqual([]);
    // The same bytes in an honest connection do reach the handler: the test above would notice.
    const honest = connect({
      host: '127.0.0.1',
      port,
      rejectUnauthorized: false,
      ALPNProtocols: ['h2'],
      ...svid,
    });
    honest.once('secureConnect', () => honest.write(wholeCall()));
    await until('the call', () => peers.length === 1);
    honest.destroy();
  });

  const refused: Readonly<Record<string, (one: TlsWorld) => Promise<TlsSvid | undefined>>> = {
    'without a certificate': () => Promise.resolve(undefined),
    'of a trust domain that has no bundle': async (one) => one.stranger.issue('spiffe://stranger.test/x'),
    'of a foreign name by our authority': async (one) => one.own.issue(FOREIGN),
    'of our name by a federated authority': async (one) => one.other.issue(CLIENT),
    'by an authority that only calls itself ours': async (one) => one.impostor.issue(CLIENT),
    'whose SVID is over': async (one) => one.own.issue(CLIENT, { notAfter: one.clock.now() - 1000 }),
    'whose SVID has not begun': async (one) => one.own.issue(CLIENT, { notBefore: one.clock.now() + 60_000 }),
    'with two URI SANs': async (one) => one.own.issue(CLIENT, { uris: [CLIENT, `${CLIENT}2`] }),
    'with no URI SAN': async (one) => one.own.issue(CLIENT, { uris: [], dnsNames: ['front.shop'] }),
    'with the ID of the trust domain itself': async (one) => one.own.issue('spiffe://own.test'),
    'with a URI that is no SPIFFE ID': async (one) => one.own.issue('https://own.test/ns/shop/sa/front'),
    'that is a CA': async (one) => one.own.issue(CLIENT, { ca: true }),
  };
  it.each(Object.entries(refused))(
    'reads nothing of a client %s, though its call came with the handshake',
    async (_, issue) => {
      const one = await world();
      const svid = await issue(one);
      for (const clientCertificate of ['required', 'optional'] as const) {
        // With `optional`, whoever shows a bad certificate is still not taken for nobody.
        if (svid === undefined && clientCertificate === 'optional') continue;
        const { port, peers } = await recording(await world(one), { clientCertificate });
        // The frames of an HTTP/2 server would begin with its SETTINGS.
        expect(await impostor(port, svid === undefined ? {} : certificateOptions(svid))).toBe('');
        expect(peers).toEqual([]);
      }
    },
  );

  it('refuses whom the authorizer does not let in', async () => {
    const one = await world();
    const { port, peers } = await recording(one, {
      authorize: ({ uri }) => (uri === CLIENT ? { allowed: true } : { allowed: false, reason: 'not front' }),
    });
    const other = await one.own.issue(`${CLIENT}2`);
    expect(await impostor(port, certificateOptions(other))).toBe('');
    await one
      .dial(port, await one.own.issue(CLIENT))
      .health()
      .check({ service: '' });
    expect(peers.map(({ spiffeId }) => spiffeId?.uri)).toEqual([CLIENT]);
  });

  it('takes an SVID of a federated trust domain by the bundle of that one', async () => {
    const one = await world();
    const { port, peers } = await recording(one);
    const client = one.dial(port, await one.other.issue(FOREIGN));
    await client.health().check({ service: '' });
    expect(peers[0]?.spiffeId?.uri).toBe(FOREIGN);
  });

  it('lets in nobody as nobody, where certificates are optional', async () => {
    const one = await world();
    const { port, peers } = await recording(one, { clientCertificate: 'optional' });
    await one.dial(port, undefined, { showSvid: false }).health().check({ service: '' });
    await one
      .dial(port, await one.own.issue(CLIENT))
      .health()
      .check({ service: '' });
    expect(peers[0]).toEqual({
      listener: 'api',
      connectionId: expect.any(String),
      remoteAddress: '127.0.0.1',
    });
    expect(peers[1]?.spiffeId?.uri).toBe(CLIENT);
  });

  it('survives whatever is sent instead of TLS', async () => {
    const one = await world();
    const { port, peers } = await recording(one);
    const junk = [
      wholeCall(),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      Buffer.alloc(70_000, 0x16),
      Buffer.of(0x16, 3, 1),
    ];
    for (const bytes of junk) {
      const socket = connectTcp({ host: '127.0.0.1', port });
      socket.on('error', () => undefined);
      socket.end(bytes);
      await closed(socket);
    }
    await one
      .dial(port, await one.own.issue(CLIENT))
      .health()
      .check({ service: '' });
    expect(peers).toHaveLength(1);
  });

  it('gives up a handshake that stalls, and the oldest when there are too many', async () => {
    const one = await world();
    const { port } = await recording(one, { limits: { handshakeMs: 5000, maxHandshakes: 3 } });
    const stalled: Socket[] = [];
    const stall = async (): Promise<void> => {
      const socket = connectTcp({ host: '127.0.0.1', port });
      socket.on('error', () => undefined);
      stalled.push(socket);
      const before = one.clock.timers;
      await until('the handshake', () => one.clock.timers !== before || stalled.length > 3);
    };
    for (let count = 0; count < 3; count++) await stall();
    await one.clock.advance(4999);
    expect(stalled.some(({ destroyed }) => destroyed)).toBe(false);
    await stall();
    await closed(stalled[0] as Socket);
    // An honest client gets through between them, and lives on when they are given up.
    const client = one.dial(port, await one.own.issue(CLIENT));
    await client.health().check({ service: '' });
    await one.clock.advance(1);
    await Promise.all(stalled.slice(0, 3).map(closed));
    await one.clock.advance(4999);
    await Promise.all(stalled.map(closed));
    await client.health().check({ service: '' });
  });

  it('bounds the connections of one peer, and of one address without a certificate', async () => {
    const one = await world();
    const { port } = await recording(one, {
      clientCertificate: 'optional',
      maxConnections: 5,
      limits: { maxConnectionsPerPeer: 2 },
    });
    const open = async (svid?: TlsSvid): Promise<TLSSocket> => {
      const more = svid === undefined ? {} : certificateOptions(svid);
      const socket = connect({
        host: '127.0.0.1',
        port,
        rejectUnauthorized: false,
        ALPNProtocols: ['h2'],
        ...more,
      });
      socket.on('error', () => undefined);
      // The server's SETTINGS, or the end.
      await Promise.race([once(socket, 'data'), closed(socket)]);
      return socket;
    };
    const front = await one.own.issue(CLIENT);
    const back = await one.own.issue(`${CLIENT}2`);
    const results = [front, front, front, back, undefined, undefined, undefined, back];
    const sockets: TLSSocket[] = [];
    for (const svid of results) sockets.push(await open(svid));
    // The third of front, the third of nobody; and of back the second, since five are open in all.
    expect(sockets.map(({ destroyed }) => destroyed)).toEqual([
      ...[false, false, true],
      ...[false, false, false, true],
      true,
    ]);
    sockets[0]?.destroy();
    await until('a place', async () => !(await open(front)).destroyed);
    for (const socket of sockets) socket.destroy();
  });

  it('closes a connection that makes no call', async () => {
    const one = await world({ limits: { firstCallMs: 2000 } });
    const { port } = await recording(one);
    const svid = certificateOptions(await one.own.issue(CLIENT));
    const socket = connect({
      host: '127.0.0.1',
      port,
      rejectUnauthorized: false,
      ALPNProtocols: ['h2'],
      ...svid,
    });
    await once(socket, 'data');
    const client = one.dial(port, await one.own.issue(CLIENT));
    await client.health().check({ service: '' });
    await one.clock.advance(2000);
    await closed(socket);
    expect(one.listeners[0]?.connections).toBe(1);
  });

  it('says what is wrong with an address', async () => {
    const one = await world();
    const { port } = await one.listen();
    await expect(one.listen({ port })).rejects.toMatchObject({
      code: 'AddressInUse',
      message: expect.stringContaining(`127.0.0.1:${port}`),
    });
    await expect(one.listen({ address: '192.0.2.1' })).rejects.toMatchObject({ code: 'ListenFailed' });
  });

  it('follows nothing any more once it is closed', async () => {
    const one = await world();
    const listener = await one.listen();
    expect(one.identity.followers).toBe(2);
    await listener.close();
    expect(one.identity.followers).toBe(0);
    expect(one.clock.timers).toBe(0);
  });
});
