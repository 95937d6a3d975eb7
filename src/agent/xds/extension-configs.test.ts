import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { startCall, testContext, until, type RecordingSink } from '../../../test/support/fake-call.js';
import { FakeClock, settle } from '../../../test/support/fake-clock.js';
import { FakeNodeApi, podRegistration } from '../../../test/support/fake-node-api.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import { createInventory } from '../../access/mesh/inventory.js';
import type { TargetWorkload } from '../../access/policy/model.js';
import { compilePolicySet } from '../../access/policy/policy-set.js';
import { silentLogger, type Logger } from '../../lib/logger.js';
import { WatchedValue } from '../../lib/watched.js';
import { TypedExtensionConfig } from '../../rpc/gen/envoy/core/core.js';
import { DiscoveryResponse, type DiscoveryRequest } from '../../rpc/gen/envoy/discovery/discovery.js';
import { createAgent, type Agent } from '../agent.js';
import { createTargetFinder } from '../authorization/target.js';
import type { AuthorizationView } from '../authorization/view.js';
import { extensionConfigHandlers } from './extension-configs.js';
import { readFilterName } from './filter-name.js';

const TYPE = 'type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig';
const TARGET: TargetWorkload = {
  namespace: 'shop',
  name: 'order',
  serviceAccount: 'order',
  labels: {},
  namespaceLabels: {},
};

/** A view in which `path` is open to everybody, until an instant if one is given. */
function viewOf(path: string, until?: string): AuthorizationView {
  const rules = [
    { name: 'r', from: [{ anyone: true as const }], to: [{ http: { paths: [{ exact: path }] } }] },
  ];
  const spec = { target: {}, rules, ...(until === undefined ? {} : { validity: { until } }) };
  const policy = { kind: 'AccessPolicy', metadata: { name: 'p', namespace: 'shop' }, spec };
  return {
    policies: compilePolicySet([policy], { trustDomain: 'example.org' }),
    inventory: createInventory({ trustDomain: 'example.org', namespaces: [], workloads: [] }),
    pod: (uid) => (uid === 'order' ? TARGET : undefined),
    target: () => undefined,
    source: () => undefined,
  };
}

describe('extension configuration discovery', () => {
  let clock: FakeClock;
  let agent: Agent;
  let stop: AbortController;
  let running: Promise<void>;
  let warnings: string[];
  const views = new WatchedValue<AuthorizationView | undefined>(undefined);

  beforeEach(async () => {
    clock = new FakeClock();
    stop = new AbortController();
    warnings = [];
    const api = await FakeNodeApi.create(clock);
    api.upsert(podRegistration('order'));
    agent = createAgent({ api, nodeName: 'node-1', clock, random: seededRandom(), logger: silentLogger });
    running = agent.run(stop.signal);
    await until(() => agent.ready.value);
    views.set(viewOf('/a'));
  });
  afterEach(async () => {
    stop.abort();
    await running;
  });

  function open(uid = 'order'): {
    send(request: Partial<DiscoveryRequest>): void;
    sink: RecordingSink<DiscoveryResponse>;
  } {
    const logger: Logger = {
      ...silentLogger,
      warn: (message) => warnings.push(message),
      child: () => logger,
    };
    const handlers = extensionConfigHandlers({
      views: {
        get current() {
          return views.value;
        },
        subscribe: (listener) => views.watch(listener),
      },
      targets: createTargetFinder(agent.parts, clock),
      calls: agent.parts,
      clock,
      logger,
    });
    const queue: DiscoveryRequest[] = [];
    let wake = (): void => undefined;
    async function* requests(): AsyncGenerator<DiscoveryRequest> {
      for (;;) {
        const next = queue.shift();
        if (next !== undefined) yield next;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    }
    const { streamExtensionConfigs } = handlers;
    if (streamExtensionConfigs === undefined) throw new Error('the service lacks its method');
    const sink = startCall(
      DiscoveryResponse,
      (context, out) => streamExtensionConfigs(requests(), context, out),
      testContext({ listener: `pod/${uid}`, metadata: {} }),
    );
    const blank = {
      versionInfo: '',
      node: undefined,
      resourceNames: [],
      typeUrl: TYPE,
      responseNonce: '',
      errorDetail: undefined,
    };
    return {
      sink,
      send(request) {
        queue.push({ ...blank, ...request });
        wake();
      },
    };
  }

  const names = ({ resources }: DiscoveryResponse): readonly string[] =>
    resources.map(({ value }) => TypedExtensionConfig.decode(value).name);
  const text = ({ resources }: DiscoveryResponse): string =>
    Buffer.concat(resources.map(({ value }) => value)).toString('latin1');

  it('gives the filters that are asked for, and again only what has become another', async () => {
    const { send, sink } = open();
    send({ resourceNames: ['signet/http/8080', 'signet/network'] });
    const first = await sink.next();
    expect(names(first)).toEqual(['signet/http/8080', 'signet/network']);
    expect(text(first)).toContain('/a?');
    send({ resourceNames: ['signet/http/8080', 'signet/network'], responseNonce: first.nonce });
    views.set(viewOf('/a'));
    await settle();
    expect(sink.writes).toBe(1);
    views.set(viewOf('/b'));
    const second = await sink.next();
    expect(text(second)).toContain('/b?');
    expect(second.versionInfo).not.toBe(first.versionInfo);
  });

  it('denies everything while the policies cannot be read', async () => {
    const { send, sink } = open();
    send({ resourceNames: ['signet/http'] });
    await sink.next();
    views.set(undefined);
    const denying = text(await sink.next());
    expect(denying).toContain('policies-unreadable');
    expect(denying).not.toContain('/a?');
    views.set(viewOf('/a'));
    expect(text(await sink.next())).toContain('/a?');
  });

  it('renders again at the instant at which a policy ends', async () => {
    views.set(viewOf('/a', new Date(clock.now() + 60_000).toISOString()));
    const { send, sink } = open();
    send({ resourceNames: ['signet/http'] });
    expect(text(await sink.next())).toContain('/a?');
    await clock.advance(59_000);
    expect(sink.writes).toBe(1);
    await clock.advance(1_000);
    expect(text(await sink.next())).not.toContain('/a?');
  });

  it('logs what Envoy rejects, and does not send it again', async () => {
    const { send, sink } = open();
    send({ resourceNames: ['signet/http'] });
    const { nonce } = await sink.next();
    send({
      resourceNames: ['signet/http'],
      responseNonce: nonce,
      errorDetail: { code: 3, message: 'no', details: [] },
    });
    await settle();
    expect(warnings).toEqual(['Envoy rejected filters; it keeps those it has']);
    expect(sink.writes).toBe(1);
  });

  it('refuses names that are none, other types, too many, and pods that are gone', async () => {
    const bad: Partial<DiscoveryRequest>[] = [
      { resourceNames: ['other'] },
      { resourceNames: ['signet/http'], typeUrl: 'type.googleapis.com/envoy.config.cluster.v3.Cluster' },
      { resourceNames: Array.from({ length: 17 }, (_, n) => `signet/http/${n + 1}`) },
    ];
    for (const request of bad) {
      const { send, sink } = open();
      send(request);
      expect(await sink.outcome()).toMatchObject({ status: 'InvalidArgument' });
    }
    const gone = open('gone');
    gone.send({ resourceNames: ['signet/http'] });
    expect(await gone.sink.outcome()).toMatchObject({ status: 'PermissionDenied' });
  });

  it('reads names of filters', () => {
    expect(readFilterName('signet/http/8080/plaintext')).toMatchObject({
      kind: 'http',
      port: 8080,
      plaintext: true,
    });
    expect(readFilterName('signet/network')).toEqual({
      text: 'signet/network',
      kind: 'network',
      plaintext: false,
    });
    for (const name of [
      'signet/http/',
      'signet/http/0',
      'signet/http/65536',
      'signet/tcp',
      'signet/http/plaintext/80',
      '',
    ])
      expect(() => readFilterName(name)).toThrow(/there is no filter/);
  });
});
