import { X509Certificate } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { RevocationStatus, RevokedSubject } from '../../src/resources/revocation.js';
import { PolicyStore } from '../../src/agent/access/policy-store.js';
import { replicaIdentity } from '../../src/server/peers/leader-address.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import { freePorts } from '../rig/free-ports.js';
import * as rig from '../rig/rig.js';
import {
  create,
  prepareCluster,
  startClusterServer,
  trustDomainStatusOf,
  type ClusterServer,
} from '../support/cluster-server.js';
import {
  boundPod,
  makePod,
  prepareWorkloads,
  startClusterAgent,
  type ClusterAgent,
} from '../support/cluster-agents.js';
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
    'tell how many agents have dropped what is revoked, whichever replica they follow',
    async () => {
      const [one = 0, two = 0] = await freePorts(2);
      const replica = (name: string, port: number): ClusterServer =>
        startClusterServer(plane, replicaIdentity(name, `127.0.0.1:${port}`, 'x'), {
          listen: { address: '127.0.0.1', port },
        });
      server = replica('one', one);
      const other = replica('two', two);
      const agents: ClusterAgent[] = [];
      try {
        await Promise.all([server.ready, other.ready]);
        await prepareWorkloads(plane, 'reach');
        const nodes = ['r1', 'r2', 'r3'];
        for (const node of nodes) await makePod(plane, 'reach', boundPod(`web-${node}`, node));
        const start = (nodeName: string, port: number, more: object = {}): Promise<ClusterAgent> =>
          startClusterAgent(plane, { ...{ nodeName, port, trustDomain: 'cluster.test' }, ...more });
        agents.push(await start('r1', one, { policies: new PolicyStore('r1') }));
        agents.push(await start('r2', two, { policies: new PolicyStore('r2') }));
        const old = await start('r3', one, { isOld: true });
        agents.push(old);
        for (const agent of agents) await until('it has an SVID', () => agent.ids().length === 1);
        const untilReached = (name: string, reached: string): Promise<boolean> =>
          until(`${name} has reached ${reached}`, async () => {
            const { agentsReached, agentsTotal } = await statusOf(name);
            return `${agentsReached}/${agentsTotal}` === reached;
          });
        // The agent of the first test is one of them: its pod is still there, and nobody answers for it.
        await revoke('reach-session', { session: { issuer: 'https://idp.example', id: 'y' } });
        await revoke('reach-pod', { pod: { namespace: 'reach', name: 'web-r2' } });
        await revoke('reach-id', { spiffeID: 'spiffe://cluster.test/ns/reach/sa/default' });
        await untilReached('reach-session', '2/4');
        await untilReached('reach-pod', '1/1');
        await untilReached('reach-id', '2/3');
        // It does drop what is revoked, though it cannot say so.
        await until('the old agent has dropped it', () => old.ids().length === 0);
        agents.splice(2);
        await old.stop();
        agents.push(await start('r3', two));
        await untilReached('reach-session', '3/4');
        await untilReached('reach-id', '3/3');
        const { body } = await plane.request('GET', `${REVOCATIONS}/reach-id`);
        const { resourceVersion } = (body as { readonly metadata: { readonly resourceVersion: string } })
          .metadata;
        // Each of these is worked on in its turn: whatever would be written of the other is written by then.
        await revoke('reach-last', { pod: { namespace: 'reach', name: 'web-r1' } });
        await untilReached('reach-last', '1/1');
        const again = (await plane.request('GET', `${REVOCATIONS}/reach-id`)).body;
        expect(again).toMatchObject({ metadata: { resourceVersion } });
      } finally {
        for (const agent of agents) await agent.stop();
        await other.stop();
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
