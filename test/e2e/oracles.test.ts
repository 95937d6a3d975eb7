import { afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AuthorityKind } from '../../src/rpc/gen/signet/admin/v1/admin.js';
import * as rig from '../rig/rig.js';
import { runGo, type Line, type SeenJwt } from './support/clients.js';
import { run } from './support/process.js';
import { identity, namespace, pod, trustDomain, writeResources, type Manifest } from './support/resources.js';
import { newScope, type Scope } from './support/scope.js';
import { signet, startSignet, type Signet } from './support/signet.js';

jest.setTimeout(90_000);

/** What OpenSSL and Go, which share no code with Signet or each other, say of the certificates that it issues. */
(rig.isSkipped('go') ? describe.skip : describe)('issued chains, in the eyes of OpenSSL and Go', () => {
  let scope: Scope;

  beforeAll(() => rig.spiffeClient().then(() => undefined), rig.rigTimeout);
  beforeEach(() => {
    scope = newScope();
  });
  afterEach(() => scope.end());

  const startWith = async (spec: Manifest): Promise<Signet> => {
    const resources = scope.folder();
    const dns = { dnsNameTemplates: ['order.shop.svc', 'order.shop.svc.cluster.local'] };
    const workloads = [namespace('shop'), ...pod('order'), identity('order', dns)];
    writeResources(resources, 'shop.yaml', [trustDomain('shop.test', spec), ...workloads]);
    return startSignet(scope, { resources, state: scope.folder() });
  };

  /** Fetches the chain and its bundle, writes them as PEM, and gives both verdicts. */
  const judge = async (server: Signet): Promise<{ openssl: string; go: Line }> => {
    const answer = await runGo(scope, ['x509', 'fetch', '-socket', server.socket('order')]);
    const folder = scope.folder();
    const chain = join(folder, 'chain.pem');
    const bundle = join(folder, 'bundle.pem');
    writeFileSync(chain, answer.svids?.[0]?.pem ?? '');
    writeFileSync(bundle, answer.bundlePem ?? '');
    const verdicts: string[] = [];
    for (const purpose of ['sslserver', 'sslclient']) {
      const verify = ['openssl', 'verify', '-x509_strict', '-purpose', purpose, '-CAfile', bundle] as const;
      const { lines, stderr } = await run(scope, [...verify, '-untrusted', chain, chain]);
      verdicts.push(lines.join(' ') + stderr);
    }
    return {
      openssl: verdicts.every((verdict) => /chain\.pem: OK$/.test(verdict)) ? 'OK' : verdicts.join('\n'),
      go: await runGo(scope, ['verify-cert', '-chain', chain, '-bundle', bundle]),
    };
  };
  const good = {
    openssl: 'OK',
    go: { cryptoX509: true, goSpiffe: true, id: 'spiffe://shop.test/ns/shop/sa/order' },
  };

  it.each([
    ['ec-p256', 'ec-p256', 'ec-p256'],
    ['ec-p384', 'ec-p384', 'ec-p384'],
    ['rsa-2048', 'rsa-2048', 'rsa-2048'],
    ['ed25519', 'ec-p256', 'ec-p256'],
  ])(
    'verify with an authority of %s, JWT of %s, workload of %s; after a rotation too',
    async (x509Authority, jwtAuthority, workload) => {
      const server = await startWith({ keyTypes: { x509Authority, jwtAuthority, workload } });
      expect(await judge(server)).toMatchObject(good);
      await server.admin.rotateAuthority({ kind: AuthorityKind.AUTHORITY_KIND_UNSPECIFIED });
      expect(await judge(server)).toMatchObject(good);
      const { svids } = await runGo<SeenJwt>(scope, [
        'jwt',
        'fetch',
        '-socket',
        server.socket('order'),
        '-audience',
        'bank',
      ]);
      expect(svids).toMatchObject([{ verified: true, id: 'spiffe://shop.test/ns/shop/sa/order' }]);
    },
  );

  it('verify under an upstream root on disk, through the intermediate', async () => {
    const folder = scope.folder();
    const key = join(folder, 'root.key');
    const root = join(folder, 'root.pem');
    const extensions = [
      '-addext',
      'basicConstraints=critical,CA:TRUE',
      '-addext',
      'keyUsage=critical,keyCertSign,cRLSign',
    ];
    const subject = ['-subj', '/O=Upstream', '-days', '30', ...extensions];
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    const made = await run(scope, [
      'openssl',
      'req',
      '-x509',
      ...curve,
      '-keyout',
      key,
      '-out',
      root,
      ...subject,
    ]);
    expect(made.exit.code).toBe(0);
    const server = await startWith({ upstreamAuthority: { disk: { certificateFile: root, keyFile: key } } });
    expect(await judge(server)).toMatchObject(good);
    expect((await signet(scope, ['ca', 'rotate', '--state', server.ready.stateDir])).exit.code).toBe(0);
    expect(await judge(server)).toMatchObject(good);
    // The bundle is the upstream's root, and nothing else.
    const { bundles } = await runGo(scope, ['x509', 'bundles', '-socket', server.socket('order')]);
    expect(bundles?.['shop.test']).toHaveLength(1);
  });
});
