import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { parseCertificate } from '../../src/identity/pki/certificate.js';
import type { AuthorityRequestStatus } from '../../src/resources/identity.js';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import {
  conditionOf,
  create,
  prepareCluster,
  SECRETS,
  startClusterServer,
  SYSTEM,
  TRUST_DOMAINS,
  trustDomainStatusOf,
  type ClusterServer,
} from '../support/cluster-server.js';
import { boundPod, makePod, prepareWorkloads, startClusterAgent } from '../support/cluster-agents.js';
import { KmsPluginProgram } from '../support/kms-plugin.js';
import { until } from '../support/until.js';

const LONG = 120_000;
const CA_SECRET = `${SECRETS}/signet-ca`;

(rig.isSkipped('kubernetes') ? describe.skip : describe)('the TrustDomain in a cluster', () => {
  let plane: ControlPlane;
  const servers: ClusterServer[] = [];

  beforeAll(async () => {
    plane = await startControlPlane({ audit: true });
  }, rig.rigTimeout);
  afterAll(() => plane?.close());
  beforeEach(async () => {
    await prepareCluster(plane, 'cluster.test');
  });
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.stop()));
    await plane.request('DELETE', `${TRUST_DOMAINS}/main`);
    await plane.request('DELETE', `${TRUST_DOMAINS}/other`);
    for (const name of ['signet-ca', 'signet-key-encryption'])
      await plane.request('DELETE', `${SECRETS}/${name}`);
    await plane.request('DELETE', `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM}/leases/signet-server`);
  });

  const start = async (identity: string): Promise<ClusterServer> => {
    const server = startClusterServer(plane, identity);
    servers.push(server);
    await server.ready;
    return server;
  };
  const ready = (): Promise<string> => conditionOf(plane, 'Ready');
  const untilReady = (what: string): Promise<true> =>
    until(`Ready is ${what}`, async () => (await ready()) === what);
  /** As docs/operations/disaster-recovery.md has it. */
  const backUp = async (): Promise<string> => {
    const names = ['signet-ca', 'signet-key-encryption'];
    const { stdout } = await plane.kubectl(['-n', SYSTEM, 'get', 'secret', ...names, '-o', 'json']);
    const list = JSON.parse(stdout) as { readonly items: readonly { readonly metadata: object }[] };
    for (const { metadata } of list.items)
      Object.assign(metadata, { uid: undefined, resourceVersion: undefined, creationTimestamp: undefined });
    return JSON.stringify(list);
  };
  const restore = async (backup: string): Promise<void> => {
    const names = ['signet-ca', 'signet-key-encryption'];
    await plane.kubectl(['-n', SYSTEM, 'delete', 'secret', ...names, '--ignore-not-found']);
    const { code, stderr } = await plane.kubectl(['-n', SYSTEM, 'create', '-f', '-'], { stdin: backup });
    expect([code, stderr]).toEqual([0, '']);
  };
  const active = async (): Promise<readonly string[]> => {
    const { authorities = [] } = await trustDomainStatusOf(plane);
    return authorities.filter(({ slot }) => slot === 'Active').map(({ id }) => id);
  };
  const ask = async (request: object | string): Promise<AuthorityRequestStatus> => {
    const text = typeof request === 'string' ? request : JSON.stringify(request);
    const annotation = `signet.dev/ca-request=${text}`;
    await plane.kubectl(['annotate', 'trustdomain', 'main', '--overwrite', annotation]);
    const nonce = /"nonce":"([^"]+)"/.exec(text)?.[1];
    return until(`${text} is handled`, async () => {
      const { request: handled } = await trustDomainStatusOf(plane);
      const isIt = nonce === undefined ? handled?.outcome === 'Failed' : handled?.nonce === nonce;
      return isIt && handled !== undefined && handled.outcome !== 'Running' ? handled : undefined;
    });
  };

  it(
    'tells of its authorities, and writes nothing while nothing happens',
    async () => {
      await start('a');
      await untilReady('True Signing');
      const { authorities = [], bundleSequence } = await trustDomainStatusOf(plane);
      expect(authorities.map(({ kind, slot }) => `${kind} ${slot}`).sort()).toEqual([
        'JWT Active',
        'X509 Active',
      ]);
      expect(bundleSequence).toBeGreaterThan(0);
      expect(authorities.every(({ notAfter }) => Date.parse(notAfter) > Date.now())).toBe(true);
      const writes = async (): Promise<number> =>
        (await plane.auditLog()).filter(
          ({ verb, objectRef }) =>
            verb === 'patch' && objectRef?.resource === 'trustdomains' && objectRef.subresource === 'status',
        ).length;
      await until(
        'BundlePublished',
        async () => (await conditionOf(plane, 'BundlePublished')) === 'True Published',
      );
      await until('KeysSealed', async () => (await conditionOf(plane, 'KeysSealed')) === 'True Sealed');
      const before = await writes();
      for (const turn of ['1', '2', '3'])
        await plane.request('PATCH', `${TRUST_DOMAINS}/main`, { metadata: { labels: { turn } } });
      // The controller takes one look after another: this is the last.
      await ask({ action: 'none', nonce: 'barrier' });
      await until('its write is in the log', async () => (await writes()) > before);
      expect(await writes()).toBe(before + 1);
    },
    LONG,
  );

  it(
    'carries out each request by annotation once, whoever leads',
    async () => {
      const first = await start('a');
      await untilReady('True Signing');
      const before = await active();
      const request = { action: 'rotate', kind: 'x509', nonce: 'one' };
      expect(await ask(request)).toMatchObject({ action: 'rotate', outcome: 'Succeeded' });
      const after = await until('the status tells of it', async () => {
        const ids = await active();
        return ids.join() === before.join() ? undefined : ids;
      });
      await first.stop();
      await start('b');
      await until('another leads', async () => {
        const path = `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM}/leases/signet-server`;
        const { body } = await plane.request('GET', path);
        return (
          (body as { spec?: { holderIdentity?: string } }).spec?.holderIdentity?.startsWith('b') === true
        );
      });
      expect(await ask({ action: 'taint', kind: 'x509', id: 'nobody', nonce: 'two' })).toMatchObject({
        outcome: 'Failed',
        message: expect.stringMatching(/^AuthorityNotFound/),
      });
      expect(await active()).toEqual(after);
      const old =
        (await trustDomainStatusOf(plane)).authorities?.find(({ slot }) => slot === 'Old')?.id ?? '';
      expect(await ask({ action: 'revoke', kind: 'x509', id: old, nonce: 'three' })).toMatchObject({
        outcome: 'Failed',
        message: expect.stringMatching(/^AuthorityNotTainted/),
      });
      expect(await ask({ action: 'taint', kind: 'x509', id: old, nonce: 'four' })).toMatchObject({
        outcome: 'Succeeded',
      });
      expect(await ask({ action: 'revoke', kind: 'x509', id: old, nonce: 'five' })).toMatchObject({
        outcome: 'Succeeded',
      });
      expect(await ask('{"action":')).toMatchObject({ outcome: 'Failed', message: /no JSON object/ });
    },
    LONG,
  );

  it(
    'never begins with new authorities by itself: a running server says what is lost, and goes on when it is restored',
    async () => {
      const server = await start('a');
      await untilReady('True Signing');
      const before = await active();
      const backup = await backUp();
      await plane.request('DELETE', CA_SECRET);
      await untilReady('False JournalMissing');
      const { conditions = [], authorities } = await trustDomainStatusOf(plane);
      expect(conditions[0]?.message).toMatch(/still holds 2 of them.*begin anew/);
      expect(authorities).toHaveLength(2);
      expect(await ask({ action: 'rotate', nonce: 'lost' })).toMatchObject({ outcome: 'Failed' });
      expect((await plane.request('GET', CA_SECRET)).status).toBe(404);
      expect(server.logger.lines).toContain('error the authorities cannot be used');
      // From a backup all is as it was.
      await restore(backup);
      await untilReady('True Signing');
      expect(await active()).toEqual(before);
    },
    LONG,
  );

  it(
    'never begins with new authorities by itself: nor does a server that starts, until it is told to',
    async () => {
      const server = await start('a');
      await untilReady('True Signing');
      const before = await trustDomainStatusOf(plane);
      await server.stop();
      await plane.request('DELETE', CA_SECRET);
      const restarted = startClusterServer(plane, 'b');
      servers.push(restarted);
      await untilReady('False JournalMissing');
      expect((await plane.request('GET', CA_SECRET)).status).toBe(404);
      const told = await trustDomainStatusOf(plane);
      // What is known of the lost ones is evidence, and stays.
      expect([told.bundleSequence, told.authorities]).toEqual([before.bundleSequence, before.authorities]);
      expect(await ask({ action: 'begin-anew', nonce: 'anew' })).toMatchObject({ outcome: 'Succeeded' });
      await restarted.ready;
      await untilReady('True Signing');
      const after = await trustDomainStatusOf(plane);
      expect(after.bundleSequence).toBeGreaterThan(before.bundleSequence ?? 0);
      expect(after.authorities?.map(({ id }) => id)).not.toEqual(before.authorities?.map(({ id }) => id));
    },
    LONG,
  );

  it(
    'takes over what somebody has begun anew while it ran, and refuses to while nothing is lost',
    async () => {
      await start('a');
      const second = await start('b');
      await untilReady('True Signing');
      const before = await active();
      expect(await ask({ action: 'begin-anew', nonce: 'needless' })).toMatchObject({
        outcome: 'Failed',
        message: expect.stringMatching(/^AuthoritiesNotLost/),
      });
      await plane.request('PATCH', CA_SECRET, {
        data: { 'journal.json': Buffer.from('{').toString('base64') },
      });
      await untilReady('False JournalDamaged');
      expect(await ask({ action: 'begin-anew', nonce: 'damaged' })).toMatchObject({ outcome: 'Succeeded' });
      await untilReady('True Signing');
      expect(await active()).not.toEqual(before);
      // Whoever does not lead has them, too: it leads next.
      const [first] = servers;
      const present = await active();
      await first?.stop();
      await until('the second leads', async () => (await second.ready).leading.value);
      expect(await ask({ action: 'prepare', kind: 'jwt', nonce: 'next' })).toMatchObject({
        outcome: 'Succeeded',
      });
      expect(await active()).toEqual(present);
    },
    LONG,
  );

  it(
    'has agents that ran all the while prove themselves anew, and their pods get SVIDs of the new authorities, with no restart',
    async () => {
      const { address } = await (await start('a')).ready;
      await untilReady('True Signing');
      await prepareWorkloads(plane, 'anew');
      const authorities = new Set<string>();
      const agent = await startClusterAgent(plane, {
        ...{ nodeName: 'anew-1', port: address.port, trustDomain: 'cluster.test' },
        signed: (_, [leaf = new Uint8Array()]) =>
          authorities.add(parseCertificate(leaf).authorityKeyId ?? ''),
      });
      try {
        await makePod(plane, 'anew', boundPod('web-1', 'anew-1'));
        await until('the pod has its SVID', () => Promise.resolve(agent.ids().length === 1));
        const before = new Set(await active());
        expect([...authorities].every((id) => before.has(id))).toBe(true);
        await plane.request('DELETE', CA_SECRET);
        await untilReady('False JournalMissing');
        expect(await ask({ action: 'begin-anew', nonce: 'agents' })).toMatchObject({ outcome: 'Succeeded' });
        await untilReady('True Signing');
        const after = new Set(await active());
        const isAnew = (): boolean => [...authorities].some((id) => after.has(id));
        // The agent looks at its bundle every ten seconds.
        await until('the pod has another', () => Promise.resolve(isAnew()), 60_000);
        expect(agent.ids()).toHaveLength(1);
      } finally {
        await agent.stop();
      }
    },
    LONG,
  );

  it(
    'begins anew with another key-encryption key while servers run, and all of them sign with what is new',
    async () => {
      await start('a');
      const second = await start('b');
      await untilReady('True Signing');
      const before = await active();
      await plane.request('DELETE', CA_SECRET);
      await plane.request('DELETE', `${SECRETS}/signet-key-encryption`);
      await untilReady('False JournalMissing');
      expect(await ask({ action: 'begin-anew', nonce: 'both' })).toMatchObject({ outcome: 'Succeeded' });
      await untilReady('True Signing');
      const present = await active();
      expect(present).not.toEqual(before);
      const [first] = servers;
      await first?.stop();
      await until('the second leads', async () => (await second.ready).leading.value);
      expect(await ask({ action: 'prepare', kind: 'jwt', nonce: 'with-the-new-key' })).toMatchObject({
        outcome: 'Succeeded',
      });
      await untilReady('True Signing');
      expect(await active()).toEqual(present);
    },
    LONG,
  );

  it(
    'says what a lost key-encryption key means, and begins anew with another',
    async () => {
      const server = await start('a');
      await untilReady('True Signing');
      await server.stop();
      await plane.request('DELETE', `${SECRETS}/signet-key-encryption`);
      const restarted = startClusterServer(plane, 'b');
      servers.push(restarted);
      await untilReady('False KeyEncryptionUnusable');
      expect(await ask({ action: 'begin-anew', nonce: 'key' })).toMatchObject({ outcome: 'Succeeded' });
      await restarted.ready;
      await untilReady('True Signing');
    },
    LONG,
  );

  it(
    'has its keys sealed by a KMS, and waits for a plugin that is down: nothing is lost then',
    async () => {
      const folder = await mkdtemp(join(tmpdir(), 'kms-'));
      const socket = join(folder, 'kms.sock');
      const plugin = new KmsPluginProgram();
      try {
        await plugin.start(socket);
        await plane.request('PATCH', `${TRUST_DOMAINS}/main`, {
          spec: { keyEncryption: { kms: { socket } } },
        });
        const server = await start('a');
        await untilReady('True Signing');
        const before = await active();
        expect((await plane.request('GET', `${SECRETS}/signet-key-encryption`)).status).toBe(404);
        await server.stop();
        await plugin.stop();
        servers.push(startClusterServer(plane, 'b'));
        await untilReady('False KeyEncryptionUnavailable');
        expect(await ask({ action: 'begin-anew', nonce: 'down' })).toMatchObject({ outcome: 'Failed' });
        await plugin.start(socket);
        await untilReady('True Signing');
        expect(await active()).toEqual(before);
      } finally {
        await Promise.all(servers.splice(0).map((server) => server.stop()));
        await plugin.stop();
        await rm(folder, { recursive: true });
      }
    },
    LONG,
  );

  it(
    'holds to what it says from then on, whoever leads, without a restart; and refuses what cannot change',
    async () => {
      const first = await start('a');
      await start('b');
      await untilReady('True Signing');
      expect(await conditionOf(plane, 'SettingsApplied')).toBe('True Applied');
      const renamed = await plane.request('PATCH', `${TRUST_DOMAINS}/main`, { spec: { name: 'else.test' } });
      expect(renamed.status).toBe(422);
      expect(JSON.stringify(renamed.body)).toContain('the name of a trust domain cannot be changed');
      await plane.request('PATCH', `${TRUST_DOMAINS}/main`, {
        spec: { ttls: { authority: '2h', x509Svid: '15m' }, keyTypes: { x509Authority: 'ec-p384' } },
      });
      const settled = (): Promise<true> =>
        until('the leader has seen it', async () => {
          const { conditions = [] } = await trustDomainStatusOf(plane);
          const { body } = await plane.request('GET', `${TRUST_DOMAINS}/main`);
          const { generation } = (body as { readonly metadata: { readonly generation: number } }).metadata;
          return conditions.find(({ type }) => type === 'SettingsApplied')?.observedGeneration === generation;
        });
      await settled();
      expect(await conditionOf(plane, 'SettingsApplied')).toBe('True Applied');
      const hoursOf = async (nonce: string): Promise<number> => {
        const before = await active();
        expect(await ask({ action: 'rotate', kind: 'x509', nonce })).toMatchObject({ outcome: 'Succeeded' });
        const made = await until('the status tells of it', async () => {
          const { authorities = [] } = await trustDomainStatusOf(plane);
          return authorities.find(
            ({ id, kind, slot }) => kind === 'X509' && slot === 'Active' && !before.includes(id),
          );
        });
        return Math.round((Date.parse(made.notAfter) - Date.now()) / 3_600_000);
      };
      expect(await hoursOf('one')).toBe(2);
      // The other one follows the same.
      await first.stop();
      await plane.request('PATCH', `${TRUST_DOMAINS}/main`, { spec: { ttls: { authority: '4h' } } });
      expect(await hoursOf('two')).toBe(4);
      await settled();
      await plane.request('PATCH', `${TRUST_DOMAINS}/main`, {
        spec: { keyEncryption: { local: { keyFile: '/etc/other' } } },
      });
      await until(
        'a key that is not there is not taken',
        async () => (await conditionOf(plane, 'SettingsApplied')) === 'False KeyEncryptionUnusable',
      );
      await create(plane, TRUST_DOMAINS, {
        ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'TrustDomain' },
        ...{ metadata: { name: 'other' }, spec: { name: 'cluster.test' } },
      });
      await until('the other is not', async () => {
        const condition = await conditionOf(plane, 'Ready', 'other');
        return condition === 'False TrustDomainAmbiguous';
      });
      expect(await ready()).toBe('True Signing');
      expect(await conditionOf(plane, 'SettingsApplied')).toBe('False TrustDomainAmbiguous');
    },
    LONG,
  );
});
