import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import {
  boundPod,
  makePod,
  prepareWorkloads,
  startClusterAgent,
  type ClusterAgent,
} from '../support/cluster-agents.js';
import { create, prepareCluster, startClusterServer, type ClusterServer } from '../support/cluster-server.js';
import { until } from '../support/until.js';

/* Pods with the readiness gate, at the real API server. */

const LONG = 120_000;
const TRUST_DOMAIN = 'cluster.test';
const PODS = '/api/v1/namespaces/shop/pods';
const MANY = 1000;

interface Pod {
  readonly metadata: { readonly name: string };
  readonly status: {
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
  };
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('pods that wait for their identity', () => {
  let plane: ControlPlane;
  const ends: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    plane = await startControlPlane({ audit: true });
    await prepareCluster(plane, TRUST_DOMAIN);
    await prepareWorkloads(plane, 'shop');
    await create(plane, '/api/v1/nodes', { metadata: { name: 'n1' } });
  }, rig.rigTimeout);
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });
  afterAll(() => plane?.close());

  const start = async (): Promise<ClusterServer> => {
    const server = startClusterServer(plane, 'a');
    ends.push(() => server.stop());
    await server.ready;
    return server;
  };
  const startAgent = async (server: ClusterServer): Promise<ClusterAgent> => {
    const { port } = (await server.ready).address;
    const agent = await startClusterAgent(plane, { nodeName: 'n1', port, trustDomain: TRUST_DOMAIN });
    ends.push(() => agent.stop());
    return agent;
  };
  const gated = (name: string): object => {
    const pod = boundPod(name, 'n1') as { readonly spec: object };
    return { ...pod, spec: { ...pod.spec, readinessGates: [{ conditionType: 'signet.dev/identity' }] } };
  };
  const conditionOf = ({ status }: Pod): string => {
    const found = status.conditions?.find(({ type }) => type === 'signet.dev/identity');
    return found === undefined ? '' : `${found.status} ${found.reason ?? ''}`;
  };
  const condition = async (name: string): Promise<string> =>
    conditionOf((await plane.request('GET', `${PODS}/${name}`)).body as Pod);
  const writes = async (): Promise<number> =>
    (await plane.auditLog()).filter(
      ({ verb, objectRef, stage, requestURI }) =>
        verb === 'patch' &&
        requestURI.includes('fieldManager=signet') &&
        objectRef?.subresource === 'status' &&
        objectRef.resource === 'pods' &&
        stage === 'ResponseComplete',
    ).length;

  it(
    'are told within 100 ms of their SVID, by one write, and keep what others say of them',
    async () => {
      const agent = await startAgent(await start());
      await makePod(plane, 'shop', gated('web-1'));
      // As the kubelet does.
      await plane.request('PATCH', `${PODS}/web-1/status`, {
        status: { conditions: [{ type: 'Initialized', status: 'True' }] },
      });
      await until('the condition', async () => (await condition('web-1')) === 'True SvidIssued');
      const late: number[] = [];
      for (let pod = 2; pod < 12; pod++) {
        const uid = await makePod(plane, 'shop', gated(`web-${pod}`));
        await until('the SVID', () => agent.ids().some((id) => id.startsWith(uid)));
        const began = performance.now();
        await until('the condition', async () => (await condition(`web-${pod}`)) === 'True SvidIssued');
        late.push(performance.now() - began);
      }
      const [median = Infinity] = [...late].sort((a, b) => a - b).slice(late.length / 2);
      expect(median).toBeLessThan(100);
      const { status } = (await plane.request('GET', `${PODS}/web-1`)).body as Pod;
      expect(status.conditions?.map(({ type }) => type).sort()).toEqual([
        'Initialized',
        'signet.dev/identity',
      ]);
      expect(await writes()).toBe(11);
    },
    LONG,
  );

  it(
    'are told by the thousand, each by one write',
    async () => {
      const before = await writes();
      const agent = await startAgent(await start());
      const sofar = agent.ids().length;
      for (let pod = 0; pod < MANY; pod += 20)
        await Promise.all(
          Array.from({ length: 20 }, (_, index) => makePod(plane, 'shop', gated(`web-many-${pod + index}`))),
        );
      await until(
        'all conditions',
        async () => {
          const { items } = (await plane.request('GET', PODS)).body as { readonly items: readonly Pod[] };
          const many = items.filter(({ metadata }) => metadata.name.startsWith('web-many'));
          return many.length === MANY && many.every((pod) => conditionOf(pod) === 'True SvidIssued');
        },
        60_000,
      );
      expect(sofar).toBeLessThan(agent.ids().length);
      await until('the audit log', async () => (await writes()) - before >= MANY);
      expect((await writes()) - before).toBe(MANY);
    },
    LONG,
  );

  it(
    'are told why not once it is known who leads and what there is',
    async () => {
      await start();
      await makePod(plane, 'shop', gated('other-1'));
      await until('the condition', async () => (await condition('other-1')) === 'False NoIdentity', 60_000);
      const { status } = (await plane.request('GET', `${PODS}/other-1`)).body as Pod;
      expect(status.conditions?.[0]?.message).toContain(
        'WorkloadIdentity shop/web (label app is "other", it wants "web")',
      );
      // What ran before the server was started again is not taken out of service meanwhile.
      expect(await condition('web-1')).toBe('True SvidIssued');
    },
    LONG,
  );
});
