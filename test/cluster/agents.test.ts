import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { X509Certificate } from 'node:crypto';
import { makeKey } from '../../src/agent/key-maker.js';
import { connectToServer } from '../../src/agent/remote/server-connection.js';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import type { IdentityStatus } from '../../src/resources/identity.js';
import { replicaIdentity } from '../../src/server/peers/leader-address.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import { freePorts } from '../rig/free-ports.js';
import * as rig from '../rig/rig.js';
import {
  AGENT,
  agentToken,
  AUDIENCE,
  boundPod,
  bundleOf,
  deletePod,
  makePod,
  prepareWorkloads,
  startClusterAgent,
  type ClusterAgent,
} from '../support/cluster-agents.js';
import {
  create,
  prepareCluster,
  startClusterServer,
  SYSTEM,
  TRUST_DOMAINS,
  type ClusterServer,
} from '../support/cluster-server.js';
import { startFront } from '../support/front.js';
import { recordingLogger } from '../support/recording-logger.js';
import { until } from '../support/until.js';

/* Agents of nodes that are only names, against servers and a control plane that are real. */

const TRUST_DOMAIN = 'agents.test';

(rig.isSkipped('kubernetes') ? describe.skip : describe)('agents of a cluster', () => {
  let plane: ControlPlane;
  let server: ClusterServer;
  let port: number;
  const closers: (() => unknown)[] = [];

  beforeAll(async () => {
    plane = await startControlPlane({ audit: true });
    await prepareCluster(plane, TRUST_DOMAIN);
    await prepareWorkloads(plane, 'shop');
    server = startClusterServer(plane, 'replica-0');
    port = (await server.ready).address.port;
  }, rig.rigTimeout);
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });
  afterAll(async () => {
    await server?.stop();
    await plane?.close();
  });

  const agentAt = async (nodeName: string, at = port): Promise<ClusterAgent> => {
    const agent = await startClusterAgent(plane, { nodeName, port: at, trustDomain: TRUST_DOMAIN });
    closers.push(() => agent.stop());
    return agent;
  };
  const has = (agent: ClusterAgent, uid: string): boolean => agent.ids().includes(`${uid}/shop/web`);
  const replica = async (name: string): Promise<{ server: ClusterServer; port: number }> => {
    const started = startClusterServer(plane, name);
    closers.push(() => started.stop());
    return { server: started, port: (await started.ready).address.port };
  };
  /** What becomes of an attempt to prove oneself with this token: the reason of the refusal. */
  const refusalOf = async (token: string): Promise<string> => {
    const logger = recordingLogger();
    const stop = new AbortController();
    const bundle = await bundleOf(plane, TRUST_DOMAIN);
    const attempt = connectToServer(
      {
        ...{ trustDomain: TRUST_DOMAIN, host: '127.0.0.1', port, keyType: 'ec-p256', logger },
        ...{ clock: systemClock, random: systemRandom },
        readToken: () => Promise.resolve(token),
        readBundle: () => Promise.resolve(bundle),
      },
      stop.signal,
    );
    const ended = attempt.then(
      () => 'believed',
      () => 'stopped',
    );
    const said = await until('an answer', async () => {
      const line = logger.all.find((one) => one.includes('does not take this agent yet'));
      return line ?? (await Promise.race([ended, Promise.resolve(undefined)]));
    });
    stop.abort();
    await ended;
    await attempt.then((connection) => connection.close()).catch(() => undefined);
    expect(`${said} ${server.logger.all.join('\n')}`).not.toContain(token.split('.')[2] ?? token);
    return said;
  };

  it('get the SVID of a pod when it is bound, and lose it when the pod is gone', async () => {
    const agent = await agentAt('n1');
    const uid = await makePod(plane, 'shop', boundPod('web-1', 'n1'));
    const other = await makePod(plane, 'shop', boundPod('web-2', 'n2'));
    await until('the SVID of the pod', () => has(agent, uid));
    expect(has(agent, other)).toBe(false);
    await deletePod(plane, 'shop', 'web-1');
    await until('the SVID gone with the pod', () => !has(agent, uid));
    await deletePod(plane, 'shop', 'web-2');
    expect(agent.failures).toEqual([]);
  }, 60_000);

  it('replace what they hold with keys and lifetimes as the TrustDomain says now, without a restart', async () => {
    const seen: string[] = [];
    const agent = await startClusterAgent(plane, {
      ...{ nodeName: 'n1', port, trustDomain: TRUST_DOMAIN },
      signed(id, [leaf = new Uint8Array()]) {
        const { publicKey, validFrom, validTo } = new X509Certificate(leaf);
        const hours = (Date.parse(validTo) - Date.parse(validFrom)) / 3_600_000;
        seen.push(`${id} ${publicKey.asymmetricKeyDetails?.namedCurve ?? '?'} ${Math.round(hours)}h`);
      },
    });
    closers.push(() => agent.stop());
    const uid = await makePod(plane, 'shop', boundPod('web-k', 'n1'));
    const change = (spec: object): Promise<unknown> =>
      plane.request('PATCH', `${TRUST_DOMAINS}/main`, { spec });
    await until('the SVID of the pod', () => seen.includes(`${uid}/shop/web prime256v1 1h`));
    await change({ keyTypes: { workload: 'ec-p384' }, ttls: { x509Svid: '3h' } });
    await until('one with the other key and life', () => seen.includes(`${uid}/shop/web secp384r1 3h`));
    await change({ keyTypes: null, ttls: null });
    await until('one as before', () => seen.at(-1) === `${uid}/shop/web prime256v1 1h`);
    await deletePod(plane, 'shop', 'web-k');
  }, 60_000);

  it('have nothing signed but what their own node holds', async () => {
    const agent = await agentAt('n1');
    const mine = await makePod(plane, 'shop', boundPod('web-3', 'n1'));
    const theirs = await makePod(plane, 'shop', boundPod('web-4', 'n2'));
    await until('the SVID of the pod', () => has(agent, mine));
    const { csr } = await makeKey('ec-p256');
    const ids = [mine, theirs, 'forged'].map((uid) => `${uid}/shop/web`);
    const results = await agent.api.signX509(ids.map((registrationId) => ({ registrationId, csr })));
    expect(results.map((result) => (result.ok ? 'signed' : result.code))).toEqual([
      'signed',
      'RegistrationNotFound',
      'RegistrationNotFound',
    ]);
    await deletePod(plane, 'shop', 'web-3');
    await until('its registration gone', async () => {
      const [again] = await agent.api.signX509([{ registrationId: `${mine}/shop/web`, csr }]);
      return again?.ok === false && again.code === 'RegistrationNotFound';
    });
    await deletePod(plane, 'shop', 'web-4');
  }, 60_000);

  it('are believed by a token of their own pod, audience and service account, and by no other', async () => {
    const good = await agentToken(plane, 'n3');
    const boundTo = { boundPod: { name: 'agent-n3' } };
    const account = { namespace: SYSTEM, name: AGENT };
    expect(await refusalOf(good)).toBe('believed');
    expect(await refusalOf('nonsense')).toContain('does not accept the token');
    const [header, payload, signature] = good.split('.');
    const claims = JSON.parse(Buffer.from(payload ?? '', 'base64url').toString()) as Record<string, unknown>;
    const forged = Buffer.from(JSON.stringify({ ...claims, jti: 'x' })).toString('base64url');
    expect(await refusalOf(`${header}.${forged}.${signature}`)).toContain('does not accept the token');
    expect(await refusalOf(await plane.serviceAccountToken({ ...account, ...boundTo }))).toContain(AUDIENCE);
    expect(
      await refusalOf(await plane.serviceAccountToken({ ...account, ...boundTo, audience: 'another' })),
    ).toMatch(/does not accept|not for audience/);
    // Of no pod.
    expect(await refusalOf(await plane.serviceAccountToken({ ...account, audience: AUDIENCE }))).toContain(
      'does not say its',
    );
    // Of a workload's service account.
    await makePod(plane, 'shop', boundPod('spy-1', 'n3'));
    const spy = { namespace: 'shop', name: 'default', audience: AUDIENCE, boundPod: { name: 'spy-1' } };
    expect(await refusalOf(await plane.serviceAccountToken(spy))).toContain('agents run as service account');
    // Of a pod that is gone.
    await deletePod(plane, SYSTEM, 'agent-n3');
    expect(await refusalOf(good)).toMatch(/does not accept|is not there/);
  }, 60_000);

  it('are not believed when the same token comes again and again', async () => {
    const token = await agentToken(plane, 'n4');
    for (let use = 0; use < 10; use++) expect(await refusalOf(token)).toBe('believed');
    expect(await refusalOf(token)).toContain('has come 11 times');
    expect(await refusalOf(await agentToken(plane, 'n4'))).toBe('believed');
  }, 60_000);

  it('move to another replica when theirs stops, hold all that they held, and no sign request fails', async () => {
    const [one, two] = [await replica('replica-1'), await replica('replica-2')];
    const front = await startFront(one.port);
    closers.push(() => front.close());
    const uids = await Promise.all(
      Array.from({ length: 20 }, (_, at) => makePod(plane, 'shop', boundPod(`web-m${at}`, 'n5'))),
    );
    const agent = await agentAt('n5', front.port);
    await until('all SVIDs', () => uids.every((uid) => has(agent, uid)));
    const serials = new Map(agent.ids().map((id) => [id, agent.agent.svidOf(id)]));
    // Sign requests without a pause, while the replica stops.
    const { csr } = await makeKey('ec-p256');
    const failed: string[] = [];
    let signing = true;
    let signed = 0;
    const load = (async () => {
      while (signing) {
        const requests = uids.map((uid) => ({ registrationId: `${uid}/shop/web`, csr }));
        const results = await agent.api.signX509(requests).catch((error: unknown) => {
          failed.push(String(error));
          return [];
        });
        signed += results.filter(({ ok }) => ok).length;
        for (const result of results) if (!result.ok) failed.push(result.code);
      }
    })();
    await until('some signatures', () => signed > 200);
    front.to(two.port);
    const began = performance.now();
    await one.server.stop();
    const took = performance.now() - began;
    const then = signed;
    await until('signatures by the other', () => signed > then + 200);
    signing = false;
    await load;
    expect(failed).toEqual([]);
    // Nobody waits for the grace of ten seconds to pass.
    expect(took).toBeLessThan(9_000);
    const late = await makePod(plane, 'shop', boundPod('web-late', 'n5'));
    await until('the SVID of a new pod, from the other', () => has(agent, late));
    // What it held before it still holds: nothing was signed anew.
    for (const [id, svid] of serials) expect(agent.agent.svidOf(id)).toBe(svid);
    for (const name of ['late', ...uids.map((_, at) => `m${at}`)])
      await deletePod(plane, 'shop', `web-${name}`);
  }, 120_000);

  it('keep serving while the API server is down, and a server that cannot know the newest authorities signs no more', async () => {
    const agent = await agentAt('n6');
    const uid = await makePod(plane, 'shop', boundPod('web-6', 'n6'));
    await until('the SVID of the pod', () => has(agent, uid));
    await plane.stopApiServer('SIGKILL');
    try {
      expect(has(agent, uid)).toBe(true);
      const { csr } = await makeKey('ec-p256');
      const request = [{ registrationId: `${uid}/shop/web`, csr }];
      const [soon] = await agent.api.signX509(request);
      expect(soon).toMatchObject({ ok: true });
      await until(
        'a server that knows that it may not know',
        async () => {
          const [later] = await agent.api.signX509(request);
          return later?.ok === false && later.code === 'StateStale' && later.retryable;
        },
        60_000,
      );
      expect(has(agent, uid)).toBe(true);
    } finally {
      await plane.startApiServer();
    }
    const next = await makePod(plane, 'shop', boundPod('web-7', 'n6'));
    await until('the SVID of a new pod', () => has(agent, next), 60_000);
    for (const name of ['web-6', 'web-7']) await deletePod(plane, 'shop', name);
  }, 180_000);

  it('are counted by the leader whichever replica signs for them', async () => {
    const [leaderPort = 0, otherPort = 0] = await freePorts(2);
    await server.stop();
    const start = async (host: string, at: number): Promise<ClusterServer> => {
      const identity = replicaIdentity(host, `127.0.0.1:${at}`, 'x');
      const started = startClusterServer(plane, identity, { listen: { address: '127.0.0.1', port: at } });
      closers.push(() => started.stop());
      await started.ready;
      return started;
    };
    const leader = await start('leader', leaderPort);
    await until('a leader', async () => (await leader.ready).leading.value, 30_000);
    await start('other', otherPort);
    const agent = await agentAt('n7', otherPort);
    const uid = await makePod(plane, 'shop', boundPod('web-10', 'n7'));
    await until('the SVID of the pod', () => has(agent, uid));
    const path = '/apis/signet.dev/v1alpha1/namespaces/shop/workloadidentities/web';
    await until(
      'a status that counts it',
      async () => {
        const { body } = await plane.request('GET', path);
        return (body as { readonly status?: IdentityStatus }).status?.svidsIssued === 1;
      },
      60_000,
    );
    await deletePod(plane, 'shop', 'web-10');
  }, 120_000);

  it('bring the SVIDs to mind of a server that starts anew: no status is written when nothing has changed', async () => {
    await server.stop();
    const first = await replica('restarted-1');
    const front = await startFront(first.port);
    closers.push(() => front.close());
    const agent = await agentAt('n8', front.port);
    const uids = [
      await makePod(plane, 'shop', boundPod('web-8', 'n8')),
      await makePod(plane, 'shop', boundPod('web-9', 'n8')),
    ];
    await until('both SVIDs', () => uids.every((uid) => has(agent, uid)));
    const path = '/apis/signet.dev/v1alpha1/namespaces/shop/workloadidentities/web';
    const status = async (): Promise<IdentityStatus> =>
      ((await plane.request('GET', path)).body as { readonly status?: IdentityStatus }).status ?? {};
    const settled = await until(
      'a status that says so',
      async () => {
        const { svidsIssued, podsSelected, ...rest } = await status();
        return svidsIssued === 2 && podsSelected === 2 && { ...rest, svidsIssued, podsSelected };
      },
      60_000,
    );
    const writes = async (): Promise<number> =>
      (await plane.auditLog()).filter(
        ({ verb, objectRef, stage }) =>
          stage === 'ResponseComplete' &&
          objectRef?.resource === 'workloadidentities' &&
          !['get', 'list', 'watch'].includes(verb),
      ).length;
    const before = await writes();
    await first.server.stop();
    const second = await replica('restarted-2');
    front.to(second.port);
    await until('the replica that leads', async () => (await second.server.ready).leading.value, 30_000);
    const led = systemClock.monotonic();
    await until(
      'its first look and the one after it has settled',
      () => systemClock.monotonic() - led > 23_000,
      40_000,
    );
    expect(uids.every((uid) => has(agent, uid))).toBe(true);
    expect(await status()).toEqual(settled);
    expect(await writes()).toBe(before);
    await create(plane, '/api/v1/namespaces', { metadata: { name: 'done' } });
  }, 180_000);
});
