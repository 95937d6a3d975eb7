import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { type RecordingSink, startCall, testContext, until } from '../../../test/support/fake-call.js';
import { FakeClock, settle } from '../../../test/support/fake-clock.js';
import { FakeNodeApi, podRegistration } from '../../../test/support/fake-node-api.js';
import { seededRandom } from '../../../test/support/seeded-random.js';
import { parseCertificate } from '../../identity/pki/certificate.js';
import { keyPairFromPkcs8 } from '../../identity/pki/keys.js';
import { decodePem } from '../../identity/pki/pem.js';
import type { TrustBundle } from '../../identity/spiffe/bundle.js';
import type { LogFields, Logger } from '../../lib/logger.js';
import { silentLogger } from '../../lib/logger.js';
import type { DeltaDiscoveryRequest, DiscoveryRequest } from '../../rpc/gen/envoy/discovery/discovery.js';
import { DeltaDiscoveryResponse, DiscoveryResponse } from '../../rpc/gen/envoy/discovery/discovery.js';
import { Secret, SPIFFECertValidatorConfig } from '../../rpc/gen/envoy/tls/tls.js';
import type { Any } from '../../rpc/gen/google/protobuf/any.js';
import { type Agent, createAgent, sdsHandlers } from '../agent.js';
import type { AgentLimits } from '../limits.js';
import { type SdsHandlers, type SdsOptions } from './handlers.js';
import { SECRET_TYPE_URL } from './secrets.js';

const ORDER = 'spiffe://example.org/ns/shop/sa/order';
const HOUR = 3_600_000;

let clock: FakeClock;
let api: FakeNodeApi;
let agent: Agent;
let handlers: SdsHandlers;
let stop: AbortController;
let running: Promise<void> | undefined;
let warnings: { message: string; fields: LogFields | undefined }[];

async function start(options: SdsOptions = {}, limits: Partial<AgentLimits> = {}): Promise<void> {
  const logger: Logger = {
    ...silentLogger,
    warn: (message, fields) => warnings.push({ message, fields }),
    child: () => logger,
  };
  agent = createAgent({ api, nodeName: 'node-1', clock, random: seededRandom(), logger, limits });
  handlers = sdsHandlers(agent, options);
  running = agent.run(stop.signal);
  await until(() => agent.ready.value && agent.stats().svids === api.registrations.size);
}

async function pass(ms: number): Promise<void> {
  await settle();
  await clock.advance(ms);
}

beforeEach(async () => {
  clock = new FakeClock();
  api = await FakeNodeApi.create(clock);
  stop = new AbortController();
  running = undefined;
  warnings = [];
});

afterEach(async () => {
  stop.abort();
  await running;
});

/** The client's half of a stream. */
class Requests<T> implements AsyncIterable<T> {
  readonly #queue: T[] = [];
  #ended = false;
  #wake: () => void = () => undefined;

  send(request: T): void {
    this.#queue.push(request);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      const next = this.#queue.shift();
      if (next !== undefined) yield next;
      else if (this.#ended) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

interface Stream<Req, Res> {
  readonly requests: Requests<Req>;
  readonly sink: RecordingSink<Res>;
}

function openSotw(uid = 'order'): Stream<DiscoveryRequest, DiscoveryResponse> {
  const requests = new Requests<DiscoveryRequest>();
  const sink = startCall(
    DiscoveryResponse,
    (context, out) => handlers.streamSecrets(requests, context, out),
    testContext({ listener: `pod/${uid}`, metadata: {} }),
  );
  return { requests, sink };
}

function openDelta(uid = 'order'): Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> {
  const requests = new Requests<DeltaDiscoveryRequest>();
  const sink = startCall(
    DeltaDiscoveryResponse,
    (context, out) => handlers.deltaSecrets(requests, context, out),
    testContext({ listener: `pod/${uid}`, metadata: {} }),
  );
  return { requests, sink };
}

function ask(names: string[], changes: Partial<DiscoveryRequest> = {}): DiscoveryRequest {
  return {
    versionInfo: '',
    node: { id: 'envoy-1', cluster: 'c' },
    resourceNames: names,
    typeUrl: SECRET_TYPE_URL,
    responseNonce: '',
    errorDetail: undefined,
    ...changes,
  };
}

function subscribe(names: string[], changes: Partial<DeltaDiscoveryRequest> = {}): DeltaDiscoveryRequest {
  return {
    node: { id: 'envoy-1', cluster: 'c' },
    typeUrl: SECRET_TYPE_URL,
    resourceNamesSubscribe: names,
    resourceNamesUnsubscribe: [],
    initialResourceVersions: {},
    responseNonce: '',
    errorDetail: undefined,
    ...changes,
  };
}

const ack = (response: DiscoveryResponse, names: string[]): DiscoveryRequest =>
  ask(names, { versionInfo: response.versionInfo, responseNonce: response.nonce });

const rejection = { code: 3, message: 'unable to parse the chain', details: [] };

function secret(resource: Any | undefined): Secret {
  expect(resource?.typeUrl).toBe(SECRET_TYPE_URL);
  return Secret.decode(resource?.value ?? Buffer.alloc(0));
}

/** Certificates and key of a TLS secret. */
function certificateOf(resource: Any | undefined): { name: string; chain: Uint8Array[]; key: Uint8Array } {
  const { name, type } = secret(resource);
  if (type?.$case !== 'tlsCertificate') throw new Error(`${name} is no certificate`);
  const text = (source: typeof type.value.privateKey): string =>
    source?.specifier?.$case === 'inlineBytes' ? source.specifier.value.toString() : '';
  return {
    name,
    chain: decodePem(text(type.value.certificateChain), 'CERTIFICATE'),
    key: decodePem(text(type.value.privateKey), 'PRIVATE KEY')[0] ?? new Uint8Array(),
  };
}

/** Authorities by trust domain of a validation context with the SPIFFE validator. */
function validatorOf(resource: Any | undefined): Record<string, Uint8Array[]> {
  const { name, type } = secret(resource);
  if (type?.$case !== 'validationContext') throw new Error(`${name} is no validation context`);
  const { trustedCa, customValidatorConfig } = type.value;
  expect(trustedCa).toBeUndefined();
  expect(customValidatorConfig?.name).toBe('envoy.tls.cert_validator.spiffe');
  const { trustDomains } = SPIFFECertValidatorConfig.decode(
    customValidatorConfig?.typedConfig?.value ?? Buffer.alloc(0),
  );
  return Object.fromEntries(
    trustDomains.map((domain) => [
      domain.name,
      domain.trustBundle?.specifier?.$case === 'inlineBytes'
        ? decodePem(domain.trustBundle.specifier.value.toString(), 'CERTIFICATE')
        : [],
    ]),
  );
}

async function partner(): Promise<TrustBundle> {
  return (await FakeNodeApi.create(clock, 'partner.example')).bundle();
}

describe('StreamSecrets', () => {
  it('gives the default certificate with a key that fits', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const { requests, sink } = openSotw();
    requests.send(ask(['default']));
    const response = await sink.next();
    expect(response).toMatchObject({ typeUrl: SECRET_TYPE_URL });
    expect(response.versionInfo).not.toBe('');
    expect(response.nonce).not.toBe('');
    const { name, chain, key } = certificateOf(response.resources[0]);
    expect(name).toBe('default');
    const leaf = parseCertificate(chain[0] ?? new Uint8Array());
    expect(leaf.uris).toEqual([ORDER]);
    expect(keyPairFromPkcs8(key).publicKey.equals(leaf.publicKey)).toBe(true);
  });

  it('gives ROOTCA and ALL for the SPIFFE validator, each authority under its trust domain', async () => {
    api.federated = [await partner()];
    api.upsert(podRegistration('order', { federatesWith: ['partner.example'] }));
    await start();
    const own = openSotw();
    own.requests.send(ask(['ROOTCA']));
    expect(validatorOf((await own.sink.next()).resources[0])).toEqual({
      'example.org': api.bundle().x509Authorities.map((der) => new Uint8Array(der)),
    });
    const all = openSotw();
    all.requests.send(ask(['ALL']));
    expect(Object.keys(validatorOf((await all.sink.next()).resources[0]))).toEqual([
      'example.org',
      'partner.example',
    ]);
  });

  it('gives certificates and bundles by ID', async () => {
    api.federated = [await partner()];
    api.upsert(podRegistration('order', { federatesWith: ['partner.example'] }));
    await start();
    const { requests, sink } = openSotw();
    requests.send(ask([ORDER, 'spiffe://partner.example', 'spiffe://example.org']));
    const { resources } = await sink.next();
    expect(resources.map((one) => secret(one).name)).toEqual([
      ORDER,
      'spiffe://partner.example',
      'spiffe://example.org',
    ]);
    expect(Object.keys(validatorOf(resources[1]))).toEqual(['partner.example']);
  });

  it('gives everything, by ID, for no names', async () => {
    api.upsert(podRegistration('order'), podRegistration('order', { id: 'b', path: '/b', hint: 'b' }));
    await start();
    const { requests, sink } = openSotw();
    requests.send(ask([]));
    const { resources } = await sink.next();
    expect(resources.map((one) => secret(one).name).sort()).toEqual(
      ['spiffe://example.org', 'spiffe://example.org/b', ORDER].sort(),
    );
  });

  it('sends again only what changed: rotation, not an acknowledgement', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const { requests, sink } = openSotw();
    requests.send(ask(['default']));
    const first = await sink.next();
    requests.send(ack(first, ['default']));
    await api.rotate();
    await pass(1_000);
    expect(sink.messages).toHaveLength(1);
    await pass(HOUR * 0.56);
    const second = await sink.next();
    expect(second.versionInfo).not.toBe(first.versionInfo);
    expect(second.nonce).not.toBe(first.nonce);
    expect(certificateOf(second.resources[0]).chain).not.toEqual(certificateOf(first.resources[0]).chain);
  });

  it('pushes a new authority to those who validate', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const { requests, sink } = openSotw();
    requests.send(ask(['ROOTCA']));
    const first = await sink.next();
    requests.send(ack(first, ['ROOTCA']));
    await api.rotate();
    expect(validatorOf((await sink.next()).resources[0])['example.org']).toHaveLength(2);
  });

  it('logs what Envoy rejects, with its words, and does not send it again until it is another', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const { requests, sink } = openSotw();
    requests.send(ask(['ROOTCA']));
    const first = await sink.next();
    for (let time = 0; time < 3; time++)
      requests.send(ask(['ROOTCA'], { responseNonce: first.nonce, errorDetail: rejection }));
    await pass(1_000);
    expect(sink.messages).toHaveLength(1);
    const [warning] = warnings.filter(({ message }) => message.includes('rejected'));
    expect(warning?.fields).toMatchObject({ error: 'unable to parse the chain', node: 'envoy-1' });
    await api.rotate();
    await sink.next();
  });

  it('answers a changed list of names, and ignores one that belongs to an older response', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const { requests, sink } = openSotw();
    requests.send(ask(['default']));
    const first = await sink.next();
    requests.send(ack(first, ['default', 'ROOTCA']));
    const second = await sink.next();
    expect(second.resources.map((one) => secret(one).name)).toEqual(['default', 'ROOTCA']);
    requests.send(ack(first, ['ROOTCA']));
    await pass(1_000);
    expect(sink.messages).toHaveLength(2);
  });

  it('holds a caller until its registration comes, then refuses one that has none', async () => {
    await start();
    const early = openSotw('early');
    early.requests.send(ask(['default']));
    const never = openSotw('never');
    never.requests.send(ask(['default']));
    await pass(2_000);
    api.upsert(podRegistration('early'));
    await early.sink.next();
    await pass(3_000);
    expect(await never.sink.outcome()).toMatchObject({ status: 'PermissionDenied' });
    expect(agent.stats().holders).toBe(0);
  });

  it('gives nothing to a caller without an identity, bundles neither', async () => {
    api.upsert(podRegistration('order'));
    await start();
    for (const names of [['ROOTCA'], ['ALL'], ['spiffe://example.org'], []]) {
      const { requests, sink } = openSotw('nobody');
      requests.send(ask(names));
      await pass(5_000);
      expect(await sink.outcome()).toMatchObject({ status: 'PermissionDenied' });
      expect(sink.writes).toBe(0);
    }
  });

  it('refuses the secrets of another, naming what there is', async () => {
    api.upsert(podRegistration('order'), podRegistration('payment'));
    await start();
    const { requests, sink } = openSotw();
    requests.send(ask(['spiffe://example.org/ns/shop/sa/payment']));
    await pass(5_000);
    expect(await sink.outcome()).toMatchObject({
      status: 'PermissionDenied',
      message: expect.stringContaining(`default, ROOTCA, spiffe://example.org, ${ORDER}`),
    });
  });

  it('goes on serving the others when one of several names is not given', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const { requests, sink } = openSotw();
    requests.send(ask(['default', 'spiffe://stranger.example']));
    expect((await sink.next()).resources).toHaveLength(1);
    await pass(6_000);
    expect(sink.ended).toBe(false);
    expect(warnings.at(-1)?.fields).toMatchObject({ secrets: ['spiffe://stranger.example'] });
    await pass(HOUR * 0.56);
    await sink.next();
  });

  it('ends when the identity is withdrawn', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const { requests, sink } = openSotw();
    requests.send(ask(['default']));
    await sink.next();
    api.remove('order/id');
    await pass(5_000);
    expect(await sink.outcome()).toMatchObject({ status: 'PermissionDenied' });
  });

  it('refuses names that no secret can have, too many, and other types', async () => {
    api.upsert(podRegistration('order'));
    await start();
    for (const request of [
      ask(['Default']),
      ask(['spiffe://Example.org/x']),
      ask(Array.from({ length: 300 }, (_value, index) => `spiffe://example.org/${index}`)),
      ask(['default'], { typeUrl: 'type.googleapis.com/envoy.config.cluster.v3.Cluster' }),
    ]) {
      const { requests, sink } = openSotw();
      requests.send(request);
      expect(await sink.outcome()).toMatchObject({ status: 'InvalidArgument' });
    }
  });

  it('ends well when the client has said all, and lets go when it is gone', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const done = openSotw();
    done.requests.send(ask(['default']));
    await done.sink.next();
    done.requests.end();
    expect(await done.sink.outcome()).toBeUndefined();
    const gone = openSotw();
    gone.requests.send(ask(['default']));
    gone.sink.stopReading();
    await until(() => gone.sink.writes === 1);
    gone.sink.context.hangUp();
    await until(() => agent.stats().streams === 0);
  });

  it('writes plain trusted CAs for those who do not know the validator, but never several domains as one', async () => {
    api.upsert(podRegistration('order'));
    await start({ spiffeValidator: false, names: { defaultBundle: 'roots' } });
    const { requests, sink } = openSotw();
    requests.send(ask(['roots']));
    const { type } = secret((await sink.next()).resources[0]);
    expect(type).toMatchObject({ $case: 'validationContext', value: { customValidatorConfig: undefined } });
    const all = openSotw();
    all.requests.send(ask(['ALL']));
    expect(await all.sink.outcome()).toMatchObject({ status: 'InvalidArgument' });
  });

  it('counts each request against the caller', async () => {
    api.upsert(podRegistration('order'));
    await start({}, { callsPerSecond: 1, callBurst: 10 });
    const { requests, sink } = openSotw();
    for (let index = 0; index < 20; index++) requests.send(ask(index % 2 === 0 ? ['default'] : ['ROOTCA']));
    expect(await sink.outcome()).toMatchObject({ status: 'ResourceExhausted' });
  });
});

describe('DeltaSecrets', () => {
  it('sends each secret once, then only those that changed', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const { requests, sink } = openDelta();
    requests.send(subscribe(['default', 'ROOTCA']));
    const first = await sink.next();
    expect(first.resources.map(({ name }) => name)).toEqual(['default', 'ROOTCA']);
    requests.send(subscribe([], { responseNonce: first.nonce }));
    await api.rotate();
    const second = await sink.next();
    expect(second.resources.map(({ name }) => name)).toEqual(['ROOTCA']);
    await pass(HOUR * 0.56);
    const third = await sink.next();
    expect(third.resources.map(({ name }) => name)).toEqual(['default']);
    expect(new Set([first.nonce, second.nonce, third.nonce]).size).toBe(3);
  });

  it('does not send what a client that comes back says it has', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const before = openDelta();
    before.requests.send(subscribe(['default', 'ROOTCA']));
    const { resources } = await before.sink.next();
    const versions = Object.fromEntries(resources.map(({ name, version }) => [name, version]));
    const after = openDelta();
    after.requests.send(
      subscribe(['default', 'ROOTCA'], { initialResourceVersions: { ...versions, ROOTCA: 'old' } }),
    );
    expect((await after.sink.next()).resources.map(({ name }) => name)).toEqual(['ROOTCA']);
  });

  it('sends everything to a first request without names', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const { requests, sink } = openDelta();
    requests.send(subscribe([]));
    expect((await sink.next()).resources.map(({ name }) => name)).toEqual(['spiffe://example.org', ORDER]);
    api.upsert(podRegistration('order', { id: 'b', path: '/b', hint: 'b' }));
    expect((await sink.next()).resources.map(({ name }) => name)).toEqual(['spiffe://example.org/b']);
  });

  it('sends again what is subscribed to again, and nothing of what is unsubscribed', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const { requests, sink } = openDelta();
    requests.send(subscribe(['ROOTCA']));
    await sink.next();
    requests.send(subscribe(['ROOTCA']));
    await sink.next();
    requests.send(subscribe([], { resourceNamesUnsubscribe: ['ROOTCA'] }));
    await settle();
    await api.rotate();
    await pass(6_000);
    expect(sink.messages).toHaveLength(2);
    expect(sink.ended).toBe(false);
  });

  it('says which are gone, and which there are none of after the hold', async () => {
    api.upsert(podRegistration('order'), podRegistration('order', { id: 'b', path: '/b', hint: 'b' }));
    await start();
    const { requests, sink } = openDelta();
    requests.send(subscribe(['spiffe://example.org/b', 'spiffe://stranger.example', 'default']));
    expect((await sink.next()).resources).toHaveLength(2);
    await pass(5_000);
    expect((await sink.next()).removedResources).toEqual(['spiffe://stranger.example']);
    api.remove('b');
    expect((await sink.next()).removedResources).toEqual(['spiffe://example.org/b']);
    await pass(60_000);
    expect(sink.messages).toHaveLength(3);
  });

  it('does not send a rejected version again', async () => {
    api.upsert(podRegistration('order'));
    await start();
    const { requests, sink } = openDelta();
    requests.send(subscribe(['ROOTCA']));
    const { nonce } = await sink.next();
    requests.send(subscribe([], { responseNonce: nonce, errorDetail: rejection }));
    await pass(1_000);
    expect(sink.messages).toHaveLength(1);
    expect(warnings.some(({ message }) => message.includes('rejected'))).toBe(true);
    await api.rotate();
    expect((await sink.next()).resources).toHaveLength(1);
  });

  it('ends for a caller without any identity', async () => {
    await start();
    const { requests, sink } = openDelta('nobody');
    requests.send(subscribe(['default']));
    await pass(5_000);
    expect(await sink.outcome()).toMatchObject({ status: 'PermissionDenied' });
  });
});

describe('FetchSecrets', () => {
  it('answers at once, or holds until all of it is there', async () => {
    await start();
    const context = testContext({ listener: 'pod/order' });
    const pending = handlers.fetchSecrets(ask(['default', 'ROOTCA']), context);
    await settle();
    api.upsert(podRegistration('order'));
    const answer = (await pending) as DiscoveryResponse;
    expect(answer.resources.map((one) => secret(one).name)).toEqual(['default', 'ROOTCA']);
    const refused = handlers.fetchSecrets(ask(['spiffe://stranger.example']), context);
    const outcome = expect(refused).rejects.toMatchObject({ status: 'PermissionDenied' });
    await pass(5_000);
    await outcome;
  });
});
