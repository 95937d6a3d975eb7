import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { makeKey } from '../../src/agent/key-maker.js';
import { systemClock, type Clock } from '../../src/lib/clock.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import { freePorts } from '../rig/free-ports.js';
import type { KubeCredentials } from '../rig/kube-client.js';
import * as rig from '../rig/rig.js';
import {
  boundPod,
  prepareWorkloads,
  startClusterAgent,
  type ClusterAgent,
} from '../support/cluster-agents.js';
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
import { until } from '../support/until.js';

/* Servers whose wall clock is minutes away from the API server's; the API server is real, and keeps the right time. */

const TRUST_DOMAIN = 'skew.test';
const NODE = 'n1';
const MINUTES = 60_000;
const REQUESTS = '/apis/certificates.k8s.io/v1/namespaces/shop/podcertificaterequests';

/** The machine's clock, set wrong by an operator. */
class SetClock implements Clock {
  aheadMs = 0;
  readonly monotonic = systemClock.monotonic;
  readonly after = systemClock.after;

  now(): number {
    return systemClock.now() + this.aheadMs;
  }
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('a server whose clock is off', () => {
  let plane: ControlPlane;
  let kubelet: KubeCredentials;
  const servers: ClusterServer[] = [];
  const agents: ClusterAgent[] = [];
  const uids: Record<string, string> = {};
  let asked = 0;

  beforeAll(async () => {
    plane = await startControlPlane();
    kubelet = await plane.credentialsOf({ name: `system:node:${NODE}`, groups: ['system:nodes'] });
    await prepareCluster(plane, TRUST_DOMAIN);
    await prepareWorkloads(plane, 'shop');
    await create(plane, '/api/v1/nodes', { metadata: { name: NODE } });
    const volume = {
      name: 'identity',
      projected: {
        sources: [
          {
            podCertificate: {
              signerName: 'signet.dev/workload',
              keyType: 'ECDSAP256',
              credentialBundlePath: 'a',
            },
          },
        ],
      },
    };
    const pod = boundPod('web-1', NODE) as { readonly metadata: object; readonly spec: object };
    await create(plane, '/api/v1/namespaces/shop/pods', { ...pod, spec: { ...pod.spec, volumes: [volume] } });
    for (const [name, path] of [
      ['node', `/api/v1/nodes/${NODE}`],
      ['account', '/api/v1/namespaces/shop/serviceaccounts/default'],
      ['pod', '/api/v1/namespaces/shop/pods/web-1'],
    ] as const)
      uids[name] = (
        (await plane.request('GET', path)).body as { readonly metadata: { readonly uid: string } }
      ).metadata.uid;
  }, rig.rigTimeout);
  afterEach(async () => {
    await Promise.all(agents.splice(0).map((agent) => agent.stop()));
    await Promise.all(servers.splice(0).map((server) => server.stop()));
  });
  afterAll(() => plane?.close());

  const launch = async (
    identity: string,
    clock: Clock,
  ): Promise<{ readonly server: ClusterServer; readonly page: (path: string) => Promise<string> }> => {
    const [port = 0] = await freePorts(1);
    const server = startClusterServer(plane, identity, { clock, operations: { address: '127.0.0.1', port } });
    servers.push(server);
    return { server, page: async (path) => (await fetch(`http://127.0.0.1:${port}${path}`)).text() };
  };
  /** An authority that begins now is not valid yet for a server whose clock is behind. */
  const beginAnew = async (): Promise<void> => {
    await plane.request('DELETE', `${TRUST_DOMAINS}/main`);
    for (const name of ['signet-ca', 'signet-key-encryption'])
      await plane.request('DELETE', `${SECRETS}/${name}`);
    await prepareCluster(plane, TRUST_DOMAIN);
  };
  const skewOf = async (page: (path: string) => Promise<string>): Promise<number> =>
    Number(/^signet_clock_skew_seconds (\S+)$/m.exec(await page('/metrics'))?.[1] ?? Number.NaN);
  const isReady = (what: string): Promise<true> =>
    until(`Ready is ${what}`, async () => (await conditionOf(plane, 'Ready')) === what);
  const follow = async (server: ClusterServer): Promise<ClusterAgent> => {
    const { address } = await server.ready;
    const agent = await startClusterAgent(plane, {
      ...{ nodeName: NODE, port: address.port, trustDomain: TRUST_DOMAIN },
    });
    agents.push(agent);
    await until('the SVID of the pod', () => agent.ids().length === 1);
    return agent;
  };
  const sign = async (agent: ClusterAgent): Promise<string> => {
    const { csr } = await makeKey('ec-p256');
    const registrationId = `${uids['pod'] ?? ''}/shop/web`;
    const [result] = await agent.api.signX509([{ registrationId, csr }]);
    return result?.ok === true ? 'signed' : (result?.code ?? 'nothing');
  };
  /** Asks for a certificate as the kubelet does; gives the conditions of the request. */
  const ask = async (): Promise<() => Promise<readonly string[]>> => {
    const name = `request-${++asked}`;
    const { status, body } = await plane.request(
      'POST',
      REQUESTS,
      {
        ...{ apiVersion: 'certificates.k8s.io/v1', kind: 'PodCertificateRequest', metadata: { name } },
        spec: {
          ...{ signerName: 'signet.dev/workload', podName: 'web-1', podUID: uids['pod'] },
          ...{ serviceAccountName: 'default', serviceAccountUID: uids['account'] },
          ...{ nodeName: NODE, nodeUID: uids['node'] },
          stubPKCS10Request: Buffer.from((await makeKey('ec-p256')).csr).toString('base64'),
        },
      },
      kubelet,
    );
    if (status !== 201) throw new Error(JSON.stringify(body));
    return async () => {
      const answer = (await plane.request('GET', `${REQUESTS}/${name}`)).body as {
        readonly status?: {
          readonly conditions?: readonly { readonly type: string; readonly reason: string }[];
        };
      };
      return (answer.status?.conditions ?? []).map(({ type, reason }) => `${type} ${reason}`);
    };
  };

  for (const [name, aheadMs] of [
    ['ahead', 10 * MINUTES],
    ['behind', -10 * MINUTES],
  ] as const)
    it(`ten minutes ${name} signs nothing and says so everywhere, keeps the lease, and goes on when the clock is set`, async () => {
      const clock = new SetClock();
      const { server, page } = await launch(`jumps-${name}`, clock);
      const agent = await follow(server);
      await isReady('True Signing');
      expect(Math.abs(await skewOf(page))).toBeLessThan(2);
      const { authorities } = await trustDomainStatusOf(plane);

      clock.aheadMs = aheadMs;
      await until('the metric', async () => Math.abs((await skewOf(page)) - aheadMs / 1000) < 3);
      expect(await page('/readyz')).toMatch(
        aheadMs < 0
          ? /^\[-\]clock failed: nothing is signed: the clock of this server is (599|60[01]) s behind that of the API server/m
          : /^\[-\]clock failed: nothing is signed: the clock of this server is (599|60[01]) s ahead of that of the API server/m,
      );
      expect(await page('/livez')).toBe('ok\n');
      await isReady('False ClockSkewed');
      await until('the log', () =>
        server.logger.lines.some((line) => line.startsWith('error nothing is signed')),
      );
      expect(await sign(agent)).not.toBe('signed');
      const conditions = await ask();
      await until('the request waits', () =>
        server.logger.lines.some((line) => line.includes('a pod certificate waits')),
      );
      expect(await conditions()).toEqual([]);
      // What begins now would be valid at another time than everybody's.
      const request = JSON.stringify({ action: 'rotate', kind: 'x509', nonce: name });
      await plane.kubectl([
        'annotate',
        'trustdomain',
        'main',
        '--overwrite',
        `signet.dev/ca-request=${request}`,
      ]);
      await until('the request is refused', async () => {
        const handled = (await trustDomainStatusOf(plane)).request;
        return (
          handled?.nonce === name && handled.outcome === 'Failed' && handled.message.startsWith('ClockSkewed')
        );
      });
      expect((await trustDomainStatusOf(plane)).authorities).toEqual(authorities);
      // Leading depends on nobody's wall clock.
      expect((await server.ready).leading.value).toBe(true);
      expect(server.logger.lines.filter((line) => line.includes('leads no longer'))).toEqual([]);

      clock.aheadMs = 0;
      await isReady('True Signing');
      await until('the request is answered', async () => (await conditions()).join() === 'Issued Signed');
      expect(await sign(agent)).toBe('signed');
      expect((await trustDomainStatusOf(plane)).authorities).toEqual(authorities);
    }, 120_000);

  it('two minutes behind tells it and signs: what it signs is taken by the API server and by agents', async () => {
    const clock = new SetClock();
    clock.aheadMs = -2 * MINUTES;
    await beginAnew();
    const { server } = await launch('little', clock);
    const agent = await follow(server);
    await until('it tells', () =>
      server.logger.lines.some((line) => line.startsWith('warn the clock of this server is')),
    );
    const conditions = await ask();
    await until('the request is answered', async () => (await conditions()).join() === 'Issued Signed');
    const { notBefore = 0 } = agent.agent.svidOf(agent.ids()[0] ?? '') ?? {};
    expect(Date.now() - notBefore).toBeGreaterThan(2 * MINUTES);
  }, 60_000);

  it('takes the lease from one with the right time, and gives it back, whatever they think that it is', async () => {
    const { server: right } = await launch('right', systemClock);
    const leader = await right.ready;
    await until('it leads', () => leader.leading.value);
    const clock = new SetClock();
    clock.aheadMs = 10 * MINUTES;
    const { server: wrong } = await launch('wrong', clock);
    await until('it says why it is not ready', () =>
      wrong.logger.lines.some((line) => line.startsWith('error nothing is signed')),
    );
    // A lease that seems to have run out ten minutes ago is not there to be taken.
    const holder = async (): Promise<string | undefined> => {
      const path = `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM}/leases/signet-server`;
      const { body } = await plane.request('GET', path);
      return (body as { readonly spec: { readonly holderIdentity?: string } }).spec.holderIdentity;
    };
    const renewals = new Set<string>();
    await until('five renewals', async () => {
      const path = `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM}/leases/signet-server`;
      const { body } = await plane.request('GET', path);
      renewals.add((body as { readonly spec: { readonly renewTime: string } }).spec.renewTime);
      expect(await holder()).toBe('right');
      return renewals.size >= 5;
    });
    await right.stop();
    await until('the other holds it', async () => (await holder()) === 'wrong', 30_000);
    const { server: next } = await launch('next', systemClock);
    await next.ready;
    await wrong.stop();
    await until('the right one holds it', async () => (await holder()) === 'next', 30_000);
    await isReady('True Signing');
  }, 120_000);

  it('that begins so makes no authorities, until the clock is set', async () => {
    await beginAnew();
    const clock = new SetClock();
    clock.aheadMs = -10 * MINUTES;
    const { server } = await launch('first', clock);
    await isReady('False ClockSkewed');
    expect((await plane.request('GET', `${SECRETS}/signet-ca`)).status).toBe(404);
    clock.aheadMs = 0;
    await server.ready;
    await isReady('True Signing');
    const { authorities = [] } = await trustDomainStatusOf(plane);
    for (const { notBefore } of authorities)
      expect(Math.abs(Date.parse(notBefore) - Date.now())).toBeLessThan(MINUTES);
  }, 60_000);
});
