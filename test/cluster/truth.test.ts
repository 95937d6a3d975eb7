import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { makeKey } from '../../src/agent/key-maker.js';
import { parseCertificate } from '../../src/identity/pki/certificate.js';
import { newScope, type Scope } from '../e2e/support/scope.js';
import { start, type Program } from '../e2e/support/process.js';
import { signetCommand } from '../e2e/support/signet.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import { deletePod, makePod, startClusterAgent, type ClusterAgent } from '../support/cluster-agents.js';
import { create, prepareCluster, SYSTEM } from '../support/cluster-server.js';
import { seededRandom } from '../support/seeded-random.js';
import { until } from '../support/until.js';

/*
 * Three replicas that are real processes, three nodes, pods that come, go and move without pause, and faults: the leader is
 * killed, the API server is away, etcd dies. Every SVID that is signed meanwhile is held against what was true at that
 * moment, as the test itself knows it, since nobody else makes or deletes pods.
 */

const TRUST_DOMAIN = 'truth.test';
const NODES = ['node-a', 'node-b', 'node-c'] as const;
/** How long the API server is away, in seconds; minutes by hand. */
const OUTAGE_S = Number(process.env['SIGNET_OUTAGE_S'] ?? 8);
/** A deletion is known to a replica so long after the API server has confirmed it, on a machine that is busy. */
const GRACE_MS = 2_000;

interface Life {
  readonly name: string;
  readonly nodeName: string;
  readonly from: number;
  /** When the API server had confirmed the deletion. */
  until: number;
}

interface Signed {
  readonly at: number;
  readonly nodeName: string;
  readonly uid: string;
  readonly spiffeId: string;
}

/** A Service with three endpoints: each new connection goes to the next one that takes it. */
async function startFront(
  ports: readonly number[],
): Promise<{ readonly port: number; close(): Promise<void> }> {
  let next = 0;
  const server: Server = createServer((client) => {
    const tries = ports.map((_, index) => ports[(next + index) % ports.length] ?? 0);
    next += 1;
    const dial = ([port, ...others]: readonly number[]): void => {
      if (port === undefined) {
        client.destroy();
        return;
      }
      const upstream = connect({ host: '127.0.0.1', port });
      const failed = (): void => dial(others);
      upstream.once('error', failed);
      upstream.once('connect', () => {
        upstream.off('error', failed);
        for (const [one, other] of [
          [client, upstream],
          [upstream, client],
        ] as const)
          one.on('error', () => undefined).on('close', () => other.destroy());
        client.pipe(upstream);
        upstream.pipe(client);
      });
    };
    client.on('error', () => undefined);
    dial(tries);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('while everything fails', () => {
  let plane: ControlPlane;
  let scope: Scope;
  const replicas: { readonly process: Program; readonly port: number }[] = [];
  const agents = new Map<string, ClusterAgent>();
  const lives = new Map<string, Life>();
  const signed: Signed[] = [];
  const random = seededRandom(7);

  beforeAll(async () => {
    scope = newScope();
    plane = await startControlPlane();
    scope.onEnd(() => plane.close());
    await prepareCluster(plane, TRUST_DOMAIN);
    await create(plane, '/api/v1/namespaces', { metadata: { name: 'shop' } });
    await create(plane, '/api/v1/namespaces/shop/serviceaccounts', { metadata: { name: 'default' } });
    await create(plane, '/apis/signet.dev/v1alpha1/namespaces/shop/workloadidentities', {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'WorkloadIdentity', metadata: { name: 'web' } },
      spec: {
        podSelector: { matchLabels: { app: 'web' } },
        spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/ns/{{ .Namespace }}/pod/{{ .PodUID }}',
      },
    });
    for (let index = 0; index < 3; index++) replicas.push(await startReplica());
    const front = await startFront(replicas.map(({ port }) => port));
    scope.onEnd(() => front.close());
    for (const nodeName of NODES) {
      const agent = await startClusterAgent(plane, {
        ...{ nodeName, port: front.port, trustDomain: TRUST_DOMAIN },
        signed: (id, chain) => note(nodeName, id, chain),
      });
      scope.onEnd(() => agent.stop());
      agents.set(nodeName, agent);
    }
  }, rig.rigTimeout);
  afterAll(() => scope.end());

  const startReplica = async (): Promise<{ readonly process: Program; readonly port: number }> => {
    const anyPort = '127.0.0.1:0';
    const flags = ['--kubeconfig', plane.kubeconfig, '--listen-address', anyPort, '--http-address', anyPort];
    const process = start(scope, signetCommand(['server', ...flags]));
    const port = await until(
      'a replica is ready',
      () => {
        const line = process
          .stderr()
          .split('\n')
          .find((one) => one.includes('the server is ready'));
        const [, digits] = /"address":"127\.0\.0\.1:([0-9]+)"/.exec(line ?? '') ?? [];
        return digits === undefined ? undefined : Number(digits);
      },
      60_000,
    );
    return { process, port };
  };

  const note = (nodeName: string, registrationId: string, chain: readonly Uint8Array[]): void => {
    const leaf = parseCertificate(chain[0] ?? new Uint8Array());
    const uid = registrationId.split('/')[0] ?? '';
    signed.push({ at: performance.now(), nodeName, uid, spiffeId: leaf.uris[0] ?? '' });
  };

  let made = 0;
  const oneChange = async (): Promise<void> => {
    const alive = [...lives].filter(([, { until: end }]) => end === Infinity);
    const chosen = alive[Math.floor(random.fraction() * alive.length)];
    const nodeName = NODES[Math.floor(random.fraction() * NODES.length)] ?? NODES[0];
    const kind = random.fraction();
    // A pod moves: it goes here, and one of the same name comes there.
    let name = `web-${made++}`;
    if (chosen !== undefined && (kind < 0.4 || alive.length > 40)) {
      const [uid, life] = chosen;
      await deletePod(plane, 'shop', life.name);
      lives.set(uid, { ...life, until: performance.now() });
      if (kind < 0.2) return;
      name = life.name;
    }
    const from = performance.now();
    const uid = await makePod(plane, 'shop', {
      metadata: { name, labels: { app: random.fraction() < 0.8 ? 'web' : 'other' } },
      spec: {
        ...{ nodeName, automountServiceAccountToken: false },
        containers: [{ name: 'main', image: 'registry.example.org/app:1' }],
      },
    });
    lives.set(uid, { name, nodeName, from, until: Infinity });
  };

  /** Makes changes, one after another, for so long. */
  const churn = async (ms: number): Promise<void> => {
    const end = performance.now() + ms;
    while (performance.now() < end) {
      await oneChange();
      await pause(20);
    }
  };

  const wanted = async (): Promise<ReadonlyMap<string, readonly string[]>> => {
    const { body } = await plane.request('GET', '/api/v1/namespaces/shop/pods?labelSelector=app%3Dweb');
    const { items } = body as {
      readonly items: readonly {
        readonly metadata: { readonly uid: string };
        readonly spec: { readonly nodeName: string };
      }[];
    };
    return new Map(
      NODES.map((nodeName) => [
        nodeName,
        items
          .filter(({ spec }) => spec.nodeName === nodeName)
          .map(({ metadata }) => `${metadata.uid}/shop/web`)
          .sort(),
      ]),
    );
  };

  /** Each agent has an SVID for each pod of its node, and for nobody else. */
  const settled = async (limitMs = 30_000): Promise<void> => {
    const want = await wanted();
    await until(
      'the agents have what the API server says',
      () =>
        NODES.every(
          (nodeName) => JSON.stringify(agents.get(nodeName)?.ids()) === JSON.stringify(want.get(nodeName)),
        ),
      limitMs,
    );
  };

  const leaderOf = async (): Promise<string> => {
    const { body } = await plane.request(
      'GET',
      `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM}/leases/signet-server`,
    );
    return (body as { readonly spec: { readonly holderIdentity?: string } }).spec.holderIdentity ?? '';
  };

  it(
    'signs nothing but what is true, and everything that is',
    async () => {
      await churn(3_000);
      await settled();

      // The leader is killed: signing goes on, and another one leads soon.
      const leader = await leaderOf();
      const led = replicas.find(({ process }) => process.stderr().includes('this replica leads'));
      await led?.process.kill('SIGKILL');
      const killedAt = performance.now();
      const churning = churn(6_000);
      await until('another replica leads', async () => {
        const now = await leaderOf();
        return now !== '' && now !== leader;
      });
      const leaderlessMs = performance.now() - killedAt;
      await churning;
      await settled();
      expect(leaderlessMs).toBeLessThan(15_000);

      // The API server is away: what agents hold stays; nothing can change, so nothing can be wrong.
      const before = NODES.map((nodeName) => agents.get(nodeName)?.ids());
      await plane.stopApiServer();
      await pause(OUTAGE_S * 1000);
      expect(NODES.map((nodeName) => agents.get(nodeName)?.ids())).toEqual(before);
      await plane.startApiServer();
      await churn(3_000);
      await settled(60_000);

      await plane.killEtcd();
      await pause(1_000);
      await plane.startEtcd();
      await until(
        'the API server answers',
        async () => (await plane.request('GET', '/readyz')).status === 200,
        30_000,
      );
      await churn(3_000);
      await settled(60_000);

      expect(signed.length).toBeGreaterThan(100);
      expect(signed.flatMap(untruth)).toEqual([]);
    },
    240_000 + OUTAGE_S * 1000,
  );

  it('refuses an agent the pods of other nodes, whichever replica it asks', async () => {
    const want = await wanted();
    const { csr } = await makeKey('ec-p256');
    for (const nodeName of NODES) {
      const foreign = NODES.filter((other) => other !== nodeName).flatMap((other) => want.get(other) ?? []);
      expect(foreign.length).toBeGreaterThan(0);
      const results = await agents
        .get(nodeName)
        ?.api.signX509(foreign.map((registrationId) => ({ registrationId, csr })));
      expect(results?.map((result) => (result.ok ? 'signed' : result.code))).toEqual(
        foreign.map(() => 'RegistrationNotFound'),
      );
    }
  });

  /** Why an SVID should not have been signed. */
  const untruth = ({ at, nodeName, uid, spiffeId }: Signed): readonly string[] => {
    const life = lives.get(uid);
    if (life === undefined) return [`${uid} never was`];
    return [
      ...(life.nodeName === nodeName ? [] : [`${uid} is on ${life.nodeName}, and ${nodeName} got its SVID`]),
      ...(at >= life.from ? [] : [`${uid} was not there yet`]),
      ...(at <= life.until + GRACE_MS ? [] : [`${uid} had been gone for ${Math.round(at - life.until)} ms`]),
      ...(spiffeId === `spiffe://${TRUST_DOMAIN}/ns/shop/pod/${uid}` ? [] : [`${uid} got ${spiffeId}`]),
    ];
  };
});
