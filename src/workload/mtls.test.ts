import { afterEach, describe, expect, it } from '@jest/globals';
import { credentials, Server as GrpcServer, ServerCredentials } from '@grpc/grpc-js';
import { once } from 'node:events';
import { createServer as createHttp2Server, connect as connectHttp2 } from 'node:http2';
import { Agent as HttpsAgent, createServer as createHttpsServer, request as httpsRequest } from 'node:https';
import { connect as connectPlain, type AddressInfo, type Server as NetServer } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectPlainTls, createServer as createPlainTlsServer } from 'node:tls';
import { FakeWorkloadApi, x509Answer } from '../../test/support/fake-workload-api.js';
import { TestAuthority, type TestSvid } from '../../test/support/test-authority.js';
import { compilePolicySet } from '../access/policy/policy-set.js';
import { HealthClient, HealthService, type HealthCheckResponse } from '../rpc/gen/grpc/health/v1/health.js';
import { encodePem } from '../identity/pki/pem.js';
import {
  authorizeAny,
  authorizeId,
  authorizeMemberOf,
  authorizeNamespace,
  authorizeOneOf,
  authorizeServiceAccount,
  type PeerAuthorizer,
} from './authorizer.js';
import type { PeerError } from './errors.js';
import { httpAuthorizer } from './http-authorizer.js';
import { createMtlsClient, type MtlsClient, type MtlsResponse } from './mtls-client.js';
import { createMtlsServer } from './mtls-server.js';
import { peerIdOf } from './peer.js';
import { connectTls, tlsClientOptions } from './tls-client.js';
import { tlsServerOptions } from './tls-options.js';
import { createTlsServer, guardServer } from './tls-server.js';
import { createX509Source, type X509Source } from './x509-source.js';

const ORDER = 'spiffe://example.org/ns/payments/sa/order-service';
const PAYMENT = 'spiffe://example.org/ns/payments/sa/payment-service';
const FOREIGN = 'spiffe://other.example/ns/payments/sa/order-service';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Workload {
  readonly api: FakeWorkloadApi;
  readonly source: X509Source;
}

async function workload(
  svid: TestSvid,
  bundle: readonly TestAuthority[],
  federated: Readonly<Record<string, readonly TestAuthority[]>> = {},
): Promise<Workload> {
  const ders = Object.fromEntries(
    Object.entries(federated).map(([name, list]) => [name, list.map(({ certificate }) => certificate)]),
  );
  const api = await FakeWorkloadApi.start(
    x509Answer(
      [svid],
      bundle.map(({ certificate }) => certificate),
      ders,
    ),
  );
  cleanups.push(() => api.stop());
  const source = await createX509Source({ address: api.address });
  cleanups.push(() => source.close());
  return { api, source };
}

async function listen(server: NetServer): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => {
    server.close();
    (server as { closeAllConnections?: () => void }).closeAllConnections?.();
  });
  return (server.address() as AddressInfo).port;
}

/** The refusals of a server, each of which can be waited for. */
class Refusals {
  readonly errors: PeerError[] = [];
  #waiting: (() => void)[] = [];
  readonly onRefused = (error: PeerError): void => {
    this.errors.push(error);
    for (const resolve of this.#waiting.splice(0)) resolve();
  };
  async code(): Promise<string> {
    if (this.errors.length === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.errors[0]?.code ?? '';
  }
}

interface Shop {
  readonly authority: TestAuthority;
  readonly server: Workload;
  readonly port: number;
  readonly refusals: Refusals;
  /** Requests that reached the handler. */
  readonly handled: string[];
  client(source: X509Source, authorize?: PeerAuthorizer): MtlsClient;
}

async function shop(
  authorize: Parameters<typeof createMtlsServer>[1] = authorizeAny,
  federated: Readonly<Record<string, readonly TestAuthority[]>> = {},
): Promise<Shop> {
  const authority = await TestAuthority.create('example.org');
  const server = await workload(await authority.issue(PAYMENT), [authority], federated);
  const refusals = new Refusals();
  const handled: string[] = [];
  const https = createMtlsServer(
    server.source,
    authorize,
    (_, response, { peer, decision }) => {
      handled.push(peer.uri);
      response.end(JSON.stringify({ peer: peer.uri, rule: decision?.decidedBy }));
    },
    { onRefused: refusals.onRefused, explain: true },
  );
  const port = await listen(https);
  return {
    authority,
    server,
    port,
    refusals,
    handled,
    client(source, accept = authorizeId(PAYMENT)) {
      const client = createMtlsClient(source, accept);
      cleanups.push(() => client.close());
      return client;
    },
  };
}

describe('mutual TLS', () => {
  it('lets two workloads talk over TLS 1.3, each knowing the other', async () => {
    const { authority, port, client, handled } = await shop();
    const order = await workload(await authority.issue(ORDER), [authority]);
    const answer = await client(order.source).request(`https://127.0.0.1:${port}/`, {
      method: 'POST',
      body: 'x',
    });
    expect(answer.status).toBe(200);
    expect(answer).toMatchObject({ peer: { uri: PAYMENT }, protocol: 'TLSv1.3' });
    expect(JSON.parse(answer.body.toString())).toMatchObject({ peer: ORDER });
    expect(handled).toEqual([ORDER]);
    const socket = await connectTls(order.source, authorizeId(PAYMENT), { host: '127.0.0.1', port });
    expect(socket.getProtocol()).toBe('TLSv1.3');
    expect(peerIdOf(socket)?.uri).toBe(PAYMENT);
    socket.destroy();
  });

  it('refuses a stranger without a certificate in the handshake', async () => {
    const { port, refusals, handled } = await shop();
    const socket = connectPlainTls({ host: '127.0.0.1', port, rejectUnauthorized: false });
    const cause = await new Promise<{ code?: string }>((resolve) => {
      socket.once('error', resolve);
      socket.once('end', () => resolve({ code: 'ended' }));
    });
    expect(cause.code).toBe('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED');
    expect(await refusals.code()).toBe('PeerCertificateMissing');
    expect(handled).toEqual([]);
  });

  it('refuses TLS 1.2', async () => {
    const { authority, port } = await shop();
    const order = await workload(await authority.issue(ORDER), [authority]);
    const old = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const;
    const socket = connectPlainTls({
      ...tlsClientOptions(order.source, authorizeAny),
      ...old,
      host: '127.0.0.1',
      port,
    });
    const [error] = (await once(socket, 'error')) as [{ code: string }];
    expect(error.code).toContain('PROTOCOL_VERSION');
  });

  it.each<[string, (authority: TestAuthority) => Promise<TestSvid>, string]>([
    [
      'an SVID of an unknown authority',
      async () => (await TestAuthority.create('example.org')).issue(ORDER),
      'PeerSvidInvalid',
    ],
    [
      'an SVID that is over',
      (authority) =>
        authority.issue(ORDER, { notBefore: Date.now() - 7_200_000 / 4, notAfter: Date.now() - 1000 }),
      'PeerSvidInvalid',
    ],
    [
      'an ID that is not let in',
      (authority) => authority.issue('spiffe://example.org/ns/other/sa/x'),
      'PeerNotAuthorized',
    ],
  ])('refuses %s before the handler sees anything', async (_, issue, code) => {
    const { authority, port, refusals, handled } = await shop(authorizeNamespace('example.org', 'payments'));
    const svid = await issue(authority);
    const socket = connectPlainTls({
      host: '127.0.0.1',
      port,
      rejectUnauthorized: false,
      cert: encodePem('CERTIFICATE', svid.chain),
      key: encodePem('PRIVATE KEY', svid.key),
    });
    socket.on('error', () => undefined);
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    await once(socket, 'close');
    expect(await refusals.code()).toBe(code);
    expect(handled).toEqual([]);
  });

  it('never lets one trust domain’s authority vouch for another’s identity', async () => {
    const foreign = await TestAuthority.create('other.example');
    // An authority that TLS itself trusts signs an ID of our own trust domain: only our check can tell.
    const evil = await TestAuthority.create('example.org');
    const { port, refusals, handled, authority } = await shop(authorizeAny, {
      'other.example': [foreign, evil],
    });
    const legit = await workload(await foreign.issue(FOREIGN), [foreign], { 'example.org': [authority] });
    const socket = await connectTls(legit.source, authorizeAny, { host: '127.0.0.1', port });
    socket.destroy();
    const client = await workload(await evil.issue(ORDER), [authority]);
    const attempt = connectPlainTls({
      ...tlsClientOptions(client.source, authorizeAny),
      host: '127.0.0.1',
      port,
    });
    attempt.on('error', () => undefined);
    attempt.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    await once(attempt, 'close');
    expect(await refusals.code()).toBe('PeerSvidInvalid');
    expect(handled).toEqual([]);
  });

  it('refuses a server that is somebody else, before a byte is sent', async () => {
    const { authority, port, client, handled } = await shop();
    const order = await workload(await authority.issue(ORDER), [authority]);
    const wrong = client(order.source, authorizeId(ORDER));
    await expect(wrong.request(`https://127.0.0.1:${port}/`)).rejects.toMatchObject({
      code: 'PeerNotAuthorized',
      spiffeId: PAYMENT,
    });
    await expect(
      connectTls(order.source, authorizeMemberOf('other.example'), { host: '127.0.0.1', port }),
    ).rejects.toMatchObject({ code: 'PeerNotAuthorized' });
    expect(handled).toEqual([]);
  });

  it('refuses a server whose authority vouches for another trust domain', async () => {
    const authority = await TestAuthority.create('example.org');
    const evil = await TestAuthority.create('example.org');
    const server = await workload(await evil.issue(PAYMENT), [evil]);
    const https = createMtlsServer(server.source, authorizeAny, (_, response) => response.end());
    const port = await listen(https);
    const order = await workload(await authority.issue(ORDER), [authority], { 'other.example': [evil] });
    await expect(connectTls(order.source, authorizeAny, { host: '127.0.0.1', port })).rejects.toMatchObject({
      code: 'PeerSvidInvalid',
    });
  });

  it('survives a peer that breaks TLS in the middle, before the handshake and after it', async () => {
    const { authority, port, refusals, client } = await shop();
    const order = await workload(await authority.issue(ORDER), [authority]);
    const nonsense = connectPlain({ host: '127.0.0.1', port });
    nonsense.on('error', () => undefined);
    nonsense.write('GET / HTTP/1.1\r\n\r\n');
    await once(nonsense, 'close');
    expect(await refusals.code()).toBe('PeerSvidInvalid');

    const raw = connectPlain({ host: '127.0.0.1', port });
    const between = new Duplex({
      read: () => undefined,
      write: (chunk: Buffer, _, done) => raw.write(chunk, () => done()),
    });
    raw.on('data', (chunk) => between.push(chunk)).on('error', () => undefined);
    const socket = await connectTls(order.source, authorizeAny, { socket: between });
    socket.on('error', () => undefined);
    raw.write('this is no TLS record, and the server must hang up');
    await once(raw, 'close');
    socket.destroy();
    expect((await client(order.source).request(`https://127.0.0.1:${port}/`)).status).toBe(200);
  });

  it('gives out no session that could be resumed past the check', async () => {
    const { authority, port } = await shop();
    const order = await workload(await authority.issue(ORDER), [authority]);
    const first = await connectTls(order.source, authorizeAny, { host: '127.0.0.1', port });
    let session: Buffer | undefined;
    first.on('session', (ticket: Buffer) => (session = ticket));
    first.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    await once(first, 'data');
    first.destroy();
    const options = {
      ...tlsClientOptions(order.source, authorizeAny),
      ...(session === undefined ? {} : { session }),
    };
    const second = connectPlainTls({ ...options, host: '127.0.0.1', port });
    await once(second, 'secureConnect');
    expect(second.isSessionReused()).toBe(false);
    second.destroy();
  });

  it('works for servers and clients that others make: https, http2 and plain TLS', async () => {
    const authority = await TestAuthority.create('example.org');
    const server = await workload(await authority.issue(PAYMENT), [authority]);
    const order = await workload(await authority.issue(ORDER), [authority]);
    const stranger = await workload(await authority.issue('spiffe://example.org/stranger'), [authority]);
    const onlyOrder = authorizeOneOf([ORDER]);

    const https = createHttpsServer(tlsServerOptions(server.source), (request, response) =>
      response.end(peerIdOf(request.socket)?.uri),
    );
    guardServer(https, server.source, onlyOrder);
    const httpsPort = await listen(https);
    const get = (source: X509Source): Promise<string> =>
      new Promise((resolve, reject) => {
        const options = {
          host: '127.0.0.1',
          port: httpsPort,
          ...tlsClientOptions(source, authorizeId(PAYMENT)),
        };
        httpsRequest(options, (response) => {
          response.setEncoding('utf8').once('data', resolve);
        })
          .once('error', reject)
          .end();
      });
    expect(await get(order.source)).toBe(ORDER);
    await expect(get(stranger.source)).rejects.toThrow();

    const http2 = createHttp2Server((request, response) => {
      response.end(String(peerIdOf(request.stream.session?.socket ?? {})?.uri));
    });
    const tls = createTlsServer(server.source, onlyOrder, (socket) => http2.emit('connection', socket), {
      ALPNProtocols: ['h2'],
    });
    const http2Port = await listen(tls);
    const session = connectHttp2(
      `https://127.0.0.1:${http2Port}`,
      tlsClientOptions(order.source, authorizeId(PAYMENT)),
    );
    cleanups.push(() => session.destroy());
    const stream = session.request({ ':path': '/' });
    stream.setEncoding('utf8');
    expect((await once(stream, 'data')) as unknown[]).toEqual([ORDER]);

    const plain = createPlainTlsServer(tlsServerOptions(server.source), (socket) => socket.end('hello'));
    guardServer(plain, server.source, onlyOrder);
    const plainPort = await listen(plain);
    const socket = await connectTls(order.source, authorizeAny, { host: '127.0.0.1', port: plainPort });
    expect(((await once(socket, 'data')) as [Buffer])[0].toString()).toBe('hello');
  });
});

describe('chains and pools', () => {
  it('take an SVID of an intermediate authority, at both ends', async () => {
    const root = await TestAuthority.create('example.org');
    const issuing = await TestAuthority.create('example.org', root);
    const server = await workload(await issuing.issue(PAYMENT), [root]);
    const order = await workload(await issuing.issue(ORDER), [root]);
    expect(order.source.svid().chain).toHaveLength(2);
    const https = createMtlsServer(server.source, authorizeId(ORDER), (_, response) => response.end('ok'));
    const port = await listen(https);
    const client = createMtlsClient(order.source, authorizeId(PAYMENT));
    cleanups.push(() => client.close());
    expect((await client.request(`https://127.0.0.1:${port}/`)).body.toString()).toBe('ok');
  });

  it('never lend a connection that one authorizer has accepted to another', async () => {
    const { authority, port } = await shop();
    const order = await workload(await authority.issue(ORDER), [authority]);
    const agent = new HttpsAgent({ keepAlive: true });
    cleanups.push(() => agent.destroy());
    const get = (authorize: PeerAuthorizer): Promise<number | undefined> =>
      new Promise((resolve, reject) => {
        const options = { agent, host: '127.0.0.1', port, ...tlsClientOptions(order.source, authorize) };
        httpsRequest(options, (response) => {
          response.resume().once('end', () => resolve(response.statusCode));
        })
          .once('error', reject)
          .end();
      });
    expect(await get(authorizeId(PAYMENT))).toBe(200);
    await expect(get(authorizeId(ORDER))).rejects.toMatchObject({ code: 'PeerNotAuthorized' });
  });

  it('send a request again, once, when a kept connection was closed under it', async () => {
    const authority = await TestAuthority.create('example.org');
    const server = await workload(await authority.issue(PAYMENT), [authority]);
    const order = await workload(await authority.issue(ORDER), [authority]);
    let requests = 0;
    const https = createMtlsServer(server.source, authorizeAny, (request, response) => {
      requests++;
      // The second request on a connection meets a server that closes it without an answer.
      if (requests === 2 || request.method === 'POST') request.socket.destroy();
      else response.end('ok');
    });
    const port = await listen(https);
    const client = createMtlsClient(order.source, authorizeId(PAYMENT));
    cleanups.push(() => client.close());
    const url = `https://127.0.0.1:${port}/`;
    await client.request(url);
    expect((await client.request(url)).status).toBe(200);
    expect(requests).toBe(3);
    await expect(client.request(url, { method: 'POST' })).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(requests).toBe(4);
  });

  it('bound what a server may answer', async () => {
    const { authority, port } = await shop();
    const order = await workload(await authority.issue(ORDER), [authority]);
    const client = createMtlsClient(order.source, authorizeAny, { maxResponseBytes: 10 });
    cleanups.push(() => client.close());
    await expect(client.request(`https://127.0.0.1:${port}/`)).rejects.toMatchObject({
      code: 'ResponseTooLarge',
    });
  });

  it('carry gRPC: the server is handed verified sockets, the client checks the server', async () => {
    const authority = await TestAuthority.create('example.org');
    const server = await workload(await authority.issue(PAYMENT), [authority]);
    const order = await workload(await authority.issue(ORDER), [authority]);
    const grpc = new GrpcServer();
    grpc.addService(HealthService, {
      check: (_: unknown, callback: (error: null, value: HealthCheckResponse) => void) =>
        callback(null, { status: 1 }),
    });
    const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
    cleanups.push(() => {
      injector.destroy();
      grpc.forceShutdown();
    });
    const tls = createTlsServer(
      server.source,
      authorizeId(ORDER),
      (socket) => injector.injectConnection(socket),
      {
        ALPNProtocols: ['h2'],
      },
    );
    const port = await listen(tls);
    const call = (authorize: PeerAuthorizer): Promise<HealthCheckResponse> => {
      const { ca, key, cert, checkServerIdentity } = tlsClientOptions(order.source, authorize);
      const material = [ca, key, cert].map((pem) => Buffer.from([pem].flat().map(String).join(''))) as [
        Buffer,
        Buffer,
        Buffer,
      ];
      const checked = checkServerIdentity === undefined ? {} : { checkServerIdentity };
      const client = new HealthClient(`127.0.0.1:${port}`, credentials.createSsl(...material, checked));
      cleanups.push(() => client.close());
      return new Promise((resolve, reject) => {
        client.check({ service: '' }, (error, answer) => {
          if (error === null) resolve(answer);
          else reject(error);
        });
      });
    };
    expect(await call(authorizeId(PAYMENT))).toEqual({ status: 1 });
    await expect(call(authorizeId(ORDER))).rejects.toThrow(/is not spiffe/);
  });
});

describe('authorizers', () => {
  const ask = (authorize: PeerAuthorizer, uri: string): boolean => {
    const [, , trustDomain = '', ...path] = uri.split('/');
    return authorize({ uri, trustDomain, path: `/${path.join('/')}` }).allowed;
  };

  it('compare whole values and whole segments', () => {
    expect(ask(authorizeId(ORDER), ORDER)).toBe(true);
    expect(ask(authorizeId(ORDER), `${ORDER}2`)).toBe(false);
    expect(ask(authorizeOneOf([]), ORDER)).toBe(false);
    expect(ask(authorizeOneOf([PAYMENT, ORDER]), ORDER)).toBe(true);
    expect(ask(authorizeMemberOf('example.org'), ORDER)).toBe(true);
    expect(ask(authorizeMemberOf('example.org'), 'spiffe://example.org.evil/x')).toBe(false);
    expect(ask(authorizeNamespace('example.org', 'payments'), ORDER)).toBe(true);
    expect(ask(authorizeNamespace('example.org', 'pay'), ORDER)).toBe(false);
    expect(
      ask(authorizeNamespace('example.org', 'payments'), 'spiffe://example.org/x/ns/payments/sa/y'),
    ).toBe(false);
    expect(ask(authorizeNamespace('example.org', 'payments'), FOREIGN)).toBe(false);
    expect(ask(authorizeServiceAccount('example.org', 'payments', 'order-service'), ORDER)).toBe(true);
    expect(ask(authorizeServiceAccount('example.org', 'payments', 'order-service'), FOREIGN)).toBe(false);
    expect(() => authorizeId('example.org/x')).toThrow();
    expect(() => authorizeNamespace('example.org', 'a/../b')).toThrow();
  });
});

describe('an access policy at the server', () => {
  it('lets through what a rule allows and answers 403 with the reason for the rest', async () => {
    const policies = compilePolicySet(
      [
        {
          kind: 'AccessPolicy',
          metadata: { name: 'payment-access', namespace: 'payments' },
          spec: {
            target: {},
            rules: [
              {
                name: 'orders-may-pay',
                from: [{ serviceAccounts: [{ name: 'order-service' }] }],
                to: [{ http: { methods: ['POST'], paths: [{ exact: '/api/payments' }] } }],
              },
            ],
          },
        },
      ],
      { trustDomain: 'example.org' },
    );
    const target = {
      namespace: 'payments',
      name: 'payment-service',
      serviceAccount: 'payment-service',
      labels: {},
      namespaceLabels: {},
    };
    const { authority, port, client, handled } = await shop(httpAuthorizer(policies, target));
    const order = await workload(await authority.issue(ORDER), [authority]);
    const orders = client(order.source);
    const ask = (method: string, path: string): Promise<MtlsResponse> =>
      orders.request(`https://127.0.0.1:${port}${path}`, { method });
    const paid = await ask('POST', '/api/payments');
    expect([paid.status, JSON.parse(paid.body.toString())]).toMatchObject([
      200,
      { rule: { rule: 'orders-may-pay' } },
    ]);
    const denied = await ask('DELETE', '/api/payments');
    expect(denied.status).toBe(403);
    expect(denied.body.toString()).toContain('method DELETE is not POST');
    expect((await ask('POST', '/api/payments;x')).body.toString()).toContain('refused');
    expect(handled).toHaveLength(1);
  });
});

describe('rotation', () => {
  it('replaces the CA under load: no call fails and no connection is dropped', async () => {
    const { authority, server, port, client } = await shop(authorizeId(ORDER));
    const order = await workload(await authority.issue(ORDER), [authority]);
    const orders = client(order.source);
    const url = `https://127.0.0.1:${port}/`;
    const kept = await connectTls(order.source, authorizeId(PAYMENT), { host: '127.0.0.1', port });
    cleanups.push(() => kept.destroy());

    let calls = 0;
    let stop = false;
    const failures: unknown[] = [];
    const load = Array.from({ length: 4 }, async (_, lane) => {
      while (!stop) {
        // Half of the lanes open a connection for each call, so that every moment has a handshake.
        const once = lane % 2 === 0 ? orders : createMtlsClient(order.source, authorizeId(PAYMENT));
        await once.request(url).then(
          () => calls++,
          (error: unknown) => failures.push(error),
        );
        if (once !== orders) once.close();
      }
    });
    const more = async (count: number): Promise<void> => {
      const goal = calls + count;
      while (calls < goal && failures.length === 0) await new Promise((resolve) => setImmediate(resolve));
    };
    const push = async (
      workloadNow: Workload,
      svid: TestSvid,
      bundle: readonly TestAuthority[],
    ): Promise<void> => {
      const done = new Promise<void>((resolve) => {
        const end = workloadNow.source.onUpdate(() => {
          end();
          resolve();
        });
      });
      workloadNow.api.x509.set(
        x509Answer(
          [svid],
          bundle.map(({ certificate }) => certificate),
        ),
      );
      await done;
    };
    await more(20);
    const next = await TestAuthority.create('example.org');
    // Publish, then sign by the new one, then retire the old one; calls in between.
    const oldServer = await authority.issue(PAYMENT);
    const oldOrder = await authority.issue(ORDER);
    await push(server, oldServer, [authority, next]);
    await more(10);
    await push(order, oldOrder, [authority, next]);
    await more(10);
    await push(order, await next.issue(ORDER), [authority, next]);
    await more(10);
    await push(server, await next.issue(PAYMENT), [authority, next]);
    await more(10);
    await push(server, await next.issue(PAYMENT), [next]);
    await push(order, await next.issue(ORDER), [next]);
    await more(20);
    stop = true;
    await Promise.all(load);
    expect(failures).toEqual([]);
    expect(calls).toBeGreaterThanOrEqual(80);

    // The connection from before the rotation still serves; a new one shows the new authority's SVID.
    kept.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    expect(String(((await once(kept, 'data')) as [Buffer])[0])).toContain('200 OK');
    const fresh = connectPlainTls({
      ...tlsClientOptions(order.source, authorizeId(PAYMENT)),
      host: '127.0.0.1',
      port,
    });
    await once(fresh, 'secureConnect');
    expect(fresh.getPeerX509Certificate()?.serialNumber.toLowerCase()).toBe(server.source.svid().serial);
    fresh.destroy();
    // And the old authority is trusted no more.
    const late = await workload(await authority.issue(ORDER), [next]);
    const refused = connectPlainTls({
      ...tlsClientOptions(late.source, authorizeAny),
      host: '127.0.0.1',
      port,
    });
    refused.on('error', () => undefined);
    await once(refused, 'close');
  });

  it('keeps the old SVID in use when the source has none to give', async () => {
    const { authority, server, port, client } = await shop();
    const order = await workload(await authority.issue(ORDER), [authority]);
    server.source.close();
    expect((await client(order.source).request(`https://127.0.0.1:${port}/`)).status).toBe(200);
  });
});
