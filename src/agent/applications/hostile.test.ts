import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { silentLogger } from '../../lib/logger.js';
import { systemRandom } from '../../lib/random.js';
import { createInventory } from '../../access/mesh/inventory.js';
import { compilePolicySet } from '../../access/policy/policy-set.js';
import type { HttpAnswer, HttpCall, HttpRoute } from '../../rpc/http/route.js';
import { StatusError, type CallContext } from '../../rpc/service.js';
import { createAuthorization } from '../authorization/decide.js';
import type { CallParts } from '../session.js';
import { applicationRoutes } from './routes.js';

/* Whatever stands in a question: it is answered, or refused with the field that is wrong; nothing else is ever thrown. */

const workload = {
  ...{ namespace: 'a', name: 'app', serviceAccount: 'app', labels: {}, namespaceLabels: {} },
  ...{ spiffeIds: ['spiffe://td/ns/a/sa/app'], ports: [] },
};
const inventory = createInventory({
  trustDomain: 'td',
  namespaces: [{ name: 'a', labels: {} }],
  workloads: [workload],
});

function routes(): readonly HttpRoute[] {
  const policies = compilePolicySet(
    [
      {
        kind: 'AccessPolicy',
        metadata: { namespace: 'a', name: 'p' },
        spec: {
          target: { podSelector: {} },
          rules: [
            {
              name: 'r',
              from: [{ anyone: true }],
              to: [{ actions: ['read'], resources: [{ type: 'doc', ids: ['1', '2'] }] }],
              when: { attributes: [{ attribute: 'subject.id', values: ['ann'] }] },
            },
          ],
        },
      },
    ],
    { trustDomain: 'td', identity: () => undefined, namespaces: () => [] },
  );
  const clock = new FakeClock();
  const current = {
    policies,
    inventory,
    pod: () => workload,
    target: () => workload,
    source: () => undefined,
  };
  const authorization = createAuthorization({
    ...{ views: { current }, clock, random: systemRandom, logger: silentLogger },
    tokens: {
      validateCached: () => undefined,
      validate: async () => ({ ok: false, code: 'TokenMalformed', reason: 'is none' }),
    },
    knowsTrustDomain: (name) => name === 'td',
    // A pod's socket says who asks, so nobody is looked up.
    calls: {} as CallParts,
  });
  return applicationRoutes({ authorization, clock });
}

const context: CallContext = {
  peer: { listener: 'pod/u', connectionId: 'c' },
  signal: new AbortController().signal,
  requestId: 'r1',
  metadata: () => undefined,
};

async function post(
  served: readonly HttpRoute[],
  path: string,
  body: HttpCall['body'],
): Promise<HttpAnswer | StatusError> {
  const route = served.find((one) => one.method === 'POST' && one.path === path);
  if (route === undefined) throw new Error(`no ${path}`);
  const segments = [...path.slice(1).split('/'), ...(path === '/v1/data' ? ['signet'] : [])];
  try {
    return await route.handle({
      context,
      segments,
      query: new URLSearchParams(),
      host: 'a',
      secure: false,
      body,
    });
  } catch (thrown) {
    if (thrown instanceof StatusError) return thrown;
    throw thrown;
  }
}

const paths = [
  '/access/v1/evaluation',
  '/access/v1/evaluations',
  '/access/v1/search/subject',
  '/access/v1/search/resource',
  '/access/v1/search/action',
  '/v1/data',
];
const junk = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom<unknown>(
    null,
    [],
    {},
    '',
    0,
    -1,
    true,
    { toString: 1 },
    { constructor: { prototype: 1 } },
    '\u0000',
    '__proto__',
  ),
);
const mostly = (value: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 20, arbitrary: value }, { weight: 1, arbitrary: junk });
const record = (
  fields: Readonly<Record<string, fc.Arbitrary<unknown>>>,
): fc.Arbitrary<Record<string, unknown>> =>
  fc.record(
    Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [name, fc.option(value, { nil: undefined, freq: 12 })]),
    ),
  );
const properties = mostly(
  record({ token: mostly(fc.string()), labels: junk, id: junk, spiffeId: junk, x: junk }),
);
const entity = (types: readonly string[], ids: readonly string[]): fc.Arbitrary<unknown> =>
  mostly(
    record({
      type: mostly(fc.constantFrom(...types)),
      id: mostly(fc.constantFrom(...ids)),
      properties: fc.option(properties, { nil: undefined, freq: 2 }),
    }),
  );
const fields = {
  subject: entity(
    ['user', 'person', 'workload', 'token'],
    ['ann', 'ann', 'bob', 'spiffe://td/ns/a/sa/app', 'spiffe://other/x', 'a.b.c'],
  ),
  resource: entity(['doc', 'doc', 'other'], ['1', '2', '3']),
  context: mostly(record({ time: junk, ip: junk })),
  action: mostly(record({ name: mostly(fc.constantFrom('read', 'read', 'write')), properties })),
};
const network = mostly(
  record({
    source: mostly(
      record({
        principal: mostly(fc.constantFrom('', 'spiffe://td/ns/a/sa/app')),
        certificate: junk,
        address: junk,
      }),
    ),
    request: mostly(
      record({
        http: mostly(
          record({
            method: mostly(fc.constant('GET')),
            path: mostly(fc.webPath()),
            headers: mostly(fc.dictionary(fc.string(), mostly(fc.string()))),
            host: junk,
          }),
        ),
      }),
    ),
  }),
);
const bodies = record({
  ...fields,
  evaluations: mostly(fc.array(mostly(record(fields)), { maxLength: 3 })),
  options: mostly(
    record({ evaluations_semantic: mostly(fc.constantFrom('execute_all', 'deny_on_first_deny')) }),
  ),
  page: mostly(record({ limit: mostly(fc.nat(3)), token: junk })),
  input: mostly(fc.oneof(record(fields), record({ attributes: network }))),
});

/** Whether an answer allows something. */
function allows(answer: HttpAnswer): boolean {
  return /"(?:decision|allow)":true|"results":\[\{/.test(JSON.stringify(answer.body));
}

describe('whatever an application asks', () => {
  it('is answered, or refused by naming a field', async () => {
    const served = routes();
    const seen = { answered: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths), bodies, async (path, body) => {
        const answer = await post(served, path, body);
        if (answer instanceof StatusError) {
          expect(answer.status).toBe('InvalidArgument');
          expect(answer.message).toMatch(
            /^(?:subject|action|resource|context|evaluations|options|page|input)[\w.[\]:%-]*/,
          );
          seen.refused++;
        } else {
          expect(answer.status).toBe(200);
          seen.answered++;
        }
      }),
      { numRuns: 1500 },
    );
    expect(Math.min(seen.answered, seen.refused)).toBeGreaterThan(100);
  });

  it('is allowed only to the one subject that the rule names, on what it names', async () => {
    const served = routes();
    let allowed = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('/access/v1/evaluation', '/v1/data'),
        record(fields),
        async (path, body) => {
          const answer = await post(served, path, path === '/v1/data' ? { input: body } : body);
          if (answer instanceof StatusError || !allows(answer)) return;
          allowed++;
          expect(body).toMatchObject({
            subject: { id: 'ann' },
            action: { name: 'read' },
            resource: { type: 'doc', id: expect.stringMatching(/^[12]$/) },
          });
          // Not by a token that is not valid.
          expect(body).not.toMatchObject({ subject: { type: 'token' } });
          expect(body).not.toMatchObject({ subject: { properties: { token: expect.anything() } } });
        },
      ),
      { numRuns: 4000, seed: 7 },
    );
    expect(allowed).toBeGreaterThan(20);
  });

  it('finds nothing that is then denied', async () => {
    const served = routes();
    let found = 0;
    await fc.assert(
      fc.asyncProperty(record(fields), async (body) => {
        for (const kind of ['subject', 'resource', 'action'] as const) {
          const answer = await post(served, `/access/v1/search/${kind}`, body);
          if (answer instanceof StatusError) continue;
          for (const result of (answer.body as { results: readonly object[] }).results) {
            const again = { ...body, [kind]: { ...(body[kind] as object), ...result } };
            if (kind === 'action') again[kind] = result;
            const evaluated = await post(served, '/access/v1/evaluation', again);
            expect(evaluated).toMatchObject({ body: { decision: true } });
            found++;
          }
        }
      }),
      { numRuns: 1500, seed: 7 },
    );
    expect(found).toBeGreaterThan(50);
  });
});
