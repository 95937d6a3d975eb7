import { describe, expect, it } from '@jest/globals';
import { evaluate } from './evaluate.js';
import type { RuleInput } from './input.js';
import type { AccessRequest } from './model.js';
import { compilePolicySet } from './policy-set.js';

/* Corners of the language that random requests seldom meet. */

const now = Date.UTC(2026, 0, 7, 10, 30);
const base: AccessRequest = {
  source: 'spiffe://td/ns/a/sa/x',
  target: { namespace: 'a', name: 't', serviceAccount: 't', labels: {}, namespaceLabels: {} },
  time: now,
};

type Says = Pick<RuleInput, 'to' | 'when'>;

/** What an Allow rule and a Deny rule of these words make of a request: yes, no, or not known. */
function match(says: Says, request: Partial<AccessRequest>): 'yes' | 'no' | 'unknown' {
  const from = [{ anyone: true }];
  const allowed = (rules: readonly RuleInput[]): boolean => {
    const policy = {
      kind: 'AccessPolicy',
      metadata: { name: 'p', namespace: 'a' },
      spec: { target: {}, rules },
    };
    const set = compilePolicySet([policy], { trustDomain: 'td' });
    expect(set.policies[0]?.problems).toBeUndefined();
    return evaluate(set, { ...base, ...request }).allowed;
  };
  const allows = allowed([{ name: 'r', from, ...says }]);
  const denies = !allowed([
    { name: 'all', from },
    { name: 'r', effect: 'Deny', from, ...says },
  ]);
  return allows ? 'yes' : denies ? 'unknown' : 'no';
}

const get = (path: string, headers: Record<string, string> = {}): Partial<AccessRequest> => ({
  http: { method: 'GET', path, headers },
});

describe('a query parameter', () => {
  it.each([
    ['/?q=one', 'In', 'yes'],
    ['/?q=one&q=one', 'In', 'yes'],
    ['/?q=one&q=two', 'In', 'unknown'],
    ['/?q=one&q=two', 'NotIn', 'unknown'],
    ['/?q=two', 'In', 'no'],
    ['/?q=two', 'NotIn', 'yes'],
    ['/', 'In', 'no'],
    ['/', 'NotIn', 'yes'],
    ['/?q=a+b', 'In', 'yes'],
    ['/?q=a%20b', 'In', 'yes'],
    ['/?%71=%6fne', 'In', 'yes'],
    ['/?Q=one', 'In', 'no'],
    ['/?q=ONE', 'In', 'no'],
    ['/?x=%zz&q=one', 'In', 'unknown'],
    ['/?x=%ff&q=one', 'NotIn', 'unknown'],
    ['/?x=1;q=one', 'In', 'no'],
  ])('of %s, %s one or "a b": %s', (path, operator, expected) => {
    const query = [{ name: 'q', operator, values: ['one', 'a b'] }];
    expect(match({ to: [{ http: { query } }] }, get(path))).toBe(expected);
  });
});

describe('a header', () => {
  it.each([
    ['one', 'In', 'yes'],
    ['one,two', 'In', 'unknown'],
    ['two, one', 'In', 'unknown'],
    ['two,\tone ', 'NotIn', 'unknown'],
    ['two,three', 'In', 'no'],
    ['a,b', 'In', 'yes'],
    ['ONE', 'In', 'no'],
    [' one', 'In', 'no'],
    [undefined, 'In', 'no'],
    [undefined, 'NotIn', 'yes'],
  ])('%j, %s one or "a,b": %s', (value, operator, expected) => {
    const headers = [{ name: 'X-H', operator, values: ['one', 'a,b'] }];
    const request = get('/', value === undefined ? {} : { 'x-h': value });
    expect(match({ to: [{ http: { headers } }] }, request)).toBe(expected);
  });

  it('is not known where headers are not seen, and the prototype has none', () => {
    const to = (name: string): Says => ({ to: [{ http: { headers: [{ name, operator: 'Exists' }] } }] });
    expect(match(to('x-h'), { http: { method: 'GET', path: '/' } })).toBe('unknown');
    expect(match(to('constructor'), get('/'))).toBe('no');
  });
});

describe('a template', () => {
  it.each([
    ['/p/{rest=**}', '/p/', 'yes'],
    ['/p/{rest=**}', '/p', 'no'],
    ['/p/{rest=**}', '/p/a/b/', 'yes'],
    ['/p/{a}', '/p/', 'no'],
    ['/p/{a}', '/p/a/', 'no'],
    ['/p/{a}/', '/p/a/', 'yes'],
  ])('%s and %s: %s', (template, path, expected) => {
    expect(match({ to: [{ http: { paths: [{ template }] } }] }, get(path))).toBe(expected);
  });
});

describe('a token', () => {
  const claims = (operator: string, values?: readonly string[]): Says => ({
    when: { token: { claims: [{ claim: 'c', operator, ...(values === undefined ? {} : { values }) }] } },
  });

  it.each<[string, readonly string[] | undefined, unknown, 'yes' | 'no']>([
    ['ContainsAll', ['a', 'b'], ['b', 'x', 'a'], 'yes'],
    ['ContainsAll', ['a', 'b'], ['a'], 'no'],
    ['ContainsAll', ['a'], 'a', 'yes'],
    ['ContainsAll', ['a'], undefined, 'no'],
    ['In', ['1', 'true'], 1, 'yes'],
    ['In', ['1', 'true'], [false, true], 'yes'],
    ['In', ['1'], '1.0', 'no'],
    ['In', ['a'], [{ a: 1 }], 'no'],
    ['NotIn', ['a'], undefined, 'yes'],
    ['NotIn', ['a'], ['b', 'a'], 'no'],
    ['Exists', undefined, null, 'no'],
    ['Exists', undefined, false, 'yes'],
    ['DoesNotExist', undefined, [], 'no'],
  ])('claim %s %j of %j: %s', (operator, values, c, expected) => {
    expect(match(claims(operator, values), { token: { claims: { c } } })).toBe(expected);
  });

  it('has claims by name as it is, by JSON pointer, and none from the prototype', () => {
    const exists = (claim: string): Says => ({
      when: { token: { claims: [{ claim, operator: 'Exists' }] } },
    });
    const token = { claims: { 'a.b': 1, n: { 'x/y': 1, '~': 1 } } };
    expect(match(exists('a.b'), { token })).toBe('yes');
    expect(match(exists('/n/x~1y'), { token })).toBe('yes');
    expect(match(exists('/n/~0'), { token })).toBe('yes');
    expect(match(exists('n.x'), { token })).toBe('no');
    expect(match(exists('constructor'), { token })).toBe('no');
    expect(match(exists('/n/constructor/name'), { token })).toBe('no');
  });

  it('asks for every method of amr, and for one class of acr', () => {
    const when = { token: { amr: ['pwd', 'mfa'], acr: ['gold', 'silver'] } };
    const of = (amr: unknown, acr: unknown): string => match({ when }, { token: { claims: { amr, acr } } });
    expect(of(['mfa', 'pwd'], 'gold')).toBe('yes');
    expect(of(['mfa'], 'gold')).toBe('no');
    expect(of(['mfa', 'pwd'], 'bronze')).toBe('no');
    expect(of(['mfa', 'pwd'], undefined)).toBe('no');
  });

  it.each<[number | string | undefined, 'yes' | 'no']>([
    [300, 'yes'],
    [300.001, 'no'],
    [0, 'yes'],
    [-60, 'yes'],
    [-60.001, 'no'],
    [undefined, 'no'],
    ['0', 'no'],
  ])('is as fresh as asked for when the login was %s seconds ago: %s', (age, expected) => {
    const login = typeof age === 'number' ? now / 1000 - age : age;
    const when = { token: { maxAuthAge: '5m' } };
    expect(match({ when }, { token: { claims: { auth_time: login } } })).toBe(expected);
  });

  it('is not known where tokens are not seen, and is not there otherwise', () => {
    const when = { token: { issuers: ['https://a.example'] } };
    expect(match({ when }, {})).toBe('unknown');
    expect(match({ when }, { token: null })).toBe('no');
  });
});

describe('an attribute', () => {
  const of = (operator: string, value: string, a: unknown): string =>
    match(
      { when: { attributes: [{ attribute: 'resource.a', operator, values: [value] }] } },
      { application: { action: { name: 'read' }, resource: { type: 'd', id: '1', properties: { a } } } },
    );

  it.each<[string, string, unknown, 'yes' | 'no' | 'unknown']>([
    ['GreaterThan', '2', 2, 'no'],
    ['GreaterThan', '2', '2.0', 'no'],
    ['GreaterThan', '2', 10, 'yes'],
    ['AtLeast', '2.50', 2.5, 'yes'],
    ['LessThan', '2', 2, 'no'],
    ['AtMost', '2', '2.00', 'yes'],
    ['AtMost', '2', 'x', 'unknown'],
    ['AtMost', '2', [1], 'unknown'],
    ['AtMost', '2026-01-01T00:00:00Z', '2026-01-01T01:00:00+01:00', 'yes'],
    ['AtMost', '2026-01-01T00:00:00Z', 5, 'unknown'],
    ['AtLeast', '9007199254740993', '9007199254740992', 'no'],
    ['Equals', '2', 2, 'yes'],
    ['Equals', '2', '2.0', 'no'],
    ['NotEquals', '2', {}, 'unknown'],
    ['In', 'x', ['a', {}], 'unknown'],
    ['In', 'x', [{}, 'x'], 'yes'],
    ['NotIn', 'x', ['a', {}], 'unknown'],
    ['NotIn', 'x', [], 'yes'],
    ['NotIn', 'x', null, 'unknown'],
  ])('%s %s, of %j: %s', (operator, value, a, expected) => {
    expect(of(operator, value, a)).toBe(expected);
  });
});

describe('the address of the caller', () => {
  it.each<[string | undefined, 'yes' | 'no' | 'unknown']>([
    ['10.1.2.3', 'yes'],
    ['::ffff:10.1.2.3', 'yes'],
    ['11.0.0.1', 'no'],
    ['::a01:203', 'no'],
    [undefined, 'unknown'],
    ['nonsense', 'unknown'],
    ['010.1.2.3', 'unknown'],
  ])('%s is in 10.0.0.0/8: %s', (sourceIp, expected) => {
    const rule = (effect: string): RuleInput => ({
      name: effect,
      effect,
      from: [{ ipBlocks: ['10.0.0.0/8'] }],
    });
    const allowed = (rules: readonly RuleInput[]): boolean => {
      const policy = {
        kind: 'AccessPolicy',
        metadata: { name: 'p', namespace: 'a' },
        spec: { target: {}, rules },
      };
      const request = sourceIp === undefined ? base : { ...base, sourceIp };
      return evaluate(compilePolicySet([policy], { trustDomain: 'td' }), request).allowed;
    };
    expect(allowed([rule('Allow')])).toBe(expected === 'yes');
    expect(allowed([{ name: 'all', from: [{ anyone: true }] }, rule('Deny')])).toBe(expected === 'no');
  });
});
