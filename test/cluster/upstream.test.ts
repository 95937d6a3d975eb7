import { expect, it } from '@jest/globals';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeJournal } from '../../src/identity/ca/journal-codec.js';
import { issueCa } from '../../src/identity/pki/issue.js';
import { exportPkcs8, generateKeyPair, signerOf } from '../../src/identity/pki/keys.js';
import { encodePem } from '../../src/identity/pki/pem.js';
import { systemRandom } from '../../src/lib/random.js';
import { newScope } from '../e2e/support/scope.js';
import { startControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import { prepareCluster, SECRETS, startClusterServer, TRUST_DOMAINS } from '../support/cluster-server.js';

(rig.isSkipped('kubernetes') ? it.skip : it)(
  'a server of a cluster has its authorities signed by the upstream authority that the TrustDomain names',
  async () => {
    const scope = newScope();
    try {
      const plane = await startControlPlane();
      scope.onEnd(() => plane.close());
      await prepareCluster(plane, 'upstream.test');
      const folder = scope.folder();
      const disk = { certificateFile: join(folder, 'ca.pem'), keyFile: join(folder, 'ca.key') };
      const pair = await generateKeyPair('ec-p256');
      const root = await issueCa({
        ...{ signer: signerOf(pair), subjectPublicKey: pair.publicKey, trustDomain: 'upstream.test' },
        ...{
          serial: systemRandom.bytes(16),
          notBefore: Date.now() - 60_000,
          notAfter: Date.now() + 90 * 86_400_000,
        },
      });
      await writeFile(disk.certificateFile, encodePem('CERTIFICATE', root));
      await writeFile(disk.keyFile, encodePem('PRIVATE KEY', exportPkcs8(pair.privateKey)));
      const patched = await plane.request('PATCH', `${TRUST_DOMAINS}/main`, {
        spec: { upstreamAuthority: { disk } },
      });
      expect(patched.status).toBe(200);

      const server = startClusterServer(plane, 'replica-0');
      scope.onEnd(() => server.stop());
      await server.ready;
      const { body } = await plane.request('GET', `${SECRETS}/signet-ca`);
      const { data } = body as { readonly data: Readonly<Record<string, string>> };
      const { set } = decodeJournal(Buffer.from(data['journal.json'] ?? '', 'base64'));
      const roots = set.authorities.flatMap((one) => (one.kind === 'x509' ? one.roots : []));
      expect(roots.map((der) => Buffer.from(der).toString('hex'))).toEqual([
        Buffer.from(root).toString('hex'),
      ]);
    } finally {
      await scope.end();
    }
  },
  rig.rigTimeout,
);
