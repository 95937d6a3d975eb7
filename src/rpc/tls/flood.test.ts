import { describe, expect, it } from '@jest/globals';
import { connect as connectTcp, type Socket } from 'node:net';
import { tlsFixture } from '../../../test/support/tls-fixture.js';
import { until } from '../../../test/support/until.js';
import { HealthService } from '../gen/grpc/health/v1/health.js';

const { world } = tlsFixture();
const CLIENT = 'spiffe://own.test/ns/shop/sa/front';

describe('thousands of connections that never finish their handshake', () => {
  it('keep no honest client out, and hold no more than their bound', async () => {
    const one = await world();
    one.server.service(HealthService, { check: async () => ({ status: 1 }) });
    const { port } = await one.listen({ limits: { maxHandshakes: 64 } });
    const before = one.clock.timers;
    const stalled: Socket[] = [];
    let closed = 0;
    for (let batch = 0; batch < 30; batch++) {
      await Promise.all(
        Array.from(
          { length: 100 },
          () =>
            new Promise<void>((resolve) => {
              const socket = connectTcp({ host: '127.0.0.1', port });
              stalled.push(socket);
              socket.on('error', () => undefined);
              socket.once('close', () => {
                closed++;
                resolve();
              });
              // Half of a ClientHello, which never goes on.
              socket.once('connect', () => socket.write(Buffer.of(0x16, 3, 1, 2, 0, 1), () => resolve()));
              socket.resume();
            }),
        ),
      );
      if (batch % 10 === 9) {
        const client = one.dial(port, await one.own.issue(CLIENT));
        expect(await client.health().check({ service: '' })).toEqual({ status: 1 });
        client.close();
      }
    }
    await until('all but the bound to be closed', () => closed >= 3000 - 64);
    // One timer for each that is left.
    expect(one.clock.timers - before).toBeLessThanOrEqual(64 + 4);
    expect(one.log.all.filter((line) => line.includes('connections refused')).length).toBeLessThan(3);
    await one.clock.advance(10_000);
    await until('the rest', () => closed === 3000);
    for (const socket of stalled) socket.destroy();
  });
});
