/** Requests and identities that are longer than any may be, in Envoy with the served filter that enforces and no other. */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { once } from 'node:events';
import { HTTP_CONNECTION_MANAGER } from '../../src/access/mesh/envoy/connection-manager.js';
import { MAX_PATH_LENGTH } from '../../src/access/policy/path.js';
import { MAX_SPIFFE_ID_BYTES } from '../../src/identity/spiffe/id.js';
import { exportPkcs8, generateKeyPair, type KeyPair } from '../../src/identity/pki/keys.js';
import { encodePem } from '../../src/identity/pki/pem.js';
import type { Credentials } from '../rig/credentials.js';
import { answerHello, bootstrap, echo, httpManager, listener, serverTls } from '../rig/envoy-config.js';
import { startEnvoyProxy, type EnvoyProxy } from '../rig/envoy-proxy.js';
import { newMeshClient, type MeshClient } from '../rig/mesh-client.js';
import * as rig from '../rig/rig.js';
import { makeCertificate, type TestCertificate } from '../support/certificates.js';
import { FilterServer } from './envoy-served.js';
import { contextOf, policy, TARGET } from './envoy-target.js';

jest.setTimeout(60_000);

const CONTEXT = contextOf([
  policy('p', [
    { from: [{ trustDomains: ['td'] }], to: [{ http: { paths: [{ prefix: '/' }] } }] },
    { from: [{ trustDomains: ['td'] }] },
  ]),
]);
const NOW = Date.now();

(rig.isSkipped('envoy') ? describe.skip : describe)('lengths in Envoy', () => {
  const server = new FilterServer();
  let authority: TestCertificate;
  let envoy: EnvoyProxy;
  let client: MeshClient;
  const known = new Map<string, Promise<Credentials>>();

  const fresh = async (): Promise<{ pair: KeyPair; notBefore: number; notAfter: number }> => ({
    pair: await generateKeyPair('ec-p256'),
    notBefore: NOW - 60_000,
    notAfter: NOW + 3_600_000,
  });
  const issue = async (uri: string): Promise<Credentials> => {
    const { der, pair } = makeCertificate({
      ...{ subject: 'peer', uris: [uri], issuer: authority, keyUsage: ['digitalSignature'] },
      ...(await fresh()),
    });
    return {
      cert: encodePem('CERTIFICATE', der),
      key: encodePem('PRIVATE KEY', exportPkcs8(pair.privateKey)),
    };
  };
  const credentialsOf = (uri: string): Promise<Credentials> => {
    const made = known.get(uri) ?? issue(uri);
    known.set(uri, made);
    return made;
  };

  beforeAll(async () => {
    await Promise.all([rig.envoy(), server.open()]);
    authority = makeCertificate({ subject: 'td', ca: true, keyUsage: ['keyCertSign'], ...(await fresh()) });
    // Envoy's own validator: the SPIFFE one would not let the longest IDs come as far as the filters.
    const tls = serverTls(
      await credentialsOf('spiffe://td/ns/shop/sa/payments'),
      { td: encodePem('CERTIFICATE', authority.der) },
      { optional: true },
    );
    const { set, inventory } = CONTEXT;
    const chains = server.chains('in', {
      sources: { set, inventory, target: TARGET, issuers: [] },
      plaintext: false,
    });
    const manager = httpManager(answerHello, chains.http.slice(1), {
      ...HTTP_CONNECTION_MANAGER,
      max_request_headers_kb: 128,
    });
    const place = { transportSocket: tls };
    envoy = await startEnvoyProxy(
      bootstrap(
        [
          listener(manager, { name: 'http', ...place }),
          listener(echo, { name: 'raw', ...place, networkFilters: chains.network }),
        ],
        [server.cluster],
      ),
    );
    client = newMeshClient({ trust: {}, of: credentialsOf });
  }, rig.rigTimeout);
  afterAll(async () => {
    client.close();
    await envoy.stop();
    await server.close();
  });

  const SOURCE = 'spiffe://td/ns/shop/sa/orders';
  const ask = async (call: { path?: string; host?: string; source?: string }): Promise<number> =>
    (await client.request({ port: envoy.port('http'), source: SOURCE, path: '/', ...call })).status;

  it.each([
    ['a path', (length: number) => `/${'a'.repeat(length - 1)}`],
    ['many segments', (length: number) => '/ab'.repeat(Math.ceil(length / 3)).slice(0, length)],
    ['a query', (length: number) => `/?${'a'.repeat(length - 2)}`],
  ])('the longest path is allowed and one character more is not: %s', async (_, path) => {
    expect([
      await ask({ path: path(MAX_PATH_LENGTH) }),
      await ask({ path: path(MAX_PATH_LENGTH + 1) }),
    ]).toEqual([200, 403]);
    expect(await ask({ path: path(60_000) })).toBe(403);
  });

  it('Envoy itself refuses bytes that could hide a length', async () => {
    for (const bytes of ['\xff', '\xc3\xa9', '\0']) {
      const socket = await client.connect({ port: envoy.port('http'), source: SOURCE });
      const answer = once(socket, 'data');
      socket.write(Buffer.from(`GET /?${bytes} HTTP/1.1\r\nhost: a\r\n\r\n`, 'latin1'));
      expect(String((await answer)[0])).toMatch(/^HTTP\/1\.1 400/);
      socket.destroy();
    }
  });

  it('the longest host is allowed and one character more is not', async () => {
    expect([await ask({ host: 'a'.repeat(253) }), await ask({ host: 'a'.repeat(254) })]).toEqual([200, 403]);
  });

  it('the longest SPIFFE ID is allowed and one byte more is not', async () => {
    const id = (length: number): string => `${SOURCE}/`.padEnd(length, 'a');
    for (const [length, status] of [
      [91, 200],
      [MAX_SPIFFE_ID_BYTES, 200],
      [MAX_SPIFFE_ID_BYTES + 1, 403],
      [8000, 403],
    ] as const)
      expect([length, await ask({ source: id(length) })]).toEqual([length, status]);
    // A network filter cannot tell. Whoever can sign such an ID for its trust domain can sign a short one as well.
    expect(await client.echoes({ port: envoy.port('raw'), source: id(MAX_SPIFFE_ID_BYTES + 1) })).toBe(true);
  });
});
