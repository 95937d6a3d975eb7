import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { startDev, type RunningDev } from '../../src/main/dev.js';
import { authorizeId, createMtlsClient, type MtlsClient } from '../../src/workload/index.js';
import { createX509Source } from '../../src/workload/x509-source.js';
import { ask, type HttpReply } from '../support/http-client.js';
import { recordingLogger } from '../support/recording-logger.js';
import { until } from '../support/until.js';
import {
  clusterIdentity,
  namespace,
  pod,
  trustDomain,
  writeResources,
  type Manifest,
} from './support/resources.js';
import { newScope } from './support/scope.js';

/* Applications that ask over mutual TLS, processes without an identity, and OPA's Envoy plugin as the one who asks. */

jest.setTimeout(60_000);

const td = 'shop.test';
const server = `spiffe://${td}/signet/agent`;
const front = `spiffe://${td}/ns/shop/sa/front`;

function policy(name: string, rules: readonly Manifest[]): Manifest {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'AccessPolicy',
    metadata: { name, namespace: 'shop' },
    spec: { target: { podSelector: { matchLabels: { app: 'back' } } }, rules },
  };
}

const fromFront = [{ serviceAccounts: [{ name: 'front' }] }];
const reading = {
  ...{ name: 'front-reads', from: fromFront },
  to: [
    { actions: ['read'], resources: [{ type: 'item' }] },
    { http: { methods: ['GET'], paths: [{ prefix: '/items' }] } },
  ],
};
const question = {
  ...{
    subject: { type: 'workload', id: front },
    action: { name: 'read' },
    resource: { type: 'item', id: '1' },
  },
};

describe('who asks', () => {
  const scope = newScope();
  const stop = new AbortController();
  let resources: string;
  let dev: RunningDev;

  beforeAll(async () => {
    resources = scope.folder();
    writeResources(resources, 'shop.yaml', [
      trustDomain(td),
      namespace('shop'),
      ...['front', 'back'].flatMap((name) => pod(name)),
      clusterIdentity('all', {}),
      // An identity that no pod holds: a process with it is no workload that could be a target.
      clusterIdentity('host', {
        spiffeIDTemplate: '/host/me',
        processSelector: { uid: process.getuid?.() ?? -1 },
      }),
    ]);
    writeResources(resources, 'policies.yaml', [policy('reads', [reading])]);
    dev = await startDev({
      ...{ resourcePath: resources, stateDirectory: scope.folder() },
      ...{ clock: systemClock, random: systemRandom, logger: recordingLogger(), signal: stop.signal },
      applicationAddress: { address: '127.0.0.1', port: 0 },
      tellReasons: true,
    });
  });
  afterAll(async () => {
    stop.abort();
    await dev.stopped;
    await scope.end();
  });

  const clientOf = async (name: string): Promise<MtlsClient> => {
    const socket = dev.report.pods.find((one) => one.name === name)?.socket ?? '';
    const source = await createX509Source({ address: `unix://${socket}` });
    scope.onEnd(() => source.close());
    const client = createMtlsClient(source, authorizeId(server));
    scope.onEnd(() => client.close());
    return client;
  };
  const url = (path: string): string => `https://${dev.report.applications?.address}${path}`;
  const postAs = async (client: MtlsClient, path: string, json: unknown): Promise<unknown> => {
    const { status, body } = await client.request(url(path), {
      ...{ method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(json) },
    });
    expect(status).toBe(200);
    return JSON.parse(body.toString()) as unknown;
  };
  const data = (path: string, input: unknown): Promise<HttpReply> =>
    ask(
      { socketPath: dev.report.pods.find(({ name }) => name === 'back')?.applicationSocket ?? '' },
      `/v1/data/${path}`,
      { json: { input } },
    );

  it('is over mutual TLS the workload whose SVID is shown, whomever it asks about', async () => {
    expect(dev.report.applications).toMatchObject({ spiffeID: server });
    for (const [name, decision] of [
      ['back', true],
      ['front', false],
    ] as const)
      expect(await postAs(await clientOf(name), '/access/v1/evaluation', question)).toMatchObject({
        decision,
      });
  });

  it('is told the https address by which it has called', async () => {
    const { body } = await (await clientOf('back')).request(url('/.well-known/authzen-configuration'));
    expect(JSON.parse(body.toString())).toMatchObject({
      policy_decision_point: url(''),
      search_action_endpoint: url('/access/v1/search/action'),
    });
  });

  it('is nobody without an SVID, and is told nothing', async () => {
    const [host = '', port = ''] = dev.report.applications?.address.split(':') ?? [];
    const to = { host, port: Number(port) };
    await expect(ask(to, '/access/v1/evaluation', { json: question })).rejects.toThrow();
    // TLS, and no certificate.
    await expect(
      ask({ ...to, rejectUnauthorized: false, cert: '' }, '/', { json: question }),
    ).rejects.toThrow();
  });

  it('must be a workload of pods: a process that is none is told so, and asks for nothing', async () => {
    const reply = await ask({ socketPath: dev.report.sharedApplicationSocket }, '/access/v1/evaluation', {
      json: question,
    });
    expect(reply.status).toBe(403);
    expect(reply.text).toContain(`spiffe://${td}/host/me`);
    const opa = await ask({ socketPath: dev.report.sharedApplicationSocket }, '/v1/data/other', {
      json: { input: {} },
    });
    expect([opa.status, opa.json]).toEqual([403, { code: 'unauthorized', message: reply.text.trim() }]);
  });

  it('may pass reasons on where callers are told them', async () => {
    const denied = { ...question, action: { name: 'write' } };
    const reply = await postAs(await clientOf('back'), '/access/v1/evaluation', denied);
    const { reason_admin: told, reason_user: passed } = (
      reply as { context: { reason_admin: Manifest; reason_user: Manifest } }
    ).context;
    expect(passed).toEqual(told);
    expect(told['403']).toContain('action write is not read');
  });

  describe('through OPA’s Envoy plugin', () => {
    const check = (http: Manifest, principal: string = front): Manifest => ({
      attributes: {
        source: { address: { socketAddress: { address: '10.0.0.7', portValue: 40_000 } }, principal },
        destination: { address: { socketAddress: { address: '10.0.0.8', portValue: 8443 } } },
        request: {
          http: {
            id: '1',
            method: 'GET',
            path: '/items/1?x=2',
            host: 'back',
            protocol: 'HTTP/1.1',
            headers: { ':authority': 'back', 'user-agent': 'x' },
            ...http,
          },
        },
      },
      parsed_path: ['items', '1'],
      parsed_query: { x: ['2'] },
    });

    it.each([
      ['whom a rule allows', true, check({})],
      ['another method', false, check({ method: 'DELETE' })],
      ['another path, whatever was parsed', false, check({ path: '/admin' })],
      ['a path that can be read in two ways', false, check({ path: '/items/../admin' })],
      ['another caller', false, check({}, `spiffe://${td}/ns/shop/sa/back`)],
      ['a caller without identity', false, check({}, '')],
      [
        'a caller of a trust domain that has no bundle',
        false,
        check({}, 'spiffe://other.test/ns/shop/sa/front'),
      ],
      ['a caller whose certificate has another name', false, check({}, 'CN=front')],
    ])('decides for %s as Envoy is answered', async (_, allow, input) => {
      const reply = await data('signet', input);
      expect(reply).toMatchObject({ status: 200, json: { result: { allow } } });
      if (allow) expect(reply.json).toMatchObject({ result: { rule: 'shop/reads/front-reads' } });
    });
  });

  it('is decided for by the policies of now', async () => {
    const client = await clientOf('back');
    writeResources(resources, 'policies.yaml', [
      policy('reads', [{ name: 'nobody', from: [{ spiffeIDs: [`spiffe://${td}/x`] }] }]),
    ]);
    await until('the edit', async () => {
      const reply = (await postAs(client, '/access/v1/evaluation', question)) as { decision: boolean };
      return !reply.decision;
    });
  });
});
