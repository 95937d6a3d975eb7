import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { startDev, type RunningDev } from '../../src/main/dev.js';
import { ask, type HttpReply, type HttpSent } from '../support/http-client.js';
import { recordingLogger } from '../support/recording-logger.js';
import {
  clusterIdentity,
  namespace,
  pod,
  trustDomain,
  writeResources,
  type Manifest,
} from './support/resources.js';
import { newScope } from './support/scope.js';

/*
 * OpenID AuthZEN Authorization API 1.0, as its certification scenario and its interop scenario (the todo list) ask for it:
 * https://openid.net/specs/authorization-api-1_0.html
 */

jest.setTimeout(60_000);

const anyone = [{ anyone: true }];
const only = (...ids: readonly string[]): Manifest => ({ attribute: 'subject.id', values: ids });
const records = { type: 'record', ids: ['record-1', 'record-2'] };

function policy(app: string, rules: readonly Manifest[]): Manifest {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'AccessPolicy',
    metadata: { name: app, namespace: 'shop' },
    spec: { target: { podSelector: { matchLabels: { app } } }, rules },
  };
}

const allow = (
  name: string,
  actions: readonly string[],
  resource: Manifest,
  ...attributes: Manifest[]
): Manifest => ({
  name,
  from: anyone,
  to: [{ actions, resources: [resource] }],
  ...(attributes.length === 0 ? {} : { when: { attributes } }),
});

/** The policy of the certification scenario: §C.1.4 (decisions 1 to 8) and C.1.5 (searches S1 to S6). */
const recordRules = [
  allow('readers', ['read'], records, only('alice', 'bob')),
  allow('alice-writes-what-has-no-status', ['write'], records, only('alice'), {
    attribute: 'resource.status',
    operator: 'DoesNotExist',
  }),
  allow('alice-writes-what-is-not-archived', ['write'], records, only('alice'), {
    attribute: 'resource.status',
    operator: 'NotIn',
    values: ['archived'],
  }),
  allow('bob-writes-what-is-archived', ['write'], records, only('bob'), {
    attribute: 'resource.status',
    values: ['archived'],
  }),
  allow('admins-write', ['write'], records, { attribute: 'subject.role', values: ['admin'] }),
  allow('alice-hides', ['delete'], records, only('alice'), { attribute: 'action.soft', values: ['true'] }),
];

/** The users of the todo scenario: by the subject of their token, with their address and roles. */
const users = [
  {
    id: 'CiRmZDA2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs',
    email: 'rick@the-citadel.com',
    roles: ['admin', 'evil_genius'],
  },
  {
    id: 'CiRmZDE2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs',
    email: 'morty@the-citadel.com',
    roles: ['editor'],
  },
  {
    id: 'CiRmZDI2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs',
    email: 'summer@the-smiths.com',
    roles: ['editor'],
  },
  {
    id: 'CiRmZDM2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs',
    email: 'beth@the-smiths.com',
    roles: ['viewer'],
  },
  {
    id: 'CiRmZDQ2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs',
    email: 'jerry@the-smiths.com',
    roles: ['viewer'],
  },
] as const;
type User = (typeof users)[number];

const hasRole = ({ roles }: User, ...wanted: readonly string[]): boolean =>
  roles.some((role) => wanted.includes(role));
const idsOf = (...wanted: readonly string[]): readonly string[] =>
  users.filter((user) => hasRole(user, ...wanted)).map(({ id }) => id);
const editors = ['editor', 'admin', 'evil_genius'];

const todoRules = [
  {
    ...allow('everybody-reads', ['can_read_user', 'can_read_todos'], { type: 'user' }),
    to: [{ actions: ['can_read_user', 'can_read_todos'] }],
  },
  allow('editors-create', ['can_create_todo'], { type: 'todo' }, only(...idsOf(...editors))),
  ...users
    .filter((user) => hasRole(user, ...editors))
    .map((user, index) =>
      allow(`own-${index}`, ['can_update_todo', 'can_delete_todo'], { type: 'todo' }, only(user.id), {
        attribute: 'resource.ownerID',
        values: [user.email],
      }),
    ),
  allow('evil-geniuses-update', ['can_update_todo'], { type: 'todo' }, only(...idsOf('evil_genius'))),
  allow('admins-delete', ['can_delete_todo'], { type: 'todo' }, only(...idsOf('admin'))),
];

describe('AuthZEN', () => {
  const scope = newScope();
  const stop = new AbortController();
  let dev: RunningDev;

  beforeAll(async () => {
    const resources = scope.folder();
    writeResources(resources, 'all.yaml', [
      trustDomain('shop.test'),
      namespace('shop'),
      ...['records', 'todo'].flatMap((name) => pod(name)),
      clusterIdentity('all', {}),
      policy('records', recordRules),
      policy('todo', todoRules),
    ]);
    dev = await startDev({
      ...{ resourcePath: resources, stateDirectory: scope.folder() },
      ...{ clock: systemClock, random: systemRandom, logger: recordingLogger(), signal: stop.signal },
    });
  });
  afterAll(async () => {
    stop.abort();
    await dev.stopped;
    await scope.end();
  });

  const to = (name: string, path: string, sent?: HttpSent): Promise<HttpReply> =>
    ask(
      { socketPath: dev.report.pods.find((one) => one.name === name)?.applicationSocket ?? '' },
      path,
      sent,
    );
  const evaluate = (json: unknown): Promise<HttpReply> => to('records', '/access/v1/evaluation', { json });
  const batch = async (
    json: unknown,
  ): Promise<readonly { readonly decision: boolean; readonly context: Manifest }[]> => {
    const reply = await to('records', '/access/v1/evaluations', { json });
    expect(reply.status).toBe(200);
    expect(reply.json).not.toHaveProperty('decision');
    return (reply.json as { evaluations: { decision: boolean; context: Manifest }[] }).evaluations;
  };

  const alice = { type: 'user', id: 'alice' };
  const bob = { type: 'user', id: 'bob' };
  const admin = { ...bob, properties: { role: 'admin' } };
  const one = { type: 'record', id: 'record-1' };
  const archived = { type: 'record', id: 'record-2', properties: { status: 'archived' } };
  const [read, write] = [{ name: 'read' }, { name: 'write' }];
  const remove = (soft: boolean): object => ({ name: 'delete', properties: { soft } });

  it.each([
    ['alice reads', true, alice, read, one],
    ['alice writes', true, alice, write, one],
    ['bob reads', true, bob, read, one],
    ['bob does not write', false, bob, write, one],
    ['alice does not write what is archived', false, alice, write, archived],
    ['an admin does', true, admin, write, archived],
    ['alice deletes softly', true, alice, remove(true), one],
    ['and not hard', false, alice, remove(false), one],
    [
      'more properties do not matter',
      true,
      { ...alice, properties: { department: 'Sales', role: 'manager', x: [{ y: null }] } },
      { ...read, properties: { method: 'GET' } },
      one,
    ],
  ])('evaluates: %s', async (_, decision, subject, action, resource) => {
    for (const more of [{}, { context: { time: '2025-06-27T18:03-07:00', ip: '192.168.1.1' }, unknown: [1] }])
      expect(await evaluate({ subject, action, resource, ...more })).toMatchObject({
        status: 200,
        json: { decision },
      });
  });

  const whole = { subject: alice, action: read, resource: one };
  it.each([
    ['subject', { ...whole, subject: undefined }, 'subject is missing'],
    ['action', { ...whole, action: undefined }, 'action is missing'],
    ['resource', { ...whole, resource: undefined }, 'resource is missing'],
    ['subject.type', { ...whole, subject: { id: 'alice' } }, 'subject.type is missing'],
    ['subject.id', { ...whole, subject: { type: 'user' } }, 'subject.id is missing'],
    ['action.name', { ...whole, action: {} }, 'action.name is missing'],
    ['resource.type', { ...whole, resource: { id: 'x' } }, 'resource.type is missing'],
    ['resource.id', { ...whole, resource: { type: 'x' } }, 'resource.id is missing'],
    ['a subject that is a text', { ...whole, subject: 'alice' }, 'subject must be an object, and is "alice"'],
    [
      'an action name that is a number',
      { ...whole, action: { name: 123 } },
      'action.name must be a text that is not empty, and is "123"',
    ],
    [
      'an empty id',
      { ...whole, resource: { type: 'x', id: '' } },
      'resource.id must be a text that is not empty, and is ""',
    ],
    [
      'properties that are a list',
      { ...whole, resource: { ...one, properties: [] } },
      'resource.properties must be an object, and is "[]"',
    ],
    ['a context that is a text', { ...whole, context: 'now' }, 'context must be an object, and is "now"'],
    [
      'a workload that is none',
      { ...whole, subject: { type: 'workload', id: 'https://x' } },
      'subject.id is no SPIFFE ID',
    ],
    [
      'a workload that is a trust domain',
      { ...whole, subject: { type: 'workload', id: 'spiffe://shop.test' } },
      'subject.id is no SPIFFE ID of a workload: it has no path',
    ],
    [
      'a token that is a number',
      { ...whole, subject: { ...alice, properties: { token: 1 } } },
      'subject.properties.token must be',
    ],
  ])('answers 400, naming the field: %s', async (_, json, message) => {
    const reply = await evaluate(json);
    expect(reply.status).toBe(400);
    expect(reply.text).toContain(message);
    expect((await to('records', '/access/v1/evaluations', { json })).status).toBe(400);
  });

  it('answers many questions at once, in their order, with defaults for what they leave out', async () => {
    const decisions = async (json: unknown): Promise<readonly boolean[]> =>
      (await batch(json)).map(({ decision }) => decision);
    const two = [{ action: read }, { action: write }];
    expect(await decisions({ subject: bob, resource: one, evaluations: two })).toEqual([true, false]);
    expect(
      await decisions({
        subject: alice,
        action: write,
        evaluations: [{ resource: one }, { resource: archived }],
      }),
    ).toEqual([true, false]);
    expect(
      await decisions({
        action: write,
        resource: archived,
        evaluations: [{ subject: alice }, { subject: admin }],
      }),
    ).toEqual([false, true]);
    expect(await decisions({ evaluations: [whole, { subject: bob, action: write, resource: one }] })).toEqual(
      [true, false],
    );
    // What a question says replaces the default as a whole: no property of it is left.
    expect(
      await decisions({
        subject: admin,
        action: write,
        resource: archived,
        evaluations: [{}, { subject: alice }],
      }),
    ).toEqual([true, false]);
  });

  it('denies a question that is wrong, and answers the others', async () => {
    const answers = await batch({
      subject: alice,
      action: read,
      evaluations: [{ resource: one }, {}, 7, { resource: one }],
    });
    expect(answers.map(({ decision }) => decision)).toEqual([true, false, false, true]);
    expect(answers[1]?.context).toEqual({
      error: { status: 400, message: 'evaluations[1].resource is missing' },
    });
    expect(answers[2]?.context).toEqual({
      error: { status: 400, message: 'evaluations[2] must be an object, and is "7"' },
    });
  });

  it.each([
    ['execute_all', [true, false, false, true]],
    ['deny_on_first_deny', [true, false]],
    ['permit_on_first_permit', [true]],
  ])('stops as %s says', async (evaluations_semantic, expected) => {
    const evaluations = [{ action: read }, {}, { action: write }, { action: read }];
    const answers = await batch({
      subject: bob,
      resource: one,
      evaluations,
      options: { evaluations_semantic, other: 1 },
    });
    expect(answers.map(({ decision }) => decision)).toEqual(expected);
    const failing = await batch({
      subject: bob,
      resource: one,
      evaluations: [{ action: write }, {}, ...evaluations],
      options: { evaluations_semantic },
    });
    const lengths = { execute_all: 6, deny_on_first_deny: 1, permit_on_first_permit: 3 } as Readonly<
      Record<string, number>
    >;
    expect(failing).toHaveLength(lengths[evaluations_semantic] ?? 0);
  });

  it('answers a request without evaluations, or with none, as a single one', async () => {
    for (const more of [{}, { evaluations: [] }]) {
      const reply = await to('records', '/access/v1/evaluations', { json: { ...whole, ...more } });
      expect(reply).toMatchObject({ status: 200, json: { decision: true } });
      expect(reply.json).not.toHaveProperty('evaluations');
    }
  });

  it.each([
    ['what is no list', { evaluations: {} }, 'evaluations must be a list'],
    [
      'too many',
      { evaluations: Array.from({ length: 257 }, () => ({})) },
      'evaluations has 257 items; 256 are allowed',
    ],
    [
      'a semantic that is none',
      { options: { evaluations_semantic: 'all' } },
      'options.evaluations_semantic "all" is none of execute_all',
    ],
    ['options that are a list', { options: [] }, 'options must be an object'],
  ])('refuses a batch that cannot be understood: %s', async (_, more, message) => {
    const reply = await to('records', '/access/v1/evaluations', {
      json: { ...whole, evaluations: [{}], ...more },
    });
    expect(reply.status).toBe(400);
    expect(reply.text).toContain(message);
  });

  interface Found {
    readonly page?: { readonly next_token: string; readonly count: number };
    readonly results: readonly unknown[];
  }
  const search = async (kind: string, json: unknown): Promise<Found> => {
    const reply = await to('records', `/access/v1/search/${kind}`, { json });
    expect([reply.status, reply.text]).toEqual([200, reply.text]);
    return reply.json as Found;
  };
  const kind = { type: 'record' };

  it('finds subjects, resources and actions that rules name, and no others', async () => {
    const user = { type: 'user' };
    expect((await search('subject', { subject: user, action: read, resource: one })).results).toEqual([
      alice,
      bob,
    ]);
    expect(
      (await search('subject', { subject: { ...user, id: 'ignored' }, action: write, resource: archived }))
        .results,
    ).toEqual([bob]);
    expect((await search('resource', { subject: alice, action: read, resource: kind })).results).toEqual([
      one,
      { type: 'record', id: 'record-2' },
    ]);
    expect(
      (await search('resource', { subject: admin, action: write, resource: kind })).results,
    ).toContainEqual({ type: 'record', id: 'record-2' });
    expect((await search('action', { subject: alice, resource: one })).results).toEqual([read, write]);
    expect((await search('action', { subject: admin, resource: archived })).results).toEqual([read, write]);
  });

  it('finds nothing for what nobody knows', async () => {
    expect(
      (await search('action', { subject: { type: 'user', id: 'nobody' }, resource: one })).results,
    ).toEqual([]);
    expect(
      (await search('subject', { subject: { type: 'token' }, action: read, resource: one })).results,
    ).toEqual([]);
    expect(
      (await search('resource', { subject: alice, action: read, resource: { type: 'ship' } })).results,
    ).toEqual([]);
    expect(
      (await search('action', { subject: { type: 'workload', id: 'spiffe://other.test/x' }, resource: one }))
        .results,
    ).toEqual([]);
  });

  it('gives results by pages, which the next token goes on with', async () => {
    const asked = { subject: { type: 'user' }, action: read, resource: one };
    const first = await search('subject', { ...asked, page: { limit: 1 } });
    expect(first).toMatchObject({ results: [alice], page: { count: 1 } });
    const token = first.page?.next_token ?? '';
    // The order of members says nothing (§10.1.1).
    const { subject, action, resource } = asked;
    const second = await search('subject', { page: { token }, resource, action, subject });
    expect(second).toMatchObject({ results: [bob], page: { next_token: '', count: 1 } });
    expect((await search('subject', asked)).page).toBeUndefined();
    expect((await search('subject', { ...asked, page: {} })).page).toEqual({ next_token: '', count: 2 });
    expect(await search('subject', { ...asked, page: { limit: 0 } })).toMatchObject({ results: [] });

    for (const [wrong, message] of [
      [{ ...asked, action: write, page: { token } }, 'page.token is of another question'],
      [{ ...asked, page: { token, limit: 2 } }, 'page.limit must stay as it was'],
      [{ ...asked, page: { token: 'x' } }, 'page.token is none that was given out'],
      [{ ...asked, page: { token: 7 } }, 'page.token is none that was given out'],
      [{ ...asked, page: { limit: -1 } }, 'page.limit must be a whole number'],
      [{ ...asked, page: { limit: 1.5 } }, 'page.limit must be a whole number'],
      [{ ...asked, page: 'x' }, 'page must be an object'],
    ] as const) {
      const reply = await to('records', '/access/v1/search/subject', { json: wrong });
      expect([reply.status, reply.text]).toEqual([400, expect.stringContaining(message)]);
    }
  });

  it.each([
    ['subject', { subject: { type: 'user' }, resource: one }, 'action is missing'],
    ['subject', { subject: { type: 'user' }, action: read, resource: kind }, 'resource.id is missing'],
    ['resource', { action: read, resource: kind }, 'subject is missing'],
    ['resource', { subject: { type: 'user' }, action: read, resource: kind }, 'subject.id is missing'],
    ['action', { subject: alice }, 'resource is missing'],
    ['action', { subject: { type: 'user' }, resource: one }, 'subject.id is missing'],
  ])('refuses a search for %s that lacks something: %j', async (which, json, message) => {
    const reply = await to('records', `/access/v1/search/${which}`, { json });
    expect([reply.status, reply.text]).toEqual([400, `${message}\n`]);
  });

  it('tells where to ask what', async () => {
    const base = 'http://pdp.test:8080';
    expect(
      (await to('records', '/.well-known/authzen-configuration', { headers: { host: 'pdp.test:8080' } }))
        .json,
    ).toEqual({
      policy_decision_point: base,
      access_evaluation_endpoint: `${base}/access/v1/evaluation`,
      access_evaluations_endpoint: `${base}/access/v1/evaluations`,
      search_subject_endpoint: `${base}/access/v1/search/subject`,
      search_resource_endpoint: `${base}/access/v1/search/resource`,
      search_action_endpoint: `${base}/access/v1/search/action`,
    });
    expect(
      (await to('records', '/.well-known/authzen-configuration', { headers: { host: 'a"b' } })).status,
    ).toBe(400);
  });

  it('decides the todo list of the interop scenario, one by one and boxcarred', async () => {
    const todo = (owner: string): object => ({
      type: 'todo',
      id: '7240d0db',
      properties: { ownerID: owner },
    });
    let decided = 0;
    for (const user of users) {
      const subject = { type: 'user', id: user.id };
      const questions = [
        ...users.map(({ email }) => [{ name: 'can_read_user' }, { type: 'user', id: email }, true] as const),
        [{ name: 'can_read_todos' }, { type: 'todo', id: 'todo-1' }, true] as const,
        [{ name: 'can_create_todo' }, { type: 'todo', id: 'todo-1' }, hasRole(user, ...editors)] as const,
        ...users.flatMap(({ email }) => {
          const own = hasRole(user, ...editors) && email === user.email;
          return [
            [{ name: 'can_update_todo' }, todo(email), own || hasRole(user, 'evil_genius')] as const,
            [{ name: 'can_delete_todo' }, todo(email), own || hasRole(user, 'admin')] as const,
          ];
        }),
      ];
      const evaluations = questions.map(([action, resource]) => ({ action, resource }));
      const all = await to('todo', '/access/v1/evaluations', { json: { subject, context: {}, evaluations } });
      expect(all.json).toMatchObject({ evaluations: questions.map(([, , decision]) => ({ decision })) });
      for (const [action, resource, decision] of questions) {
        const reply = await to('todo', '/access/v1/evaluation', {
          json: { subject, action, resource, context: {} },
        });
        expect(reply.json).toMatchObject({ decision });
        decided++;
      }
    }
    expect(decided).toBe(5 * 17);
  });
});
