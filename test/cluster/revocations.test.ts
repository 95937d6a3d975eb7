import { X509Certificate } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { RevocationStatus, RevokedSubject } from '../../src/resources/revocation.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import {
  create,
  prepareCluster,
  startClusterServer,
  trustDomainStatusOf,
  type ClusterServer,
} from '../support/cluster-server.js';
import { boundPod, makePod, prepareWorkloads, startClusterAgent } from '../support/cluster-agents.js';
import { until } from '../support/until.js';

const LONG = 120_000;
const REVOCATIONS = '/apis/signet.dev/v1alpha1/revocations';

(rig.isSkipped('kubernetes') ? describe.skip : describe)('revocations in a cluster', () => {
  let plane: ControlPlane;
  let server: ClusterServer | undefined;

  beforeAll(async () => {
    plane = await startControlPlane();
    await prepareCluster(plane, 'cluster.test');
  }, rig.rigTimeout);
  afterEach(() => server?.stop());
  afterAll(() => plane?.close());

  const revoke = (name: string, subject: RevokedSubject, until?: string): Promise<void> =>
    create(plane, REVOCATIONS, {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'Revocation', metadata: { name } },
      spec: { subject, reason: 'stolen', ...(until === undefined ? {} : { until }) },
    });
  const statusOf = async (name: string): Promise<RevocationStatus> =>
    ((await plane.request('GET', `${REVOCATIONS}/${name}`)).body as { readonly status?: RevocationStatus })
      .status ?? {};
  const untilSaid = (name: string, reason: string): Promise<RevocationStatus> =>
    until(`${name} is ${reason}`, async () => {
      const status = await statusOf(name);
      return status.conditions?.[0]?.reason === reason ? status : undefined;
    });
  const authoritiesOf = async (): Promise<readonly string[]> =>
    ((await trustDomainStatusOf(plane)).authorities ?? []).map(
      ({ id, kind, slot, revoked }) => `${kind} ${slot}${revoked ? ' revoked' : ''} ${id}`,
    );

  it(
    'are told in their statuses: in force, over, or of an issuer whose tokens are not taken',
    async () => {
      server = startClusterServer(plane, 'a');
      await server.ready;
      await revoke('id', { spiffeID: 'spiffe://cluster.test/ns/shop/sa/app' });
      await revoke('old', { serialNumber: 'a1' }, '2020-01-01T00:00:00Z');
      await revoke(
        'soon',
        { pod: { namespace: 'shop', name: 'web' } },
        new Date(Date.now() + 3_000).toISOString(),
      );
      await revoke('token', { token: { issuer: 'https://idp.example', id: 'x' } });
      expect((await untilSaid('id', 'InForce')).effectiveFrom).toMatch(/Z$/);
      expect((await untilSaid('old', 'Over')).effectiveFrom).toBeUndefined();
      await untilSaid('token', 'UnknownIssuer');
      const issuers = { tokenIssuers: [{ issuer: 'https://idp.example', audiences: ['shop'] }] };
      await plane.request('PATCH', '/apis/signet.dev/v1alpha1/trustdomains/main', { spec: issuers });
      expect((await untilSaid('token', 'InForce')).conditions?.[0]?.message).toContain(
        'agents refuse the token',
      );
      expect((await untilSaid('soon', 'Over')).effectiveFrom).toBeDefined();
    },
    LONG,
  );

  it(
    'reach the agent that holds an SVID: it drops it, and gets it again, or another one, when it may',
    async () => {
      server = startClusterServer(plane, 'agents');
      const { address } = await server.ready;
      await prepareWorkloads(plane, 'shop');
      const uid = await makePod(plane, 'shop', boundPod('web-1', 'n1'));
      let last = '';
      const holder = await startClusterAgent(plane, {
        ...{ nodeName: 'n1', port: address.port, trustDomain: 'cluster.test' },
        signed(_, [leaf]) {
          last = new X509Certificate(leaf ?? new Uint8Array()).serialNumber.toLowerCase();
        },
      });
      const told: string[] = [];
      const stop = new AbortController();
      const follow = async (): Promise<void> => {
        for await (const { upserts } of holder.api.policies?.([], stop.signal) ?? [])
          told.push(...upserts.map(({ key }) => key));
      };
      const following = follow().catch(() => undefined);
      try {
        const serial = (): string | undefined => (holder.ids().length === 0 ? undefined : last);
        const first = await until('it has an SVID', serial);
        await revoke('serial', { serialNumber: first });
        const second = await until('it has another', () => {
          const now = serial();
          return now === first ? undefined : now;
        });
        await revoke('pod', { pod: { namespace: 'shop', name: 'web-1', uid } });
        await until('it has none', () => holder.ids().length === 0);
        expect(await holder.api.explain?.({ kind: 'pod', uid })).toMatch(/revoked by Revocation pod: stolen/);
        expect(
          await holder.api.signX509([{ registrationId: `${uid}/shop/web`, csr: new Uint8Array() }]),
        ).toEqual([expect.objectContaining({ ok: false, code: 'RegistrationNotFound' })]);
        await plane.request('DELETE', `${REVOCATIONS}/pod`);
        // Of tokens it is told all Revocations, of SVIDs none.
        await revoke('session', { session: { issuer: 'https://idp.example', id: 'x' } });
        await until('it is told', () => told.includes('Revocation/session'));
        expect(told).not.toContain('Revocation/serial');
        const third = await until('it has one again', serial);
        expect(new Set([first, second, third]).size).toBe(3);
        await revoke('agent', { spiffeID: 'spiffe://cluster.test/signet/agent/n1' });
        await until('it is refused', async () => {
          const refusal = await holder.api.explain?.({ kind: 'pod', uid }).catch(String);
          return /revoked by Revocation agent/.test(refusal ?? '');
        });
      } finally {
        stop.abort();
        await following;
        await holder.stop();
      }
    },
    LONG,
  );

  it(
    'take an authority out of the bundle, after another signs in its place',
    async () => {
      server = startClusterServer(plane, 'b');
      await server.ready;
      const active = await until('its authorities are told', async () => {
        const { authorities = [] } = await trustDomainStatusOf(plane);
        return authorities.find(({ kind, slot }) => kind === 'X509' && slot === 'Active')?.id;
      });
      await revoke('authority', { authorityID: active });
      await untilSaid('authority', 'InForce');
      await until('it is shown', async () => (await authoritiesOf()).includes(`X509 Old revoked ${active}`));
      expect((await authoritiesOf()).filter((one) => one.startsWith('X509 Active'))).toHaveLength(1);
      await revoke('nobody', { authorityID: 'nobody' });
      await untilSaid('nobody', 'AuthorityNotFound');
    },
    LONG,
  );
});
