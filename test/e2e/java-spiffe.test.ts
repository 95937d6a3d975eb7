import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import * as rig from '../rig/rig.js';
import { runJava, startJava, type Line } from './support/clients.js';
import { identity, namespace, pod, writeResources } from './support/resources.js';
import { newScope } from './support/scope.js';
import { replaceAuthority, startSignet, type Signet } from './support/signet.js';

jest.setTimeout(90_000);

const order = 'spiffe://shop.test/ns/shop/sa/order';

// Its gRPC sends the raw path of the socket as :authority, which Node's HTTP/2 refuses unless the listener mends it.
(rig.isSkipped('java') ? describe.skip : describe)('java-spiffe over its own Netty transport', () => {
  const scope = newScope();
  let server: Signet;

  beforeAll(async () => {
    await rig.javaClient();
    const resources = scope.folder();
    writeResources(resources, 'shop.yaml', [
      namespace('shop'),
      ...pod('order'),
      identity('order', { hint: 'main' }),
    ]);
    server = await startSignet(scope, { resources, state: scope.folder(), trustDomain: 'shop.test' });
  }, rig.rigTimeout);
  afterAll(() => scope.end());

  const java = (...args: string[]): Promise<Line> => runJava(scope, [server.socket('order'), ...args]);

  it('fetches an X.509-SVID through an X509Source and verifies its chain', async () => {
    expect(await java('x509')).toMatchObject({ id: order, hint: 'main', verified: true, authorities: 1 });
  });

  it('fetches X.509 and JWT bundles', async () => {
    expect(await java('bundles')).toMatchObject({
      x509: { 'shop.test': 1 },
      jwt: { 'shop.test': [expect.any(String)] },
    });
  });

  it('fetches a JWT-SVID through a JwtSource, which it and the Workload API validate', async () => {
    expect(await java('jwt', 'bank')).toMatchObject({
      id: order,
      validatedId: order,
      audience: ['bank'],
      hint: 'main',
    });
  });

  it('follows a rotation on its stream', async () => {
    const watcher = await startJava(scope, [server.socket('order'), 'watch']);
    const before = await watcher.next(({ svids }) => svids !== undefined, { limitMs: 40_000 });
    await replaceAuthority(server);
    await watcher.next(
      ({ svids }) => svids?.[0] !== undefined && svids[0].serial !== before.svids?.[0]?.serial,
    );
  });
});
