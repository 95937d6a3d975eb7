import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeJournal } from '../../src/identity/ca/journal-codec.js';
import { issueCa } from '../../src/identity/pki/issue.js';
import { exportPkcs8, generateKeyPair, signerOf } from '../../src/identity/pki/keys.js';
import { encodePem } from '../../src/identity/pki/pem.js';
import { isTrustedBy } from '../../src/identity/pki/svid.js';
import { systemRandom } from '../../src/lib/random.js';
import { newScope, type Scope } from '../e2e/support/scope.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import { boundPod, makePod, prepareWorkloads, startClusterAgent } from '../support/cluster-agents.js';
import {
  conditionOf,
  prepareCluster,
  SECRETS,
  startClusterServer,
  TRUST_DOMAINS,
} from '../support/cluster-server.js';
import { until } from '../support/until.js';

const TRUST_DOMAIN = 'upstream.test';

(rig.isSkipped('kubernetes') ? describe.skip : describe)('an upstream authority of a cluster', () => {
  let plane: ControlPlane;
  let scope: Scope;
  let disk: { readonly certificateFile: string; readonly keyFile: string };
  const whole = newScope();
  beforeAll(async () => {
    plane = await startControlPlane();
    whole.onEnd(() => plane.close());
    await prepareCluster(plane, TRUST_DOMAIN);
    const folder = whole.folder();
    disk = { certificateFile: join(folder, 'ca.pem'), keyFile: join(folder, 'ca.key') };
  }, rig.rigTimeout);
  afterAll(() => whole.end());
  beforeEach(() => {
    scope = newScope();
    whole.onEnd(() => scope.end());
  });

  /** Puts a root where the server looks for it. */
  const putRoot = async (): Promise<Uint8Array> => {
    const pair = await generateKeyPair('ec-p256');
    const root = await issueCa({
      ...{ signer: signerOf(pair), subjectPublicKey: pair.publicKey, trustDomain: TRUST_DOMAIN },
      ...{ serial: systemRandom.bytes(16), notBefore: Date.now() - 60_000 },
      notAfter: Date.now() + 90 * 86_400_000,
    });
    await writeFile(disk.certificateFile, encodePem('CERTIFICATE', root));
    await writeFile(disk.keyFile, encodePem('PRIVATE KEY', exportPkcs8(pair.privateKey)));
    return root;
  };
  const roots = async (): Promise<readonly string[]> => {
    const { body } = await plane.request('GET', `${SECRETS}/signet-ca`);
    const { data } = body as { readonly data: Readonly<Record<string, string>> };
    const { set } = decodeJournal(Buffer.from(data['journal.json'] ?? '', 'base64'));
    return set.authorities
      .flatMap((one) => (one.kind === 'x509' ? one.roots : []))
      .map((der) => Buffer.from(der).toString('hex'));
  };
  const untilReady = (what: string): Promise<true> =>
    until(`Ready is ${what}`, async () => (await conditionOf(plane, 'Ready')) === what);
  const hex = (der: Uint8Array): string => Buffer.from(der).toString('hex');

  it(
    'signs the authorities of the server that the TrustDomain names it to; and when it is another, agents replace what pods have from the one that is lost',
    async () => {
      const first = await putRoot();
      const spec = { upstreamAuthority: { disk } };
      expect((await plane.request('PATCH', `${TRUST_DOMAINS}/main`, { spec })).status).toBe(200);
      const server = startClusterServer(plane, 'replica-0');
      scope.onEnd(() => server.stop());
      const { address } = await server.ready;
      expect(await roots()).toEqual([hex(first)]);

      await prepareWorkloads(plane, 'shop');
      const chains: (readonly Uint8Array[])[] = [];
      const agent = await startClusterAgent(plane, {
        ...{ nodeName: 'node-1', port: address.port, trustDomain: TRUST_DOMAIN },
        signed: (_, chain) => void chains.push(chain),
      });
      scope.onEnd(() => agent.stop());
      await makePod(plane, 'shop', boundPod('web-1', 'node-1'));
      const trusted = (root: Uint8Array): boolean =>
        chains.some((chain) =>
          isTrustedBy(
            { trustDomain: TRUST_DOMAIN, x509Authorities: [root], jwtAuthorities: [], sequence: 1 },
            chain,
            Date.now(),
          ),
        );
      await until('the pod has its SVID', () => Promise.resolve(agent.ids().length === 1));
      expect([chains.map(({ length }) => length), trusted(first)]).toEqual([[2], true]);

      const second = await putRoot();
      await plane.request('DELETE', `${SECRETS}/signet-ca`);
      await untilReady('False JournalMissing');
      const request = { 'signet.dev/ca-request': JSON.stringify({ action: 'begin-anew', nonce: 'one' }) };
      await plane.request('PATCH', `${TRUST_DOMAINS}/main`, { metadata: { annotations: request } });
      await untilReady('True Signing');
      expect(await roots()).toEqual([hex(second)]);
      await until('the pod has another', () => Promise.resolve(trusted(second)), 90_000);
      expect(agent.ids()).toHaveLength(1);
    },
    2 * rig.rigTimeout,
  );
});
