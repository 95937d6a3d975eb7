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
import {
  DeltaDiscoveryResponse,
  DiscoveryResponse,
  type DeltaDiscoveryRequest,
  type DiscoveryRequest,
} from '../../rpc/gen/envoy/discovery/discovery.js';
import { createAgent, type Agent } from '../agent.js';
import { createTargetFinder } from '../authorization/target.js';
import type { AuthorizationView } from '../authorization/view.js';
import type { EnvoyIssuer } from '../../access/mesh/envoy/issuers.js';
import { extensionConfigHandlers, type ExtensionConfigHandlers } from './extension-configs.js';
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

interface Stream<Req, Res> {
  send(request: Partial<Req>): void;
  readonly sink: RecordingSink<Res>;
}

/** The client's half of a stream. */
function newRequests<Req>(): { readonly requests: AsyncIterable<Req>; send(request: Req): void } {
  const queue: Req[] = [];
  let wake = (): void => undefined;
  async function* read(): AsyncGenerator<Req> {
    for (;;) {
      const next = queue.shift();
      if (next !== undefined) yield next;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
  }
  return {
    requests: read(),
    send(request) {
      queue.push(request);
      wake();
    },
  };
}

describe('extension configuration discovery', () => {
  let clock: FakeClock;
  let agent: Agent;
  let stop: AbortController;
  let running: Promise<void>;
  let warnings: string[];
  const views = new WatchedValue<AuthorizationView | undefined>(undefined);
  const issuers = new WatchedValue<readonly EnvoyIssuer[]>([]);

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
    issuers.set([]);
  });
  afterEach(async () => {
    stop.abort();
    await running;
  });

  function handlers(): ExtensionConfigHandlers {
    const logger: Logger = {
      ...silentLogger,
      warn: (message) => warnings.push(message),
      child: () => logger,
    };
    return extensionConfigHandlers({
      views: {
        get current() {
          return views.value;
        },
        subscribe: (listener) => views.watch(listener),
      },
      issuers,
      targets: createTargetFinder(agent.parts, clock),
      calls: agent.parts,
      clock,
      logger,
    });
  }

  function open(uid = 'order'): Stream<DiscoveryRequest, DiscoveryResponse> {
    const { requests, send } = newRequests<DiscoveryRequest>();
    const sink = startCall(
      DiscoveryResponse,
      (context, out) => handlers().streamExtensionConfigs(requests, context, out),
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
    return { sink, send: (request) => send({ ...blank, ...request }) };
  }

  function openDelta(): Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> {
    const { requests, send } = newRequests<DeltaDiscoveryRequest>();
    const sink = startCall(
      DeltaDiscoveryResponse,
      (context, out) => handlers().deltaExtensionConfigs(requests, context, out),
      testContext({ listener: 'pod/order', metadata: {} }),
    );
    const blank = {
      node: undefined,
      typeUrl: TYPE,
      resourceNamesSubscribe: [],
      resourceNamesUnsubscribe: [],
      initialResourceVersions: {},
      responseNonce: '',
      errorDetail: undefined,
    };
    return { sink, send: (request) => send({ ...blank, ...request }) };
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

  it('gives the keys of token issuers to the filter that verifies, and all again but what stays the same', async () => {
    const issuer = { issuer: 'https://id.example', audiences: ['pay'] };
    const { send, sink } = openDelta();
    send({ resourceNamesSubscribe: ['signet/http', 'signet/prepare'] });
    const first = await sink.next();
    expect(first.resources.map(({ name }) => name)).toEqual(['signet/http', 'signet/prepare']);
    // Without keys nothing could be verified, so nothing is.
    issuers.set([issuer]);
    await settle();
    expect(sink.writes).toBe(1);
    issuers.set([{ ...issuer, jwks: '{"keys":[{"kty":"EC","kid":"one"}]}' }]);
    const second = await sink.next();
    expect(second.resources.map(({ name }) => name)).toEqual(['signet/prepare']);
    const sent = Buffer.from(second.resources[0]?.resource?.value ?? []).toString('latin1');
    expect(sent).toContain('"kid":"one"');
    expect(sent).toContain('https://id.example');
    issuers.set([issuer]);
    expect((await sink.next()).resources[0]?.version).toBe(first.resources[1]?.version);
  });

  describe('incremental', () => {
    const sentNames = ({ resources }: DeltaDiscoveryResponse): readonly string[] =>
      resources.map(({ name, resource }) => {
        expect(TypedExtensionConfig.decode(resource?.value ?? Buffer.alloc(0)).name).toBe(name);
        return name;
      });

    it('sends what is asked for, then only what has become another, and nothing that was given up', async () => {
      const { send, sink } = openDelta();
      send({ resourceNamesSubscribe: ['signet/http/8080'] });
      expect(sentNames(await sink.next())).toEqual(['signet/http/8080']);
      send({ resourceNamesSubscribe: ['signet/network'] });
      const second = await sink.next();
      expect(sentNames(second)).toEqual(['signet/network']);
      send({ responseNonce: second.nonce });
      // Paths are nothing to the network filter, in which such a rule is left out.
      views.set(viewOf('/b'));
      expect(sentNames(await sink.next())).toEqual(['signet/http/8080']);
      send({ resourceNamesUnsubscribe: ['signet/http/8080'] });
      await settle();
      views.set(viewOf('/c'));
      await settle();
      expect(sink.writes).toBe(3);
      views.set(undefined);
      expect(sentNames(await sink.next())).toEqual(['signet/network']);
    });

    it('sends a client that comes again only what it does not have yet', async () => {
      const names = ['signet/http', 'signet/network'];
      const before = openDelta();
      before.send({ resourceNamesSubscribe: names });
      const versions = (await before.sink.next()).resources.map(
        ({ name, version }) => [name, version] as const,
      );
      views.set(viewOf('/b'));
      const { send, sink } = openDelta();
      send({ resourceNamesSubscribe: names, initialResourceVersions: Object.fromEntries(versions) });
      expect(sentNames(await sink.next())).toEqual(['signet/http']);
    });

    it('logs what Envoy rejects, and sends it again only when it is asked for anew', async () => {
      const { send, sink } = openDelta();
      send({ resourceNamesSubscribe: ['signet/http'] });
      const { nonce } = await sink.next();
      send({ responseNonce: nonce, errorDetail: { code: 3, message: 'no', details: [] } });
      await settle();
      expect(warnings).toEqual(['Envoy rejected filters; it keeps those it has']);
      expect(sink.writes).toBe(1);
      send({ resourceNamesSubscribe: ['signet/http'] });
      expect(sentNames(await sink.next())).toEqual(['signet/http']);
    });

    it('refuses names that are none, other types and too many', async () => {
      const numbered = Array.from({ length: 17 }, (_, n) => `signet/http/${n + 1}`);
      for (const requests of [
        [{ resourceNamesSubscribe: ['other'] }],
        [{ typeUrl: 'type.googleapis.com/envoy.config.cluster.v3.Cluster' }],
        [{ resourceNamesSubscribe: numbered }],
        [{ resourceNamesSubscribe: numbered.slice(8) }, { resourceNamesSubscribe: numbered.slice(0, 8) }],
      ]) {
        const { send, sink } = openDelta();
        for (const request of requests) send(request);
        expect(await sink.outcome()).toMatchObject({ status: 'InvalidArgument' });
      }
    });
  });

  it('reads names of filters', () => {
    expect(readFilterName('signet/prepare/80')).toMatchObject({ kind: 'prepare', port: 80 });
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
