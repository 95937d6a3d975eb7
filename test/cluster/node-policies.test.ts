import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { join } from 'node:path';
import { PolicyStore } from '../../src/agent/access/policy-store.js';
import { createAgent } from '../../src/agent/agent.js';
import { extAuthzHandlers } from '../../src/agent/authorization/ext-authz.js';
import { connectToServer } from '../../src/agent/remote/server-connection.js';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { openNodeAuthorization } from '../../src/main/node-authorization.js';
import { connectUnix, type TypedClient } from '../../src/rpc/client.js';
import type {
  AuthorizationService,
  CheckRequest,
} from '../../src/rpc/gen/envoy/service/auth/external_auth.js';
import { createRemoteNodeApi } from '../../src/rpc/node/remote-node-api.js';
import type { PolicyUpdate } from '../../src/rpc/node-api.js';
import { createRpcServer } from '../../src/rpc/server.js';
import { authorizationService, nodeService } from '../../src/rpc/services.js';
import { start, type Program } from '../e2e/support/process.js';
import { newScope } from '../e2e/support/scope.js';
import { signetCommand } from '../e2e/support/signet.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import { freePorts } from '../rig/free-ports.js';
import * as rig from '../rig/rig.js';
import { agentToken, boundPod, bundleOf, makePod, prepareWorkloads } from '../support/cluster-agents.js';
import { create, prepareCluster, TRUST_DOMAINS } from '../support/cluster-server.js';
import { startFront, type Front } from '../support/front.js';
import { recordingLogger, type RecordingLogger } from '../support/recording-logger.js';
import { until } from '../support/until.js';

/* What is applied to a real API server decides at the sockets of pods, through a server that is killed and one that comes. */

const TRUST_DOMAIN = 'policies.test';
const SIGNET = '/apis/signet.dev/v1alpha1';

interface NodeAgent {
  readonly policies: PolicyStore;
  readonly logger: RecordingLogger;
  /** Everything that came over the stream, as it was. */
  readonly came: PolicyUpdate[];
  /** The node API as this agent may use it. */
  readonly nodeApi: TypedClient<typeof nodeService>;
  /** What the enforcement point of a pod is told about a caller. */
  decide(podUid: string, caller: string | undefined, path?: string): Promise<boolean>;
  stop(): Promise<void>;
}

const policyOf = (namespace: string, name: string, from: object, more: object = {}): object => ({
  ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'AccessPolicy', metadata: { namespace, name } },
  spec: { target: {}, rules: [{ name: 'r', from: [from], ...more }] },
});

const HTTP = {
  ...{ id: '1', method: 'GET', headers: {}, host: 'x', scheme: 'http', query: '', fragment: '' },
  ...{ size: 0, protocol: 'HTTP/1.1', body: '', rawBody: Buffer.alloc(0), headerMap: undefined },
};

const caller = (namespace: string, account = 'default'): string =>
  `spiffe://${TRUST_DOMAIN}/ns/${namespace}/sa/${account}`;

(rig.isSkipped('kubernetes') ? describe.skip : describe)('policies on the nodes of a cluster', () => {
  const scope = newScope();
  let plane: ControlPlane;
  let front: Front;
  let server: { readonly program: Program; readonly port: number };

  const serve = async (): Promise<typeof server> => {
    const [port = 0] = await freePorts(1);
    const address = `127.0.0.1:${port}`;
    const program = start(
      scope,
      signetCommand([
        ...['server', '--kubeconfig', plane.kubeconfig, '--http-address', '127.0.0.1:0'],
        ...['--listen-address', address, '--advertise-address', address],
      ]),
    );
    await until('a server that is ready', () => {
      if (program.hasExited()) throw new Error(program.stderr().slice(-3000));
      return program.stderr().includes('the server is ready');
    });
    return { program, port };
  };

  const startNode = async (nodeName: string, podUids: readonly string[]): Promise<NodeAgent> => {
    const logger = recordingLogger();
    const parts = { clock: systemClock, random: systemRandom, logger };
    const [token, bundle] = [await agentToken(plane, nodeName), await bundleOf(plane, TRUST_DOMAIN)];
    const stop = new AbortController();
    const connection = await connectToServer(
      {
        ...{ trustDomain: TRUST_DOMAIN, host: '127.0.0.1', port: front.port, keyType: 'ec-p256', ...parts },
        readToken: () => Promise.resolve(token),
        readBundle: () => Promise.resolve(bundle),
      },
      stop.signal,
    );
    const remote = createRemoteNodeApi(() => connection.rpc, TRUST_DOMAIN);
    const came: PolicyUpdate[] = [];
    const policies = new PolicyStore(nodeName);
    const agent = createAgent({
      ...{ nodeName, policies, ...parts },
      api: {
        ...remote,
        async *bundles(signal) {
          for await (const update of remote.bundles(signal)) {
            connection.learn(update.own, update.taintedX509);
            yield update;
          }
        },
        async *policies(held, signal) {
          for await (const update of remote.policies?.(held, signal) ?? []) {
            came.push(update);
            yield update;
          }
        },
      },
    });
    const access = openNodeAuthorization({ agent, policies, tellReasons: true, ...parts });
    const rpc = createRpcServer(parts);
    rpc.service(authorizationService, extAuthzHandlers(access.authorization));
    const folder = scope.folder();
    const clients = new Map<string, TypedClient<AuthorizationService>>();
    for (const [at, uid] of podUids.entries()) {
      const path = join(folder, `${at}.sock`);
      await rpc.listenUnix({ path, mode: 0o600, name: `pod/${uid}`, peerCredentials: false });
      const one = connectUnix(path);
      scope.onEnd(() => one.close());
      clients.set(uid, one.client(authorizationService));
    }
    const running = agent.run(stop.signal);
    let stopped: Promise<void> | undefined;
    const node: NodeAgent = {
      ...{ policies, logger, came, nodeApi: connection.rpc.client(nodeService) },
      async decide(podUid, from, path = '/') {
        const peer = { service: '', labels: {}, principal: '', certificate: '', address: undefined };
        const request = {
          attributes: {
            source: { ...peer, principal: from ?? '' },
            destination: peer,
            request: { time: undefined, http: { ...HTTP, path } },
          },
        } as unknown as CheckRequest;
        const answer = await clients.get(podUid)?.check(request);
        return answer?.status?.code === 0;
      },
      stop: () =>
        (stopped ??= (async () => {
          stop.abort();
          await running.catch(() => undefined);
          access.close();
          await rpc.close();
          connection.close();
        })()),
    };
    scope.onEnd(() => node.stop());
    return node;
  };

  const put = async (object: object): Promise<void> => {
    const { kind, metadata, spec } = object as {
      kind: string;
      metadata: { namespace?: string; name: string };
      spec: unknown;
    };
    const plural = kind === 'AccessPolicy' ? 'accesspolicies' : 'clusteraccesspolicies';
    const place = metadata.namespace === undefined ? '' : `/namespaces/${metadata.namespace}`;
    const collection = `${SIGNET}${place}/${plural}`;
    // The status is written meanwhile, so another's version may be in between.
    await until('the API server to take it', async () => {
      const { status, body } = await plane.request('GET', `${collection}/${metadata.name}`);
      const answer =
        status === 404
          ? await plane.request('POST', collection, object)
          : await plane.request('PUT', `${collection}/${metadata.name}`, { ...(body as object), spec });
      if (answer.status !== 409) expect(answer.status).toBeLessThan(300);
      return answer.status < 300;
    });
  };
  const decides = (
    node: NodeAgent,
    uid: string,
    from: string | undefined,
    allowed: boolean,
  ): Promise<unknown> =>
    until(
      `${String(from)} ${allowed ? 'allowed' : 'denied'}`,
      async () => (await node.decide(uid, from)) === allowed,
    );

  let one: NodeAgent;
  let two: NodeAgent;
  let shopUid: string;
  let bankUid: string;

  beforeAll(async () => {
    plane = await startControlPlane();
    await prepareCluster(plane, TRUST_DOMAIN);
    for (const namespace of ['shop', 'bank', 'front']) await prepareWorkloads(plane, namespace);
    shopUid = await makePod(plane, 'shop', boundPod('web-1', 'n1'));
    bankUid = await makePod(plane, 'bank', boundPod('web-1', 'n2'));
    server = await serve();
    front = await startFront(server.port);
    scope.onEnd(() => front.close());
    one = await startNode('n1', [shopUid]);
    two = await startNode('n2', [bankUid]);
    await until('policies', () => one.policies.synced.value && two.policies.synced.value);
  }, rig.rigTimeout);
  afterAll(async () => {
    await scope.end();
    await plane?.close();
  });

  it('decide soon after they are applied, changed and deleted', async () => {
    expect(await one.decide(shopUid, caller('front'))).toBe(false);
    const took: number[] = [];
    for (let round = 0; round < 40; round++) {
      const allowed = round % 2 === 0;
      const namespaces = allowed ? ['front'] : ['nobody'];
      await put(policyOf('shop', 'web', { namespaces }));
      // From when the API server has said yes.
      const began = performance.now();
      while ((await one.decide(shopUid, caller('front'))) !== allowed) {
        if (performance.now() - began > 5_000) throw new Error(`round ${round} is not taken in`);
      }
      took.push(performance.now() - began);
    }
    took.sort((a, b) => a - b);
    const median = took[20] ?? NaN;
    expect(median).toBeLessThan(100);
    await put(policyOf('shop', 'web', { namespaces: ['front'] }));
    await decides(one, shopUid, caller('front'), true);
    await plane.request('DELETE', `${SIGNET}/namespaces/shop/accesspolicies/web`);
    await decides(one, shopUid, caller('front'), false);
  }, 60_000);

  it('come to no node that has no pod of their namespace', async () => {
    const secret = 'only-the-bank-may-read-this';
    await put(policyOf('bank', 'secret', { namespaces: [secret] }));
    await until(
      'the policy at its node',
      () => two.policies.get('AccessPolicy', 'bank/secret') !== undefined,
    );
    // What comes after it shows that the stream of the other node is past it.
    await put(policyOf('shop', 'after', { namespaces: ['x'] }));
    await until(
      'a later one at the other',
      () => one.policies.get('AccessPolicy', 'shop/after') !== undefined,
    );
    expect(JSON.stringify(one.came)).not.toContain(secret);
    expect(JSON.stringify(two.came)).toContain(secret);
    const everything = one.came.flatMap(({ upserts }) => upserts);
    expect(everything.filter(({ key }) => key.startsWith('Pod/')).map(({ key }) => key)).not.toContain(
      'Pod/bank/web-1',
    );
    // Neither managers of fields, nor statuses, nor what the TrustDomain says of keys.
    expect(JSON.stringify(everything)).not.toMatch(/managedFields|"status"|keyEncryption|resourceVersion/);
  }, 30_000);

  it('come to a node with the first pod of their namespace, and go with the last one', async () => {
    await makePod(plane, 'bank', boundPod('web-2', 'n1'));
    await until('the policy', () => one.policies.get('AccessPolicy', 'bank/secret') !== undefined);
    await plane.request('DELETE', '/api/v1/namespaces/bank/pods/web-2?gracePeriodSeconds=0');
    await until('it gone', () => one.policies.get('AccessPolicy', 'bank/secret') === undefined);
  }, 30_000);

  it('tell of callers on other nodes what a condition asks, and no more', async () => {
    expect(one.policies.list('Source')).toEqual([]);
    const when = { sourceLabels: { matchLabels: { app: 'web' } } };
    await put(policyOf('shop', 'labels', { namespaces: ['bank'] }, { when }));
    await decides(one, shopUid, caller('bank'), true);
    expect(one.policies.list('Source').map(({ metadata }) => metadata.name)).toEqual([caller('bank')]);
    // Another pod of the same ID and other labels: what a caller is can no longer be told.
    await makePod(plane, 'bank', {
      ...boundPod('web-other', 'n2'),
      metadata: { name: 'web-other', labels: { app: 'web', version: 'x' } },
    });
    await decides(one, shopUid, caller('bank'), false);
    await plane.request('DELETE', '/api/v1/namespaces/bank/pods/web-other?gracePeriodSeconds=0');
    await decides(one, shopUid, caller('bank'), true);
    await plane.request('DELETE', `${SIGNET}/namespaces/shop/accesspolicies/labels`);
    await until('nothing of others', () => one.policies.list('Source').length === 0);
  }, 30_000);

  it('are sent to the node of the certificate, whatever the request names', async () => {
    const keys: string[] = [];
    // An agent of n1 that says it holds things of n2 learns that they are not its own, and nothing of them.
    const held = [
      { key: 'AccessPolicy/bank/secret', revision: 'x' },
      { key: 'Pod/bank/web-1', revision: 'x' },
    ];
    for await (const { upserts, removed, more } of one.nodeApi.watchPolicies({ held })) {
      keys.push(...upserts.map(({ key }) => key));
      if (more) continue;
      expect(removed.sort()).toEqual(held.map(({ key }) => key));
      break;
    }
    expect(keys).toContain('Pod/shop/web-1');
    expect(keys.filter((key) => key.includes('bank'))).toEqual([]);
    // More streams than its share are refused.
    const stop = new AbortController();
    const streams = Array.from({ length: 6 }, async () => {
      for await (const { more } of one.nodeApi.watchPolicies({ held: [] }, { signal: stop.signal }))
        if (more) continue;
    });
    await expect(Promise.race(streams)).rejects.toMatchObject({ status: 'ResourceExhausted' });
    stop.abort();
    await Promise.allSettled(streams);
  }, 30_000);

  it('hold while the server is killed and away, and what was missed comes with the next one', async () => {
    await put(policyOf('shop', 'web', { namespaces: ['front'] }));
    await decides(one, shopUid, caller('front'), true);
    await server.program.kill('SIGKILL');
    await until('the loss told', () => one.policies.stats().staleSince !== undefined);
    expect(await one.decide(shopUid, caller('front'))).toBe(true);
    expect(await one.decide(shopUid, caller('bank'))).toBe(false);
    await put(policyOf('shop', 'web', { namespaces: ['bank'] }));
    const before = one.came.length;
    server = await serve();
    front.to(server.port);
    await decides(one, shopUid, caller('bank'), true);
    await decides(one, shopUid, caller('front'), false);
    expect(one.policies.stats().staleSince).toBeUndefined();
    // The same was not sent again.
    const [next] = one.came.slice(before);
    expect(next?.snapshot).toBe(false);
    expect(next?.upserts.map(({ key }) => key)).toEqual(['AccessPolicy/shop/web']);
  }, 90_000);

  it('allow nothing any more when there is no TrustDomain', async () => {
    await put({
      ...policyOf('x', 'open', { anyone: true }),
      ...{ kind: 'ClusterAccessPolicy', metadata: { name: 'open' } },
      spec: { tier: 'Baseline', target: {}, rules: [{ name: 'r', from: [{ anyone: true }] }] },
    });
    await decides(two, bankUid, undefined, false);
    await plane.request('DELETE', `${SIGNET}/namespaces/bank/accesspolicies/secret`);
    await decides(two, bankUid, undefined, true);
    const { body } = await plane.request('GET', `${TRUST_DOMAINS}/main`);
    await plane.request('DELETE', `${TRUST_DOMAINS}/main`);
    await decides(two, bankUid, undefined, false);
    expect(two.logger.all.join('\n')).toContain('there is no TrustDomain');
    const { apiVersion, kind, spec } = body as Record<string, unknown>;
    await create(plane, TRUST_DOMAINS, { apiVersion, kind, metadata: { name: 'main' }, spec });
    await decides(two, bankUid, undefined, true);
  }, 30_000);
});
