import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, type PeerCertificate } from 'node:tls';
import { AuthorityKind } from '../../src/rpc/gen/signet/admin/v1/admin.js';
import * as rig from '../rig/rig.js';
import { until } from '../support/until.js';
import { runGo } from './support/clients.js';
import { clientConfig, getPort, serverConfig, startEnvoy, type Answer, type Envoy } from './support/envoy.js';
import { federated, identity, namespace, pod, writeResources } from './support/resources.js';
import { newScope } from './support/scope.js';
import { activeAuthority, replaceAuthority, signet, startSignet, type Signet } from './support/signet.js';

jest.setTimeout(60_000);

const front = 'spiffe://shop.test/ns/shop/sa/front';
const back = 'spiffe://shop.test/ns/shop/sa/back';

/** A certificate and key of a pod, as a program would hold them that is not Envoy. */
interface Credentials {
  readonly cert: string;
  readonly key: string;
}

(rig.isSkipped('envoy') || rig.isSkipped('go') ? describe.skip : describe)(
  'two Envoys with SDS and mutual TLS',
  () => {
    const scope = newScope();
    let resources: string;
    let state: string;
    let server: Signet;
    let backEnvoy: Envoy;
    let frontEnvoy: Envoy;

    beforeAll(async () => {
      await Promise.all([rig.envoy(), rig.spiffeClient()]);
      resources = scope.folder();
      state = scope.folder();
      const pods = [...pod('front'), ...pod('back'), identity('front'), identity('back')];
      writeResources(resources, 'shop.yaml', [namespace('shop'), ...pods]);
      server = await startSignet(scope, { resources, state, trustDomain: 'shop.test' });
      backEnvoy = await startEnvoy(scope, serverConfig(server.socket('back')));
      frontEnvoy = await startEnvoy(scope, clientConfig(server.socket('front'), backEnvoy.port, back));
    }, rig.rigTimeout);
    afterAll(() => scope.end());

    const call = async (): Promise<Answer> => getPort(frontEnvoy.port);

    const credentialsOf = async (from: Signet, podName: string): Promise<Credentials> => {
      const key = join(scope.folder(), 'key.pem');
      const { svids } = await runGo(scope, [
        'x509',
        'fetch',
        '-socket',
        from.socket(podName),
        '-write-key',
        key,
      ]);
      return { cert: svids?.[0]?.pem ?? '', key: readFileSync(key, 'utf8') };
    };

    it('carries a call, and each side knows the other by its SPIFFE ID', async () => {
      expect(await call()).toMatchObject({
        status: 200,
        body: 'hello',
        headers: { 'x-peer': front, 'x-server': back, 'x-tls': 'TLSv1.3' },
      });
    });

    it('gives Envoy the SPIFFE validator and keeps the key out of its configuration dump', async () => {
      const dump = await backEnvoy.admin('/config_dump?include_eds');
      expect(dump).toContain('envoy.tls.cert_validator.spiffe');
      expect(dump).not.toContain('PRIVATE KEY');
    });

    it('takes a rotation live on both sides, and no call fails meanwhile', async () => {
      const own = await credentialsOf(server, 'front');
      const former = await activeAuthority(server);
      const before = {
        client: (await call()).headers['x-peer-serial'],
        server: (await handshake(backEnvoy.port, own)).serialNumber,
      };
      expect((await signet(scope, ['ca', 'rotate', '--state', state])).exit.code).toBe(0);
      expect((await signet(scope, ['ca', 'taint', former, '--state', state])).exit.code).toBe(0);
      await until('new serials on both sides, each call answered', async () => {
        const answer = await call();
        expect(answer).toMatchObject({ status: 200, headers: { 'x-peer': front, 'x-server': back } });
        // The credentials are the old ones: what the old authority signed stays good.
        const { serialNumber } = await handshake(backEnvoy.port, own);
        return answer.headers['x-peer-serial'] !== before.client && serialNumber !== before.server;
      });
      // And again and again: rotations in a row are no special case.
      for (let round = 0; round < 3; round++) {
        const last = (await call()).headers['x-peer-serial'];
        await replaceAuthority(server);
        await until('the next serial', async () => {
          const answer = await call();
          expect(answer.status).toBe(200);
          return answer.headers['x-peer-serial'] !== last;
        });
      }
    });

    it('replaces at once what a tainted authority signed, and refuses it once that is revoked', async () => {
      const own = await credentialsOf(server, 'front');
      const last = (await call()).headers['x-peer-serial'];
      const old = await replaceAuthority(server);
      await until(
        'an SVID of the new authority',
        async () => (await call()).headers['x-peer-serial'] !== last,
      );
      await handshake(backEnvoy.port, own);
      await server.admin.revokeAuthority({ kind: AuthorityKind.AUTHORITY_KIND_X509, id: old });
      await until('a refusal of the old SVID', () =>
        handshake(backEnvoy.port, own).then(
          () => false,
          () => true,
        ),
      );
      expect(await call()).toMatchObject({ status: 200 });
    });

    it('refuses a peer without a certificate, and one of another trust domain until its bundle is federated', async () => {
      await expect(handshake(backEnvoy.port)).rejects.toThrow(/certificate required/i);
      const otherResources = scope.folder();
      writeResources(otherResources, 'other.yaml', [namespace('shop'), ...pod('front'), identity('front')]);
      const other = await startSignet(scope, {
        resources: otherResources,
        state: scope.folder(),
        trustDomain: 'other.test',
      });
      const stranger = await credentialsOf(other, 'front');
      await expect(handshake(backEnvoy.port, stranger)).rejects.toThrow(
        /unknown ca|certificate unknown|bad certificate/i,
      );

      writeResources(resources, 'federation.yaml', [
        federated('other.test', readFileSync(other.ready.bundleFile, 'utf8')),
        identity(
          'back-abroad',
          { spiffeIDTemplate: '/ns/shop/abroad', federatesWith: ['other.test'] },
          'shop',
          'back',
        ),
      ]);
      await until('the federated peer is let in', () => handshake(backEnvoy.port, stranger));
      // What is taken away is gone without a restart.
      writeResources(resources, 'federation.yaml', []);
      await until('the peer is refused again', () =>
        handshake(backEnvoy.port, stranger).then(
          () => false,
          () => true,
        ),
      );
      expect(await call()).toMatchObject({ status: 200 });
    });

    it('goes on with what it has while Signet is down, and takes the next rotation when it is back', async () => {
      const last = (await call()).headers['x-peer-serial'];
      expect(await server.stop()).toEqual({ code: 0, signal: null });
      expect(await call()).toMatchObject({ status: 200, headers: { 'x-peer-serial': last } });
      server = await startSignet(scope, { resources, state, trustDomain: 'shop.test' });
      await replaceAuthority(server);
      await until('a new SVID', async () => {
        const answer = await call();
        expect(answer.status).toBe(200);
        return answer.headers['x-peer-serial'] !== last;
      });
    });

    it('never calls a server that is another workload than expected', async () => {
      const wrong = await startEnvoy(scope, clientConfig(server.socket('front'), backEnvoy.port, front));
      expect(await getPort(wrong.port)).toMatchObject({ status: 503 });
    });
  },
);

/**
 * One HTTP request over TLS with the given client certificate; the server's certificate. In TLS 1.3 a refusal comes
 * after the client's own handshake is done, so only an answer proves that it was let in.
 */
function handshake(port: number, credentials?: Credentials): Promise<PeerCertificate> {
  return new Promise((resolve, reject) => {
    // The caller checks the server by its own means: here, who is let in is the question.
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...credentials });
    socket.setTimeout(10_000, () => socket.destroy(new Error('no answer within 10 s')));
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('closed without an answer')));
    socket.on('secureConnect', () =>
      socket.write('GET / HTTP/1.1\r\nhost: back\r\nconnection: close\r\n\r\n'),
    );
    socket.on('data', (chunk: Buffer) => {
      if (chunk.toString().startsWith('HTTP/1.1 200')) resolve(socket.getPeerCertificate());
      else reject(new Error(`answered ${chunk.toString().slice(0, 80)}`));
      socket.destroy();
    });
  });
}
