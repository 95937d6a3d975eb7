import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import { systemClock, type Clock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { startDev, type RunningDev } from '../../src/main/dev.js';
import { ask, type HttpReply } from '../support/http-client.js';
import { makeTokenKey, signToken } from '../support/oidc-provider.js';
import { recordingLogger } from '../support/recording-logger.js';
import { rawConnection } from '../support/sockets.js';
import { until } from '../support/until.js';
import { clusterIdentity, trustDomain, writeResources, type Manifest } from './support/resources.js';
import { newScope } from './support/scope.js';

/* The worked examples, asked through the decision API by the applications that they are about, and who may ask. */

jest.setTimeout(60_000);

const examples = join(fileURLToPath(new URL('.', import.meta.url)), '..', '..', 'examples', 'access');
const issuer = 'https://login.test/';
const tokenKey = makeTokenKey('k1');
const td = 'example.org';
/** Half past eleven in Berlin, on a Wednesday. */
const morning = Date.parse('2026-01-07T10:30:00Z');

interface ExampleRequest {
  readonly token?: Manifest | null;
  readonly from?: string;
  readonly action: string;
  readonly resource: Manifest;
  readonly time?: string;
}

interface Example {
  readonly name: string;
  readonly app: string;
  readonly request: ExampleRequest;
  readonly allowed: boolean;
  readonly decidedBy: string | undefined;
}

/** The PolicyTests of an example: what its authors say that the answers are. */
function examplesIn(file: string): readonly Example[] {
  const documents = parseAllDocuments(readFileSync(join(examples, file), 'utf8')).map(
    (document) => document.toJS() as { kind: string; spec: Manifest },
  );
  return documents
    .filter(({ kind }) => kind === 'PolicyTest')
    .flatMap(({ spec }) => {
      const { defaults, tests, time } = spec as {
        readonly defaults: Manifest;
        readonly time?: string;
        readonly tests: readonly { name: string; request: Manifest; expect: string; decidedBy?: string }[];
      };
      return tests.map(({ name, request, expect: expected, decidedBy }) => {
        const whole = {
          ...(time === undefined ? {} : { time }),
          ...defaults,
          ...request,
        } as ExampleRequest & { to: string };
        const app = whole.to.split('/')[1] ?? '';
        return { name: `${app}: ${name}`, app, request: whole, allowed: expected === 'Allow', decidedBy };
      });
    });
}

const all = [...examplesIn('tests/documents.yaml'), ...examplesIn('tests/roles.yaml')];

describe('applications ask Signet', () => {
  const scope = newScope();
  const stop = new AbortController();
  const logger = recordingLogger();
  let dev: RunningDev;
  let now = morning - systemClock.now();
  const clock: Clock = { ...systemClock, now: () => systemClock.now() + now };
  const setTime = (time: number): void => void (now = time - systemClock.now());

  const token = (claims: Manifest, key = tokenKey): string => {
    const seconds = Math.floor(clock.now() / 1000);
    return signToken(key, { iss: issuer, aud: 'wiki', iat: seconds, exp: seconds + 60, ...claims });
  };
  const socketOf = (app: string): string =>
    dev.report.pods.find(({ name }) => name.startsWith(app))?.applicationSocket ?? '';
  const post = (app: string, path: string, json: unknown): Promise<HttpReply> =>
    ask({ socketPath: socketOf(app) }, path, { json });
  const evaluate = (app: string, json: unknown): Promise<HttpReply> =>
    post(app, '/access/v1/evaluation', json);

  beforeAll(async () => {
    const resources = scope.folder();
    for (const file of ['documents.yaml', 'roles.yaml'])
      copyFileSync(join(examples, file), join(resources, file));
    writeResources(resources, 'trust-domain.yaml', [
      trustDomain(td, {
        tokenIssuers: [
          { issuer, audiences: ['wiki', 'documents'], jwks: JSON.stringify({ keys: [tokenKey.jwk] }) },
        ],
      }),
      // Whatever this user runs on the shared socket stands for the wiki.
      clusterIdentity('host', {
        spiffeIDTemplate: '/ns/wiki/sa/wiki',
        processSelector: { uid: process.getuid?.() ?? -1 },
      }),
    ]);
    dev = await startDev({
      ...{ resourcePath: resources, stateDirectory: scope.folder() },
      ...{ clock, random: systemRandom, logger, signal: stop.signal },
    });
  });
  afterAll(async () => {
    stop.abort();
    await dev.stopped;
    await scope.end();
  });

  /** The question of an example: the user by a token, the workload by its ID. */
  function questionOf({ token: claims, from, action, resource }: ExampleRequest): object {
    const subject =
      from !== undefined
        ? { type: 'workload', id: `spiffe://${td}/ns/${from.replace('/', '/sa/')}` }
        : claims === null || claims === undefined
          ? { type: 'user', id: 'nobody' }
          : { type: 'token', id: token(claims) };
    return { subject, action: { name: action }, resource };
  }

  it('has every worked example to ask', () => expect(all).toHaveLength(14));

  it.each(all)(
    '$name: as the example says, in AuthZEN and in OPA',
    async ({ app, request, allowed, decidedBy }) => {
      setTime(request.time === undefined ? morning : Date.parse(request.time));
      const question = questionOf(request);
      const reply = await evaluate(app, question);
      expect(reply).toMatchObject({ status: 200, json: { decision: allowed } });
      if (decidedBy !== undefined) expect(reply.json).toMatchObject({ context: { rule: decidedBy } });
      const data = await post(app, '/v1/data/signet', { input: question });
      expect(data.json).toMatchObject({
        result: { allow: allowed, ...(decidedBy === undefined ? {} : { rule: decidedBy }) },
      });
      setTime(morning);
    },
  );

  const page = { type: 'page', id: 'home' };
  const readPage = { action: { name: 'read' }, resource: page };
  const viewer = (): object => ({ type: 'token', id: token({ sub: 'vera', roles: ['viewer'] }) });

  it('takes the application for the pod whose socket it asks by, whatever it says', async () => {
    const question = { subject: viewer(), ...readPage };
    expect((await evaluate('wiki', question)).json).toMatchObject({ decision: true });
    // What a question could say to be another's: nothing of it is read.
    const claims = {
      ...question,
      target: { namespace: 'wiki', name: 'wiki' },
      to: 'wiki/wiki',
      context: { target: 'wiki/wiki', spiffe_id: `spiffe://${td}/ns/wiki/sa/wiki` },
    };
    const headers = {
      host: 'wiki.wiki',
      authorization: `Bearer ${token({ sub: 'vera', roles: ['admin'] })}`,
      'x-forwarded-client-cert': `URI=spiffe://${td}/ns/wiki/sa/wiki`,
    };
    for (const path of ['/access/v1/evaluation', '/access/v1/evaluations'])
      expect(
        (await ask({ socketPath: socketOf('documents') }, path, { json: claims, headers })).json,
      ).toMatchObject({ decision: false });
    const data = await post('documents', '/v1/data/signet/allow', { input: claims });
    expect(data.json).toMatchObject({ result: false });
    const found = await post('documents', '/access/v1/search/action', { ...claims, action: undefined });
    expect(found.json).toMatchObject({ results: [] });
  });

  it('takes a process on the shared socket for whom the kernel says', async () => {
    const shared = { socketPath: dev.report.sharedApplicationSocket };
    const question = { subject: viewer(), ...readPage };
    for (let round = 0; round < 2; round++)
      expect((await ask(shared, '/access/v1/evaluation', { json: question })).json).toMatchObject({
        decision: true,
      });
  });

  it('believes claims of a valid token alone', async () => {
    const question = (subject: object): object => ({ subject, ...readPage });
    const forged = token({ sub: 'vera', roles: ['viewer'] }, makeTokenKey('k1'));
    const good = token({ sub: 'vera', roles: ['viewer'] });
    const cases: readonly (readonly [boolean, object])[] = [
      [true, { type: 'token', id: good }],
      [true, { type: 'user', id: 'vera', properties: { token: good } }],
      // The claim "roles" is a token's; what an application says is no claim.
      [false, { type: 'user', id: 'vera', properties: { roles: ['viewer'] } }],
      [false, { type: 'token', id: forged }],
      [false, { type: 'token', id: `${good}, ${good}` }],
      [false, { type: 'token', id: 'x' }],
      [false, { type: 'token', id: token({ sub: 'vera', roles: ['viewer'], aud: 'elsewhere' }) }],
      [
        false,
        {
          type: 'token',
          id: token({ sub: 'vera', roles: ['viewer'], exp: Math.floor(clock.now() / 1000) - 3600 }),
        },
      ],
      [false, { type: 'user', id: 'other', properties: { token: good } }],
      [false, { type: 'workload', id: 'spiffe://elsewhere.test/ns/wiki/sa/search-index' }],
    ];
    for (const [decision, subject] of cases)
      expect([subject, (await evaluate('wiki', question(subject))).json]).toEqual([
        subject,
        expect.objectContaining({ decision }),
      ]);
    const log = logger.all.join('\n');
    expect(log).toContain('access denied');
    for (const secret of [good, forged, good.split('.')[2] ?? '']) expect(log).not.toContain(secret);
  });

  it('takes nothing that the application says of a subject whose token is not valid', async () => {
    const document = {
      type: 'document',
      id: '1',
      properties: { owner: 'ann', classification: 'internal', department: 'law' },
    };
    const question = (subject: object): object => ({
      subject,
      action: { name: 'write' },
      resource: document,
    });
    const forged = token({ sub: 'ann' }, makeTokenKey('k1'));
    const said = { type: 'user', id: 'ann', properties: { roles: ['admin'] } };
    expect((await evaluate('documents', question(said))).json).toMatchObject({ decision: true });
    for (const subject of [
      { ...said, properties: { ...said.properties, token: forged } },
      { type: 'token', id: forged, properties: said.properties },
      { type: 'token', id: 'ann', properties: said.properties },
    ])
      expect((await evaluate('documents', question(subject))).json).toMatchObject({ decision: false });
  });

  it('tells the application why, and what it may pass on', async () => {
    const { json } = await evaluate('wiki', { subject: { type: 'user', id: 'nobody' }, ...readPage });
    const { decision_id: id } = (json as { context: { decision_id: string } }).context;
    expect(json).toMatchObject({
      decision: false,
      context: {
        token_needed: true,
        reason_admin: {
          401: expect.stringContaining(
            'no rule allows action read on page home in wiki/wiki-0 to user nobody',
          ),
        },
        reason_user: { 401: `A valid token is needed (decision ${id}).` },
      },
    });
    expect(logger.all.join('\n')).toContain(id);
    const bad = await evaluate('wiki', { subject: { type: 'token', id: 'x' }, ...readPage });
    expect(bad.json).toMatchObject({ context: { token_problem: expect.stringMatching(/token/) } });
  });

  it('finds the workloads that may, among those that have an identity', async () => {
    const found = await post('wiki', '/access/v1/search/subject', {
      ...{ subject: { type: 'workload' }, action: { name: 'write' }, resource: page },
    });
    const ids = ['importer', 'user-directory'].map((name) => ({
      type: 'workload',
      id: `spiffe://${td}/ns/wiki/sa/${name}`,
    }));
    expect(found.json).toMatchObject({ results: ids });
  });

  describe('as OPA', () => {
    const input = (): object => ({ subject: viewer(), ...readPage });
    const data = (path: string, json: unknown): Promise<HttpReply> => post('wiki', `/v1/data${path}`, json);

    it('answers a document, a part of it, and nothing for what is not there', async () => {
      const id = expect.stringMatching(/^[\w-]{16}$/);
      expect((await data('/signet/allow', { input: input() })).json).toEqual({
        result: true,
        decision_id: id,
      });
      expect((await data('/signet', { input: input() })).json).toEqual({
        result: {
          allow: true,
          reason: expect.stringContaining('"people"'),
          rule: 'wiki/wiki-roles/people',
          decision_id: id,
        },
        decision_id: id,
      });
      expect((await data('', { input: input() })).json).toMatchObject({
        result: { signet: { allow: true } },
      });
      for (const path of [
        '/signet/allow/x',
        '/signet/toString',
        '/signet/constructor',
        '/signet/__proto__/x',
        '/signet/0',
      ])
        expect((await data(path, { input: input() })).json).toEqual({ decision_id: id });
      // As in OPA, what is undefined has no result, which every client reads as no.
      expect((await data('/other/allow', { input: input() })).json).toEqual({});
      const denied = { ...input(), action: { name: 'delete' } };
      expect((await data('/signet/allow', { input: denied })).json).toMatchObject({ result: false });
      expect((await data('/signet/rule', { input: denied })).json).not.toHaveProperty('result');
    });

    it('takes an input in the query', async () => {
      const get = (query: string): Promise<HttpReply> =>
        ask({ socketPath: socketOf('wiki') }, `/v1/data/signet/allow?${query}`);
      const asked = `input=${encodeURIComponent(JSON.stringify(input()))}`;
      expect((await get(`${asked}&pretty=true`)).json).toMatchObject({ result: true });
      for (const [query, message] of [
        ['', 'input is missing'],
        ['input=', 'input is no JSON'],
        ['input=[]', 'input is no JSON object'],
        ['input={"a":1,"a":2}', 'input has a member twice'],
        [`${asked}&${asked}`, 'input comes twice'],
      ] as const) {
        const reply = await get(query);
        expect([reply.status, reply.json]).toEqual([
          400,
          { code: 'invalid_parameter', message: expect.stringContaining(message) },
        ]);
      }
    });

    it.each([
      [{}, 'input is missing'],
      [{ input: 7 }, 'input must be an object, and is "7"'],
      [{ input: {} }, 'input.subject is missing'],
      [{ input: { attributes: {} } }, 'input.attributes.request.http is missing'],
      [
        { input: { attributes: { request: { http: { method: 'GET' } } } } },
        'input.attributes.request.http.path is missing',
      ],
      [
        { input: { attributes: [], subject: {} } },
        'input has attributes of a network request, and a question',
      ],
      [
        { input: { attributes: { request: { http: { method: 'GET', path: '/', headers: { a: 1 } } } } } },
        'input.attributes.request.http.headers.a must be a text',
      ],
      [
        {
          input: {
            attributes: {
              source: { address: { socketAddress: { portValue: 'x' } } },
              request: { http: { method: 'GET', path: '/' } },
            },
          },
        },
        'input.attributes.source.address.socketAddress.portValue "x" is no port',
      ],
    ])('refuses an input that is wrong, naming the field: %j', async (json, message) => {
      const reply = await data('/signet/allow', json);
      expect([reply.status, reply.json]).toEqual([
        400,
        { code: 'invalid_parameter', message: expect.stringContaining(message) },
      ]);
    });
  });

  it('survives a pod that opens connections without end, and others are served meanwhile', async () => {
    const flood = await Promise.all(Array.from({ length: 600 }, () => rawConnection(socketOf('documents'))));
    for (const socket of flood) socket.write('POST /access/v1/evaluation HTTP/1.1\r\n');
    await until('the refusals', () => flood.filter(({ destroyed }) => destroyed).length >= 600 - 512);
    expect((await evaluate('wiki', { subject: viewer(), ...readPage })).json).toMatchObject({
      decision: true,
    });
    for (const socket of flood) socket.destroy();
    await until(
      'a place',
      async () => (await evaluate('documents', { subject: viewer(), ...readPage })).status === 200,
    );
  });

  it('removes its sockets at the end', async () => {
    const socketPath = socketOf('wiki');
    stop.abort();
    await dev.stopped;
    await expect(ask({ socketPath }, '/access/v1/evaluation', { json: {} })).rejects.toThrow('ENOENT');
  });
});
