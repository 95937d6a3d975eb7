import { afterEach, describe, expect, it } from '@jest/globals';
import { createServer, type Server } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { listeningPort } from '../../../test/support/sockets.js';
import { TestTlsIdentity } from '../../../test/support/tls-identity.js';
import { certificateOptions, tlsFixture, type TlsWorld } from '../../../test/support/tls-fixture.js';
import { silentPort } from '../../../test/support/silent-port.js';
import { until } from '../../../test/support/until.js';
import type { RpcConnection } from '../client.js';
import { HealthService } from '../gen/grpc/health/v1/health.js';
import type { Peer } from '../service.js';

const { world } = tlsFixture();
const CLIENT = 'spiffe://own.test/ns/shop/sa/front';
const SERVER = 'spiffe://own.test/signet/agent';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function serving(one: TlsWorld, at = 0): Promise<{ readonly port: number; readonly peers: Peer[] }> {
  const peers: Peer[] = [];
  one.server.service(HealthService, {
    check: async (_, { peer }) => {
      peers.push(peer);
      return { status: 1 };
    },
  });
  const { port } = await one.listen({ clientCertificate: 'optional', port: at });
  return { port, peers };
}

const check = (client: RpcConnection): Promise<unknown> =>
  client.health().check({ service: '' }, { deadlineMs: 10_000 });

describe('a TLS client', () => {
  it('sends nothing to a server that is somebody else, and says who', async () => {
    const one = await world();
    const { port, peers } = await serving(one);
    const client = one.dial(port, await one.own.issue(CLIENT), {
      authorizeServer: ({ uri }) => ({ allowed: false, reason: `${uri} is not who was meant` }),
    });
    await expect(check(client)).rejects.toMatchObject({
      status: 'Unavailable',
      message: expect.stringContaining(`${SERVER} is not who was meant`),
    });
    expect(peers).toEqual([]);
  });

  it('sends nothing to a server that no bundle vouches for, whatever its name', async () => {
    const one = await world();
    const { port, peers } = await serving(one);
    one.identity.svid.set(await one.impostor.issue(SERVER));
    await expect(check(one.dial(port, await one.own.issue(CLIENT)))).rejects.toMatchObject({
      status: 'Unavailable',
      message: expect.stringContaining("the peer's certificate is refused"),
    });
    one.identity.svid.set(await one.own.issue(SERVER, { notAfter: one.clock.now() - 2000 }));
    await expect(check(one.dial(port, await one.own.issue(CLIENT)))).rejects.toMatchObject({
      message: expect.stringContaining('expired'),
    });
    expect(peers).toEqual([]);
  });

  it.each([
    ['TLS 1.2', { maxVersion: 'TLSv1.2', ALPNProtocols: ['h2'] }],
    ['no HTTP/2', { ALPNProtocols: ['http/1.1'] }],
  ] as const)('refuses a server with %s', async (_, options) => {
    const one = await world();
    const svid = certificateOptions(await one.own.issue(SERVER));
    const seen: Buffer[] = [];
    const server = createTlsServer({ ...svid, ...options }, (socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (bytes: Buffer) => seen.push(bytes));
    });
    server.on('tlsClientError', () => undefined);
    servers.push(server);
    const client = one.dial(await listeningPort(server), await one.own.issue(CLIENT));
    await expect(check(client)).rejects.toMatchObject({ status: 'Unavailable' });
    expect(seen).toEqual([]);
  });

  it('waits longer before each attempt, on the given clock, while calls fail at once', async () => {
    const one = await world();
    let attempts = 0;
    const server = createServer((socket) => {
      attempts++;
      socket.destroy();
    });
    servers.push(server);
    const client = one.dial(await listeningPort(server), await one.own.issue(CLIENT), {
      random: { bytes: (size) => new Uint8Array(size), fraction: () => 0.5 },
    });
    await expect(check(client)).rejects.toMatchObject({ status: 'Unavailable' });
    for (const wait of [100, 200, 400, 800, 1600, 3200, 5000, 5000]) {
      const before = attempts;
      // The sleep of the next attempt.
      await one.clock.armed();
      await one.clock.advance(wait - 1);
      await expect(check(client)).rejects.toMatchObject({ status: 'Unavailable' });
      expect(attempts).toBe(before);
      await one.clock.advance(1);
      await until('the next attempt', () => attempts === before + 1);
      await until('its end', () => one.clock.nextIn !== undefined && one.clock.nextIn > 1);
    }
  });

  it('connects once the server is there, and starts the back-off over', async () => {
    const one = await world();
    const { port } = await serving(one);
    one.identity.svid.set(undefined);
    const client = one.dial(port, await one.own.issue(CLIENT));
    await expect(check(client)).rejects.toMatchObject({ status: 'Unavailable' });
    one.identity.svid.set(await one.own.issue(SERVER));
    await until('a call', async () => {
      await one.clock.advance(1000);
      return check(client);
    });
  });

  it('connects anew when nothing answers for 5 s, and is there as soon as somebody does', async () => {
    const one = await world();
    const silent = await silentPort();
    const client = one.dial(silent.port, await one.own.issue(CLIENT));
    const before = silent.waiting();
    const early = check(client).catch((error: unknown) => error);
    await until('an attempt', () => silent.waiting() > before);
    await one.clock.advance(4_999);
    expect(silent.waiting()).toBe(before + 1);
    await one.clock.advance(1);
    await until('another attempt', () => silent.waiting() === before + 2);
    expect(await early).toMatchObject({
      status: 'Unavailable',
      message: expect.stringContaining('no answer to an attempt to connect'),
    });
    // Those before are the kernel's to try again, when it likes; the next one comes now.
    await silent.close();
    const { peers } = await serving(one, silent.port);
    await one.clock.advance(5_000);
    await check(client);
    expect(peers).toHaveLength(1);
  });

  it('connects within a second of its clock being set, to a server that it had taken for one of the future', async () => {
    const one = await world();
    const { port } = await serving(one);
    one.identity.svid.set(await one.own.issue(SERVER, { notBefore: one.clock.now() + 600_000 }));
    const client = one.dial(port, await one.own.issue(CLIENT));
    for (let attempt = 0; attempt < 8; attempt++) {
      await expect(check(client)).rejects.toMatchObject({ message: expect.stringContaining('valid from') });
      await one.clock.advance(5_000);
    }
    await until('the longest wait', () => one.clock.timers > 0);
    one.clock.jump(600_000);
    await one.clock.advance(1_000);
    await until('a call', () => check(client));
  });

  it('shows its newest SVID on each new connection', async () => {
    const one = await world();
    const { port, peers } = await serving(one);
    const identity = new TestTlsIdentity(one.clock, await one.own.issue(CLIENT), [one.own]);
    const client = one.dial(port, undefined, { identity });
    await check(client);
    identity.svid.set(await one.own.issue(`${CLIENT}2`));
    await check(client);
    one.identity.trust([one.other]);
    one.identity.trust([one.own, one.other]);
    await until('the first connection to go', () => one.listeners[0]?.connections === 0);
    await until('a call', async () => {
      await one.clock.advance(1000);
      return check(client);
    });
    expect(peers.map(({ spiffeId }) => spiffeId?.uri)).toEqual([CLIENT, CLIENT, `${CLIENT}2`]);
  });

  it('says that it has no SVID yet, and connects when it has one', async () => {
    const one = await world();
    const { port, peers } = await serving(one);
    const identity = new TestTlsIdentity(one.clock, undefined, [one.own]);
    const client = one.dial(port, undefined, { identity });
    await expect(check(client)).rejects.toMatchObject({
      status: 'Unavailable',
      message: expect.stringContaining('no SVID to connect with'),
    });
    // It never came as nobody instead, though this server would have let it.
    expect(peers).toEqual([]);
    identity.svid.set(await one.own.issue(CLIENT));
    await until('a call', async () => {
      await one.clock.advance(1000);
      return check(client);
    });
    expect(peers[0]?.spiffeId?.uri).toBe(CLIENT);
  });

  it.each(['ends', 'is trusted no more'])(
    'closes the connection when the certificate of the server %s',
    async (how) => {
      const one = await world();
      const { port } = await serving(one);
      const identity = new TestTlsIdentity(one.clock, await one.own.issue(CLIENT), [one.own]);
      const client = one.dial(port, undefined, { identity });
      await check(client);
      expect(one.listeners[0]?.connections).toBe(1);
      if (how === 'ends') {
        // Past what the server itself does in time: its clock is another one, in the worst case.
        one.clock.jump(3_602_000);
        await one.clock.advance(30_000);
      } else identity.trust([one.impostor]);
      await until('the connection to go', () => one.listeners[0]?.connections === 0);
      await expect(check(client)).rejects.toMatchObject({ status: 'Unavailable' });
    },
  );

  it('leaves nothing behind when it is closed, not even while it waits', async () => {
    const one = await world();
    const { port } = await serving(one);
    const identity = new TestTlsIdentity(one.clock, await one.own.issue(CLIENT), [one.own]);
    const client = one.dial(port, undefined, { identity });
    await check(client);
    client.close();
    await until('the connection to go', () => one.listeners[0]?.connections === 0);
    // Its other end goes a moment later.
    await until('nobody who follows', () => identity.followers === 0);
    one.identity.svid.set(undefined);
    const waiting = one.dial(port, undefined, { identity });
    await expect(check(waiting)).rejects.toMatchObject({ status: 'Unavailable' });
    await one.clock.armed();
    waiting.close();
    await until('its timer to go', () => one.clock.timers === 0);
  });
});
