import { describe, expect, it } from '@jest/globals';
import { settle } from '../../../test/support/fake-clock.js';
import { tlsFixture, type TlsWorld } from '../../../test/support/tls-fixture.js';
import { until } from '../../../test/support/until.js';
import type { RpcConnection } from '../client.js';
import { HealthService } from '../gen/grpc/health/v1/health.js';
import type { Peer } from '../service.js';
import type { ListenTlsOptions } from './listener.js';

const { world } = tlsFixture();
const CLIENT = 'spiffe://own.test/ns/shop/sa/front';
const MINUTE = 60_000;

/** A server whose unary call answers, and whose stream goes on until it is ended. */
async function serving(
  one: TlsWorld,
  options: Partial<ListenTlsOptions> = {},
): Promise<{ readonly port: number; readonly peers: Peer[] }> {
  const peers: Peer[] = [];
  one.server.service(HealthService, {
    check: async (_, { peer }) => {
      peers.push(peer);
      return { status: 1 };
    },
    watch: async (_, context, sink) => {
      await sink.write({ status: 1 });
      await new Promise((resolve) => context.signal.addEventListener('abort', resolve, { once: true }));
    },
  });
  const { port } = await one.listen(options);
  return { port, peers };
}

const check = (client: RpcConnection): Promise<unknown> => client.health().check({ service: '' });

/** A stream that is running; `ended` gives the status that it ended with. */
async function running(client: RpcConnection): Promise<{ readonly ended: Promise<unknown> }> {
  const stream = client.health().watch({ service: '' })[Symbol.asyncIterator]();
  await stream.next();
  return {
    ended: Promise.resolve(stream.next()).then(
      () => 'ended',
      (error: unknown) => error,
    ),
  };
}

const connections = (peers: readonly Peer[]): number =>
  new Set(peers.map(({ connectionId }) => connectionId)).size;

describe('a connection', () => {
  it('shows the SVID of its handshake: those that are open stay when it rotates, new ones take the newest', async () => {
    const one = await world();
    const { port, peers } = await serving(one);
    const svid = await one.own.issue(CLIENT);
    const seen: string[] = [];
    const noting = (): RpcConnection =>
      one.dial(port, svid, {
        authorizeServer: ({ uri }) => {
          seen.push(uri);
          return { allowed: true };
        },
      });
    const first = noting();
    await check(first);
    one.identity.svid.set(await one.own.issue('spiffe://own.test/signet/next'));
    await check(first);
    await check(noting());
    expect(seen).toEqual(['spiffe://own.test/signet/agent', 'spiffe://own.test/signet/next']);
    expect(connections(peers)).toBe(2);
  });

  it('is refused while there is no SVID to show', async () => {
    const one = await world();
    const { port } = await serving(one);
    one.identity.svid.set(undefined);
    const client = one.dial(port, await one.own.issue(CLIENT));
    await expect(check(client)).rejects.toMatchObject({ status: 'Unavailable' });
  });

  it('loses no call when it is replaced for its age, again and again under load, and the SVIDs with it', async () => {
    const one = await world();
    const { port, peers } = await serving(one, { limits: { maxAgeMs: MINUTE, graceMs: MINUTE / 2 } });
    const clients = await Promise.all(
      Array.from({ length: 8 }, async (_, index) => one.dial(port, await one.own.issue(`${CLIENT}${index}`))),
    );
    let stop = false;
    let calls = 0;
    const failures: unknown[] = [];
    const load = clients.flatMap((client) =>
      Array.from({ length: 4 }, async () => {
        while (!stop && failures.length === 0) {
          await check(client).then(
            () => calls++,
            (error: unknown) => failures.push(error),
          );
        }
      }),
    );
    const more = (count: number): Promise<unknown> => {
      const before = calls;
      return until('more calls', () => failures.length > 0 || calls >= before + count);
    };
    await more(200);
    for (let round = 1; round <= 2; round++) {
      one.identity.svid.set(await one.own.issue('spiffe://own.test/signet/agent'));
      // In steps, for a handshake that is under way must not find that a minute has passed. The jitter is a tenth.
      for (let passed = 0; passed < 1.1 * MINUTE; passed += 3000) {
        await one.clock.advance(3000);
        await more(20);
      }
      await until(
        'new connections of all',
        () => failures.length > 0 || connections(peers) > round * clients.length,
      );
    }
    stop = true;
    await Promise.all(load);
    expect(failures).toEqual([]);
    await until('the old ones to go', () => one.listeners[0]?.connections === clients.length);
  });

  it('is not replaced at the very same time as others that were opened with it', async () => {
    const one = await world();
    const { port, peers } = await serving(one, { limits: { maxAgeMs: 10 * MINUTE } });
    const clients = await Promise.all(
      Array.from({ length: 20 }, async () => one.dial(port, await one.own.issue(CLIENT))),
    );
    const checkAll = (): Promise<unknown> => Promise.all(clients.map(check));
    await checkAll();
    await one.clock.advance(10 * MINUTE);
    await until('half of them', async () => {
      await checkAll();
      return connections(peers) > 20;
    });
    await settle();
    await checkAll();
    expect(connections(peers)).toBeLessThan(40);
  });

  it('ends a call that goes on after the grace, with a status that says to come again', async () => {
    const one = await world();
    const { port } = await serving(one, { limits: { maxAgeMs: 10 * MINUTE, graceMs: MINUTE } });
    const stream = await running(
      one.dial(port, await one.own.issue(CLIENT, { notAfter: Date.UTC(2027, 0) })),
    );
    let ended: unknown;
    void stream.ended.then((how) => (ended = how));
    // The age is spread by a tenth in both directions: it is told to go at 9 to 11 minutes.
    await one.clock.advance(10 * MINUTE - 1);
    expect(ended).toBeUndefined();
    await one.clock.advance(2 * MINUTE + 1);
    await until('its end', () => ended !== undefined);
    expect(ended).toMatchObject({ status: 'Unavailable', message: 'the connection is old; connect anew' });
    await until('the connection to go', () => one.listeners[0]?.connections === 0);
  });

  it.each([
    ['the client', 10, 60],
    ['the server', 60, 10],
  ])(
    'is told to go before the certificate of %s ends, and is closed when it does',
    async (_, client, server) => {
      const one = await world();
      one.identity.svid.set(
        await one.own.issue('spiffe://own.test/signet/agent', {
          notAfter: one.clock.now() + server * MINUTE,
        }),
      );
      const { port, peers } = await serving(one, { limits: { graceMs: MINUTE } });
      const dialled = one.dial(
        port,
        await one.own.issue(CLIENT, { notAfter: one.clock.now() + client * MINUTE }),
      );
      const stream = await running(dialled);
      await check(dialled);
      let ended: unknown;
      void stream.ended.then((how) => (ended = how));
      await one.clock.advance(9 * MINUTE - 1);
      await check(dialled);
      expect(connections(peers)).toBe(1);
      await one.clock.advance(1);
      // The next call goes over a new connection, while the stream goes on over the old one.
      await until('another connection', async () => {
        await check(dialled);
        return connections(peers) === 2;
      });
      expect(ended).toBeUndefined();
      await one.clock.advance(MINUTE);
      await until('its end', () => ended !== undefined);
      expect(ended).toMatchObject({ status: 'Unavailable' });
    },
  );

  it('is closed when the clock jumps past the end of a certificate', async () => {
    const one = await world();
    const { port } = await serving(one);
    const stream = await running(one.dial(port, await one.own.issue(CLIENT)));
    one.clock.jump(61 * MINUTE);
    await one.clock.advance(30_000);
    await expect(stream.ended).resolves.toMatchObject({ status: 'Unavailable' });
  });

  it('is closed at once when the authority that vouched for the peer is taken out of its bundle, and only then', async () => {
    const one = await world();
    const { port } = await serving(one);
    const next = await world(one);
    const second = next.impostor;
    one.identity.trust([one.own, second, one.other]);
    const old = await running(one.dial(port, await one.own.issue(CLIENT)));
    const kept = await running(one.dial(port, await second.issue(CLIENT)));
    let ended = false;
    void kept.ended.then(() => (ended = true));
    one.identity.trust([second, one.other]);
    await expect(old.ended).resolves.toMatchObject({
      status: 'Unavailable',
      message: expect.stringContaining('connect anew'),
    });
    // Those that are still vouched for are left alone.
    await until('the other to go', () => one.listeners[0]?.connections === 1);
    await settle();
    expect(ended).toBe(false);
  });

  it('lets a running call end while the server drains, and takes no new connection', async () => {
    const one = await world();
    const finish = Promise.withResolvers<undefined>();
    const begun = Promise.withResolvers<undefined>();
    one.server.service(HealthService, {
      check: async () => {
        begun.resolve(undefined);
        await finish.promise;
        return { status: 1 };
      },
    });
    const { port } = await one.listen();
    const call = check(one.dial(port, await one.own.issue(CLIENT)));
    await begun.promise;
    const drained = one.server.drain(30_000);
    await expect(check(one.dial(port, await one.own.issue(CLIENT)))).rejects.toMatchObject({
      status: 'Unavailable',
    });
    finish.resolve(undefined);
    await expect(call).resolves.toEqual({ status: 1 });
    await drained;
  });

  it('ends the calls that still run when the grace of a drain is over', async () => {
    const one = await world();
    const { port } = await serving(one);
    const stream = await running(one.dial(port, await one.own.issue(CLIENT)));
    const drained = one.server.drain(5000);
    await one.clock.advance(5000);
    await expect(stream.ended).resolves.toMatchObject({ status: 'Unavailable' });
    await drained;
  });
});
