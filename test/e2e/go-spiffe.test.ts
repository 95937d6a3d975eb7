import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { readFileSync } from 'node:fs';
import * as rig from '../rig/rig.js';
import { until } from '../support/until.js';
import { runGo, startGo, type Line, type SeenJwt } from './support/clients.js';
import { federated, identity, namespace, pod, writeResources } from './support/resources.js';
import { newScope, type Scope } from './support/scope.js';
import { activeAuthority, replaceAuthority, signet, startSignet, type Signet } from './support/signet.js';

jest.setTimeout(60_000);

const order = 'spiffe://shop.test/ns/shop/sa/order';
const payment = 'spiffe://shop.test/ns/shop/sa/payment';
const all = [
  namespace('shop'),
  ...pod('order'),
  ...pod('payment'),
  ...pod('stranger'),
  identity('order', { hint: 'main', dnsNameTemplates: ['order.shop.svc'] }),
  identity('payment'),
];

(rig.isSkipped('go') ? describe.skip : describe)('go-spiffe', () => {
  const shared = newScope();
  let scope: Scope;
  let resources: string;
  let state: string;
  let server: Signet;

  beforeAll(async () => {
    await rig.spiffeClient();
    resources = shared.folder();
    state = shared.folder();
    writeResources(resources, 'shop.yaml', all);
    server = await startSignet(shared, { resources, state, trustDomain: 'shop.test' });
  }, rig.rigTimeout);
  afterAll(() => shared.end());
  beforeEach(() => {
    scope = newScope();
  });
  afterEach(() => scope.end());

  const go = (command: string, podName: string, ...args: string[]): Promise<Line> =>
    runGo(scope, [...command.split(' '), '-socket', server.socket(podName), ...args]);

  it('fetches the X.509-SVID of the pod whose socket it uses, and no other', async () => {
    const ofOrder = await go('x509 fetch', 'order');
    expect(ofOrder.svids).toMatchObject([
      { id: order, hint: 'main', verified: true, dnsNames: ['order.shop.svc'] },
    ]);
    expect(Object.keys(ofOrder.bundles ?? {})).toEqual(['shop.test']);
    const ofPayment = await go('x509 fetch', 'payment');
    expect(ofPayment.svids).toMatchObject([{ id: payment, verified: true, dnsNames: null }]);
  });

  it('says in the ready line which pod has which identity', () => {
    expect(server.ready.pods).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          namespace: 'shop',
          name: 'order',
          serviceAccount: 'order',
          spiffeIDs: [order],
        }),
        expect.objectContaining({ name: 'stranger', spiffeIDs: [] }),
      ]),
    );
  });

  it('refuses a pod without an identity, and says so', async () => {
    expect(await go('x509 fetch', 'stranger', '-timeout', '30s')).toMatchObject({
      code: 'PermissionDenied',
      error: expect.stringMatching(/identit/i),
    });
  });

  it('fetches the bundles, which are those of the bundle file', async () => {
    const { bundles } = await go('x509 bundles', 'order');
    const file = JSON.parse(readFileSync(server.ready.bundleFile, 'utf8')) as { keys: { use: string }[] };
    const { authorities } = await server.admin.listAuthorities({});
    expect(bundles?.['shop.test']).toHaveLength(file.keys.filter(({ use }) => use === 'x509-svid').length);
    expect(authorities.map(({ id }) => id)).toEqual(
      expect.arrayContaining([...(bundles?.['shop.test'] ?? [])]),
    );
  });

  it('follows a forced rotation of the authorities, raw and through an X509Source', async () => {
    const raw = await startGo(scope, ['x509', 'watch', '-socket', server.socket('order')]);
    const source = await startGo(scope, ['x509', 'watch', '-source', '-socket', server.socket('order')]);
    const before = await raw.next(({ svids }) => svids !== undefined);
    await source.next(({ svids }) => svids !== undefined);
    const old = before.svids?.[0];
    // A rotation alone replaces nothing early: what was signed is still good. Tainting the former authority does.
    expect((await signet(scope, ['ca', 'rotate', '--state', state])).exit.code).toBe(0);
    const active = await activeAuthority(server);
    const published = await raw.next(({ bundles }) => bundles?.['shop.test']?.includes(active) ?? false);
    expect(published.svids).toMatchObject([{ serial: old?.serial }]);
    expect((await signet(scope, ['ca', 'taint', old?.authority ?? '', '--state', state])).exit.code).toBe(0);
    const isNew = ({ svids }: Line): boolean =>
      svids?.[0] !== undefined && svids[0].authority !== old?.authority && svids[0].serial !== old?.serial;
    for (const watcher of [raw, source]) {
      const after = await watcher.next(isNew);
      expect(after.svids).toMatchObject([{ id: order, verified: true }]);
      // What the old authority signed is still trusted.
      expect(after.bundles?.['shop.test']).toEqual(
        expect.arrayContaining([old?.authority, after.svids?.[0]?.authority]),
      );
    }
    // At no moment did it see an SVID that its own bundle does not verify.
    expect(
      raw.program.lines.map((line) => JSON.parse(line) as Line).flatMap(({ svids }) => svids ?? []),
    ).not.toContainEqual(expect.objectContaining({ verified: false }));
    expect(raw.program.lines.join()).not.toContain('watchError');
  });

  it('fetches JWT-SVIDs that a JWTSource and the Workload API both accept, for their audience only', async () => {
    const { svids } = await runGo<SeenJwt>(scope, [
      ...['jwt', 'fetch', '-socket', server.socket('order'), '-audience', 'bank,ledger'],
    ]);
    expect(svids).toMatchObject([{ id: order, hint: 'main', audience: ['bank', 'ledger'], verified: true }]);
    const token = svids?.[0]?.token ?? '';
    // Another workload of the trust domain checks it.
    expect(await go('jwt validate', 'payment', '-token', token, '-audience', 'ledger')).toMatchObject({
      valid: true,
      svid: { id: order, claims: { sub: order } },
    });
    expect(await go('jwt validate', 'payment', '-token', token, '-audience', 'casino')).toMatchObject({
      valid: false,
      remoteError: expect.stringMatching(/casino/i),
      localError: expect.stringMatching(/audience/i),
    });
    const broken = `${token.slice(0, -8)}AAAAAAAA`;
    expect(await go('jwt validate', 'payment', '-token', broken, '-audience', 'bank')).toMatchObject({
      valid: false,
      remoteError: expect.stringMatching(/signature/i),
    });
  });

  it('publishes a new JWT authority to watchers before it signs with it', async () => {
    const watcher = await startGo(scope, ['jwt', 'watch-bundles', '-socket', server.socket('payment')]);
    const before = (await watcher.next(({ bundles }) => bundles !== undefined)).bundles?.['shop.test'] ?? [];
    expect((await signet(scope, ['ca', 'rotate', '--kind', 'jwt', '--state', state])).exit.code).toBe(0);
    const after = await watcher.next(({ bundles }) =>
      (bundles?.['shop.test'] ?? []).some((id) => !before.includes(id)),
    );
    expect(after.bundles?.['shop.test']).toEqual(expect.arrayContaining([...before]));
    expect(
      (await runGo<SeenJwt>(scope, ['jwt', 'fetch', '-socket', server.socket('order'), '-audience', 'x']))
        .svids,
    ).toMatchObject([{ verified: true }]);
  });

  it('calls over mutual TLS between two pods; the authorizers of both sides decide', async () => {
    const listener = await startGo(scope, [
      'tls',
      'server',
      '-socket',
      server.socket('payment'),
      '-authorize',
      `id:${order}`,
    ]);
    const address = String((await listener.next((line) => line['listening'] !== undefined))['listening']);
    const call = async (podName: string, authorize: string): Promise<Line> => {
      const client = await startGo(scope, [
        ...['tls', 'client', '-socket', server.socket(podName), '-address', address, '-authorize', authorize],
      ]);
      client.program.write('hello\n');
      return client.next((line) => line['ready'] === undefined);
    };
    expect(await call('order', `id:${payment}`)).toMatchObject({
      reply: `${order} hello`,
      peer: payment,
      tls: 'TLS 1.3',
    });
    expect(await call('order', 'member:shop.test')).toMatchObject({ peer: payment });
    // The client refuses the server …
    expect(await call('order', `id:${order}`)).toMatchObject({
      error: expect.stringContaining('unexpected ID'),
    });
    // … and the server refuses a client with a good SVID that is another's.
    expect(await call('payment', 'any')).toHaveProperty('error');
    await listener.next((line) => String(line['refused']).includes(`unexpected ID "${payment}"`));
  });

  it('keeps a TLS connection over a rotation, and makes new ones with the new SVID', async () => {
    const listener = await startGo(scope, ['tls', 'server', '-socket', server.socket('payment')]);
    const address = String((await listener.next((line) => line['listening'] !== undefined))['listening']);
    const connect = ['tls', 'client', '-socket', server.socket('order'), '-address', address];
    const kept = await startGo(scope, [...connect, '-keep']);
    const fresh = await startGo(scope, connect);
    const ask = async (client: typeof kept): Promise<Line> => {
      const from = client.mark();
      client.program.write('hello\n');
      return client.next((line) => line['ready'] === undefined, { from });
    };
    const before = await ask(fresh);
    expect(await ask(kept)).toMatchObject({ serial: before['serial'] });
    await replaceAuthority(server);
    await until('a new serial, with no call failed meanwhile', async () => {
      const answer = await ask(fresh);
      expect(answer.error).toBeUndefined();
      return answer['serial'] !== before['serial'];
    });
    expect(await ask(kept)).toMatchObject({ reply: `${order} hello`, serial: before['serial'] });
  });

  it('sends a new identity to a connected watcher as soon as the file that has it is saved', async () => {
    const watcher = await startGo(scope, ['x509', 'watch', '-socket', server.socket('payment')]);
    await watcher.next(({ svids }) => svids?.length === 1);
    const saved = performance.timeOrigin + performance.now();
    const second = identity(
      'payment-batch',
      { spiffeIDTemplate: '/ns/shop/batch', hint: 'batch' },
      'shop',
      'payment',
    );
    writeResources(resources, 'batch.yaml', [second]);
    const grown = await watcher.next(({ svids }) => svids?.length === 2);
    // Bounded widely here, because other tests use the machine too; test/bench/edit.bench.ts measures.
    expect(grown.at / 1e6 - saved).toBeLessThan(2000);
    expect(grown.svids).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ id: payment, verified: true }),
        expect.objectContaining({ id: 'spiffe://shop.test/ns/shop/batch', hint: 'batch', verified: true }),
      ]),
    );
    // JWT-SVIDs come for all identities, or for the one that is asked for.
    const fetchJwt = ['jwt', 'fetch', '-socket', server.socket('payment'), '-audience', 'bank'];
    const jwts = await runGo<SeenJwt>(scope, fetchJwt);
    expect(jwts.svids?.map(({ id }) => id).sort()).toEqual(
      ['spiffe://shop.test/ns/shop/batch', payment].sort(),
    );
    expect((await runGo<SeenJwt>(scope, [...fetchJwt, '-id', payment])).svids).toMatchObject([
      { id: payment },
    ]);
    // And takes it away again.
    const from = watcher.mark();
    writeResources(resources, 'batch.yaml', []);
    expect(await watcher.next(({ svids }) => svids?.length === 1, { from })).toMatchObject({
      svids: [{ id: payment }],
    });
  });

  it('takes an identity away from a connected workload when its resource goes, and gives it again when it comes', async () => {
    const watcher = await startGo(scope, ['x509', 'watch', '-socket', server.socket('payment')]);
    await watcher.next(({ svids }) => svids?.length === 1);
    try {
      writeResources(resources, 'shop.yaml', all.slice(0, -1));
      const { watchError } = await watcher.next((line) => line.watchError !== undefined);
      expect(watchError).toMatchObject({ code: 'PermissionDenied' });
    } finally {
      writeResources(resources, 'shop.yaml', all);
    }
    await watcher.next(({ svids }) => svids?.[0]?.id === payment, { from: watcher.mark() });
  });

  it('gives a workload the bundles of the trust domains that its identity federates with, and they verify', async () => {
    const partnerResources = scope.folder();
    writeResources(partnerResources, 'shop.yaml', all);
    const partner = await startSignet(scope, {
      resources: partnerResources,
      state: scope.folder(),
      trustDomain: 'partner.test',
    });
    const order2 = identity('order', { hint: 'main', federatesWith: ['partner.test'] });
    writeResources(resources, 'shop.yaml', [...all.filter((manifest) => manifest !== all.at(-2)), order2]);
    writeResources(resources, 'partner.yaml', [
      federated('partner.test', readFileSync(partner.ready.bundleFile, 'utf8')),
    ]);
    try {
      await until('the foreign bundle at the workload that asked for it', async () => {
        const { bundles } = await go('x509 bundles', 'order');
        return bundles?.['partner.test'] !== undefined;
      });
      expect(Object.keys((await go('x509 bundles', 'payment')).bundles ?? {})).toEqual(['shop.test']);
      // A workload of the partner calls ours: both need the other's bundle, and the partner has none of ours.
      const listener = await startGo(scope, [
        'tls',
        'server',
        '-socket',
        server.socket('order'),
        '-authorize',
        'member:partner.test',
      ]);
      const address = String((await listener.next((line) => line['listening'] !== undefined))['listening']);
      const client = await startGo(scope, [
        'tls',
        'client',
        '-socket',
        partner.socket('order'),
        '-address',
        address,
      ]);
      client.program.write('hello\n');
      expect(await client.next((line) => line.error !== undefined)).toMatchObject({
        error: expect.stringContaining('no X.509 bundle for trust domain "shop.test"'),
      });
      writeResources(partnerResources, 'partner.yaml', [
        federated('shop.test', readFileSync(server.ready.bundleFile, 'utf8')),
        identity(
          'order-abroad',
          { spiffeIDTemplate: '/ns/shop/abroad', federatesWith: ['shop.test'] },
          'shop',
          'order',
        ),
      ]);
      await until('a call across trust domains', async () => {
        const from = client.mark();
        client.program.write('hello\n');
        const answer = await client.next(() => true, { from });
        return (
          answer['peer'] === order && String(answer['reply']).startsWith('spiffe://partner.test/ns/shop/')
        );
      });
    } finally {
      writeResources(resources, 'partner.yaml', []);
      writeResources(resources, 'shop.yaml', all);
    }
  });
});
