import { describe, expect, it } from '@jest/globals';
import { evaluate } from './evaluate.js';
import type { PolicyInput, RoleInput } from './input.js';
import type { AccessRequest } from './model.js';
import { compilePolicySet } from './policy-set.js';

/* Every field of a rule, said wrongly: the problem names the field, the value and the fix, and the target denies. */

const role = (name: string, spec: unknown): RoleInput =>
  ({ kind: 'AccessRole', metadata: { name }, spec }) as RoleInput;

const roles: readonly RoleInput[] = [
  role('reader', { permissions: [{ actions: ['read'] }] }),
  role('round', { includes: ['about'] }),
  role('about', { includes: ['round'] }),
  role('lame', { includes: ['gone'] }),
  role('wrong', { permissions: [{ http: { methods: ['get'] } }] }),
  role('twice', { permissions: [{ actions: ['read'] }] }),
  role('twice', { permissions: [{ actions: ['write'] }] }),
];

const request: AccessRequest = {
  source: 'spiffe://td/ns/a/sa/x',
  target: { namespace: 'a', name: 't', serviceAccount: 't', labels: {}, namespaceLabels: {} },
  port: 8080,
  http: { method: 'GET', path: '/', headers: {} },
  token: null,
  time: 0,
};

const from = [{ anyone: true }];
const http = (part: unknown): unknown => ({ from, to: [{ http: part }] });
const when = (part: unknown): unknown => ({ from, when: part });
const token = (part: unknown): unknown => when({ token: part });
const claim = (part: object): unknown => token({ claims: [{ claim: 'c', ...part }] });
const attribute = (part: object): unknown => when({ attributes: [{ attribute: 'subject.id', ...part }] });
const window = (part: object): unknown =>
  when({ during: [{ from: '09:00', until: '17:00', timeZone: 'UTC', ...part }] });
const deny = (name: string): unknown => ({ effect: 'Deny', from, roles: [{ name }] });

/** A rule, the field after `spec.rules[0].`, and what the message must say: the value, and what to write. */
type Case = readonly [rule: unknown, field: string, ...says: string[]];

const cases: Readonly<Record<string, readonly Case[]>> = {
  ipBlocks: [
    [{ from: [{ ipBlocks: ['10.0.0.1/8'] }] }, 'from[0].ipBlocks[0]', '10.0.0.1/8', 'write "10.0.0.0/8"'],
    [{ from: [{ ipBlocks: ['10.0.0.1'] }] }, 'from[0].ipBlocks[0]', '10.0.0.1', '"10.0.0.0/8"'],
    [{ from: [{ ipBlocks: ['10.0.0.0/33'] }] }, 'from[0].ipBlocks[0]', '10.0.0.0/33', 'CIDR'],
    [{ from: [{ ipBlocks: ['010.0.0.0/8'] }] }, 'from[0].ipBlocks[0]', '010.0.0.0/8', 'CIDR'],
    [{ from: [{ ipBlocks: ['::ffff:10.0.0.0/104'] }] }, 'from[0].ipBlocks[0]', '::ffff', 'CIDR'],
    [{ from: [{ ipBlocks: [] }] }, 'from[0].ipBlocks', 'empty list', 'leave the field out'],
    [{ from: [{ anyone: true, except: [{ ipBlocks: [7] }] }] }, 'from[0].except[0].ipBlocks[0]', 'a text'],
    [{ from: [{ anyone: true, except: [{}] }] }, 'from[0].except[0]', 'names nobody', 'anyone: true'],
    [{ from: [{ anyone: true, except: [] }] }, 'from[0].except', 'empty list', 'leave the field out'],
  ],
  headers: [
    [http({ headers: [{ name: 'a b', values: ['x'] }] }), 'to[0].http.headers[0].name', 'name of a header'],
    [http({ headers: [{ values: ['x'] }] }), 'to[0].http.headers[0].name', 'name of a header'],
    [
      http({ headers: [{ name: 'a', operator: 'Is', values: ['x'] }] }),
      'to[0].http.headers[0].operator',
      '"Is"',
      'In, NotIn',
    ],
    [http({ headers: [{ name: 'a' }] }), 'to[0].http.headers[0].values', 'must be given with In'],
    [
      http({ headers: [{ name: 'a', operator: 'Exists', values: ['x'] }] }),
      'to[0].http.headers[0].values',
      'Exists',
      'leave it out',
    ],
    [http({ headers: [{ name: 'a', value: 'x' }] }), 'to[0].http.headers[0].value', 'not a field', 'values'],
    [http({ headers: [] }), 'to[0].http.headers', 'empty list', 'leave the field out'],
    [http({ headers: {} }), 'to[0].http.headers', 'must be a list'],
  ],
  query: [
    [http({ query: [{ name: '', values: ['x'] }] }), 'to[0].http.query[0].name', 'name of a parameter'],
    [
      http({ query: [{ name: 'a', operator: 'NotIn' }] }),
      'to[0].http.query[0].values',
      'must be given with NotIn',
    ],
    [http({ query: [{ name: 'a', values: [1] }] }), 'to[0].http.query[0].values[0]', 'must be a text'],
    [http({ query: ['a'] }), 'to[0].http.query[0]', 'must be an object'],
  ],
  'actions and resources': [
    [{ from, to: [{ actions: [] }] }, 'to[0].actions', 'empty list', 'leave the field out'],
    [{ from, to: [{ actions: [''] }] }, 'to[0].actions[0]', 'not empty'],
    [
      { from, to: [{ actions: ['read'], ports: [80] }] },
      'to[0].ports',
      'does not go with actions',
      'one entry for each',
    ],
    [
      { from, to: [{ actions: ['read'], http: {} }] },
      'to[0].http',
      'does not go with actions',
      'one entry for each',
    ],
    [{ from, to: [{ resources: [{ ids: ['1'] }] }] }, 'to[0].resources[0].type', 'type of a resource'],
    [
      { from, to: [{ resources: [{ type: 'd', ids: [] }] }] },
      'to[0].resources[0].ids',
      'empty list',
      'leave the field out',
    ],
    [{ from, to: [{ resources: [{ type: 'd', id: '1' }] }] }, 'to[0].resources[0].id', 'not a field', 'ids'],
  ],
  roles: [
    [deny('round'), 'roles[0]', '"round"', 'includes itself'],
    [deny('gone'), 'roles[0]', 'there is no AccessRole "gone"', 'declare it'],
    [deny('lame'), 'roles[0]', 'there is no AccessRole "gone"', 'declare it'],
    [deny('wrong'), 'roles[0]', '"wrong"', '"get"', 'upper case'],
    [deny('twice'), 'roles[0]', '"twice"', 'stands twice'],
    [{ from, roles: [{}] }, 'roles[0].name', 'must name an AccessRole'],
    [{ from, roles: [] }, 'roles', 'empty list', 'leave the field out'],
    [{ from, roles: [{ name: 'reader', value: 'x' }] }, 'roles[0].value', 'say claim too'],
    [{ from, roles: [{ name: 'reader', claim: '' }] }, 'roles[0].claim', 'no claim', 'JSON pointer'],
    [{ from, roles: [{ name: 'reader', claim: '/a~b' }] }, 'roles[0].claim', '"/a~b"', '"~0"'],
    [{ from, roles: [{ name: 'reader', claim: 'c', value: 7 }] }, 'roles[0].value', 'must be a text'],
  ],
  token: [
    [token('x'), 'when.token', 'must be an object'],
    [token({ issuer: 'x' }), 'when.token.issuer', 'not a field', 'issuers'],
    [token({ issuers: [] }), 'when.token.issuers', 'empty list'],
    [token({ audiences: [''] }), 'when.token.audiences[0]', 'not empty'],
    [token({ subjects: 'ann' }), 'when.token.subjects', 'must be a list'],
    [token({ amr: [1] }), 'when.token.amr[0]', 'must be a text'],
    [token({ acr: [] }), 'when.token.acr', 'empty list'],
    [token({ maxAuthAge: '1d' }), 'when.token.maxAuthAge', '"1d"', '"24h"'],
    [token({ maxAuthAge: 300 }), 'when.token.maxAuthAge', '300', '"5m"'],
    [claim({ claim: '', values: ['x'] }), 'when.token.claims[0].claim', 'no claim', 'JSON pointer'],
    [
      claim({ operator: 'Contains', values: ['x'] }),
      'when.token.claims[0].operator',
      '"Contains"',
      'ContainsAll',
    ],
    [claim({}), 'when.token.claims[0].values', 'must be given with In'],
    [
      claim({ operator: 'DoesNotExist', values: ['x'] }),
      'when.token.claims[0].values',
      'DoesNotExist',
      'leave it out',
    ],
    [claim({ operator: 'ContainsAll', values: [] }), 'when.token.claims[0].values', 'empty list'],
  ],
  windows: [
    [window({ from: '9:00' }), 'when.during[0].from', '"9:00"', '"09:00"'],
    [window({ from: '24:00' }), 'when.during[0].from', '"24:00"', '"09:00"'],
    [window({ until: '24:01' }), 'when.during[0].until', '"24:01"', '"09:00"'],
    [window({ until: undefined }), 'when.during[0].until', 'no time of day', '"09:00"'],
    [window({ timeZone: 'Europe/Bonn' }), 'when.during[0].timeZone', '"Europe/Bonn"', 'Europe/Berlin'],
    [window({ timeZone: undefined }), 'when.during[0].timeZone', 'no time zone', 'UTC'],
    [window({ days: ['Monday'] }), 'when.during[0].days[0]', '"Monday"', 'Mon, Tue'],
    [window({ days: [] }), 'when.during[0].days', 'empty list', 'leave the field out'],
    [when({ outside: [] }), 'when.outside', 'empty list', 'leave the field out'],
    [when({ outside: [{}] }), 'when.outside[0].from', 'no time of day'],
  ],
  labels: [
    [when({ sourceLabels: { app: 'x' } }), 'when.sourceLabels.app', 'not a field', 'matchLabels'],
    [
      when({ sourceLabels: { matchLabels: { app: true } } }),
      'when.sourceLabels.matchLabels.app',
      '"true"',
      'in quotes',
    ],
    [
      when({ targetLabels: { matchExpressions: [{ key: 'a', operator: 'Is' }] } }),
      'when.targetLabels.matchExpressions[0].operator',
      '"Is"',
      'In, NotIn',
    ],
    [
      when({ targetLabels: { matchExpressions: [{ key: 'a', operator: 'In' }] } }),
      'when.targetLabels.matchExpressions[0].values',
      'must be given with In',
    ],
    [when({ targetLabels: [] }), 'when.targetLabels', 'must be an object'],
  ],
  posture: [
    [
      when({ sourcePosture: { imageDigests: 'yes' } }),
      'when.sourcePosture.imageDigests',
      '"yes"',
      'true or false',
    ],
    [when({ sourcePosture: { noPrivileged: 1 } }), 'when.sourcePosture.noPrivileged', '1', 'true or false'],
    [when({ sourcePosture: { allowedImages: [] } }), 'when.sourcePosture.allowedImages', 'empty list'],
    [
      when({ sourcePosture: { privileged: false } }),
      'when.sourcePosture.privileged',
      'not a field',
      'noPrivileged',
    ],
  ],
  attributes: [
    [
      attribute({ attribute: 'user.id', values: ['x'] }),
      'when.attributes[0].attribute',
      '"user.id"',
      '"subject."',
    ],
    [
      attribute({ attribute: 'subject', values: ['x'] }),
      'when.attributes[0].attribute',
      '"subject"',
      'and a name',
    ],
    [attribute({}), 'when.attributes[0].values', 'must be given with In'],
    [attribute({ other: 'resource.owner' }), 'when.attributes[0].operator', 'Equals'],
    [attribute({ operator: 'Equals', other: 'owner' }), 'when.attributes[0].other', '"owner"', '"resource."'],
    [
      attribute({ operator: 'Equals', other: 'resource.o', values: ['x'] }),
      'when.attributes[0].values',
      'does not go with other',
      'one of them',
    ],
    [
      attribute({ operator: 'Equals', values: ['x', 'y'] }),
      'when.attributes[0].values',
      'Equals compares with one value',
      'In',
    ],
    [
      attribute({ operator: 'AtLeast', values: ['many'] }),
      'when.attributes[0].values[0]',
      '"many"',
      '2026-01-31T18:00:00Z',
    ],
    [attribute({ operator: 'Matches', values: ['x'] }), 'when.attributes[0].operator', '"Matches"', 'Equals'],
  ],
  cel: [
    [when({ cel: 7 }), 'when.cel', 'must be a text'],
    [when({ cel: 'subject.id ==' }), 'when.cel', '"subject.id =="', 'no CEL expression'],
    [when({ cel: 'user.id == "x"' }), 'when.cel', 'there is no variable \\"user\\"', 'subject, resource'],
  ],
  when: [
    [when({}), 'when', 'says nothing', 'leave it out'],
    [when({ time: {} }), 'when.time', 'not a field', 'during'],
    [when(null), 'when', 'must be an object'],
  ],
};

describe('a rule that says something wrongly', () => {
  const all = Object.entries(cases).flatMap(([about, list]) =>
    list.map(([rule, field, ...says]) => ({ about, rule, field: `spec.rules[0].${field}`, says })),
  );

  it.each(all)('$about: $field', ({ rule, field, says }) => {
    const broken = {
      kind: 'AccessPolicy',
      metadata: { name: 'broken', namespace: 'a' },
      spec: { target: {}, rules: [{ name: 'r', ...(rule as object) }] },
    } as unknown as PolicyInput;
    const open: PolicyInput = {
      kind: 'AccessPolicy',
      metadata: { name: 'open', namespace: 'a' },
      spec: { target: {}, rules: [{ name: 'all', from }] },
    };
    const options = { trustDomain: 'td', roles, defaultAction: 'Allow' } as const;
    const set = compilePolicySet([broken, open], options);
    const problems = set.policies.find(({ ref }) => ref.name === 'broken')?.problems ?? [];
    const messages = problems.filter((problem) => problem.field === field).map(({ message }) => message);
    expect({ field, messages, problems: messages.length > 0 ? [] : problems }).toMatchObject({
      problems: [],
    });
    for (const text of says) {
      expect(
        messages.some((message) => message.replaceAll('\\"', '"').includes(text.replaceAll('\\"', '"'))),
      ).toBe(true);
    }
    // What is open to everybody beside it, is no more.
    expect(evaluate(compilePolicySet([open], options), request).allowed).toBe(true);
    expect(evaluate(set, request)).toMatchObject({
      allowed: false,
      decidedBy: { kind: 'policy', why: 'broken', policy: { name: 'broken' } },
    });
  });

  it.each(['round', 'gone', 'lame', 'wrong', 'twice'])(
    'an Allow rule that grants the role "%s", which is not there or not right, grants nothing',
    (name) => {
      const policy: PolicyInput = {
        kind: 'AccessPolicy',
        metadata: { name: 'p', namespace: 'a' },
        spec: { target: {}, rules: [{ name: 'r', from, roles: [{ name }] }] },
      };
      const set = compilePolicySet([policy], { trustDomain: 'td', roles, defaultAction: 'Allow' });
      const asks = (action: string): AccessRequest => ({
        source: request.source,
        target: request.target,
        time: 0,
        application: { action: { name: action }, resource: { type: 'd', id: '1' } },
      });
      expect(set.policies[0]?.problems).toBeUndefined();
      for (const one of [request, asks('read'), asks('write')])
        expect(evaluate(set, one).allowed).toBe(false);
    },
  );
});
