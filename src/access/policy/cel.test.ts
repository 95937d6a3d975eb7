import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { compileCel } from './cel.js';
import { evaluate } from './evaluate.js';
import type { PolicyInput } from './input.js';
import type { AccessRequest, DecisionAttributes } from './model.js';
import { compilePolicySet } from './policy-set.js';

const none: DecisionAttributes = { subject: {}, resource: {}, action: {}, environment: {} };

/** What an expression says; fails the test when it does not compile. */
function say(text: string, attributes: Partial<DecisionAttributes> = {}): boolean | undefined {
  const compiled = compileCel(text);
  if (!compiled.ok) throw new Error(`${text}: ${compiled.message}; ${compiled.fix}`);
  return compiled.condition.evaluate({ ...none, ...attributes });
}

/** Why an expression is refused, with the fix. */
function refusal(text: string): string {
  const compiled = compileCel(text);
  return compiled.ok ? 'accepted' : `${compiled.message}; ${compiled.fix}`;
}

describe('a CEL expression', () => {
  it.each<[string, Partial<DecisionAttributes>, boolean | undefined]>([
    ['subject.level >= 2', { subject: { level: 2 } }, true],
    ['subject.level >= 2', { subject: { level: 2.5 } }, true],
    ['subject.level >= 2', { subject: { level: 1 } }, false],
    ['subject.level >= 2', { subject: { level: '2' } }, undefined],
    ['"admin" in subject.roles', { subject: { roles: ['x', 'admin'] } }, true],
    ['subject.roles.exists(r, r.startsWith("adm"))', { subject: { roles: ['admin'] } }, true],
    ['subject.roles.all(r, r != "guest")', { subject: { roles: ['admin', 'guest'] } }, false],
    ['resource.owner == subject.id', { resource: { owner: 'a' }, subject: { id: 'a' } }, true],
    ['resource["content-type"] == "x"', { resource: { 'content-type': 'x' } }, true],
    ['has(subject.team) ? subject.team == "a" : false', {}, false],
    ['size(subject.name) > 2', { subject: { name: 'ann' } }, true],
    [
      'environment.time < timestamp("2026-02-01T00:00:00Z")',
      { environment: { time: '2026-01-01T00:00:00Z' } },
      true,
    ],
    [
      'environment.time - timestamp(subject.since) > duration("24h")',
      { environment: { time: '2026-01-03T00:00:00Z' }, subject: { since: '2026-01-01T00:00:00Z' } },
      true,
    ],
  ])('%s', (text, attributes, expected) => {
    expect(say(text, attributes)).toBe(expected);
  });

  it.each([
    'subject.a',
    'subject.a.b == 1',
    'subject.a == "x"',
    '!(subject.a == "x")',
    'subject.a < 1',
    'size(subject.a) == 0',
  ])('cannot be said where an attribute is missing, or null: %s', (text) => {
    expect(say(text)).toBeUndefined();
    expect(say(text, { subject: { a: null } })).toBeUndefined();
  });

  it('says what is sure though something else is missing', () => {
    expect(say('subject.a == "x" || true')).toBe(true);
    expect(say('subject.a == "x" && false')).toBe(false);
    expect(say('has(subject.a) && subject.a == "x"')).toBe(false);
  });

  it.each<[string, unknown]>([
    ['subject.a', 'true'],
    ['subject.a', 1],
    ['subject.a', {}],
  ])('is not true because of a value that only looks so: %s is %j', (text, a) => {
    expect(say(text, { subject: { a } })).toBeUndefined();
  });

  it.each<[string, ...string[]]>([
    ['"x"', 'gives string', 'write a comparison'],
    ['1 + 1', 'gives int', 'write a comparison'],
    ['1 == "1"', '_==_ does not go with int and string', 'alike'],
    ['size(subject.a) == "1"', 'int and string'],
    ['"a" < 1', 'string and int'],
    ['!size(subject.a)', 'does not go with int'],
    ['"a".b == 1', 'string has no field b'],
    ['1.exists(x, true)', 'int has no items'],
    ['"abc".exists(x, true)', 'string has no items'],
    ['subjekt.a == 1', 'no variable "subjekt"', 'subject, resource, action, environment'],
    ['subject.roles.exists(subject, true)', 'bound a second time'],
    ['now() < 1', 'no function now'],
    ['subject.a.lowerAscii() == "x"', 'no method lowerAscii'],
    ['environment.time.getHours() > 9', 'getHours'],
    ['environment.time.getFullYear() > 9', 'when.during'],
    ['google.protobuf.Duration{seconds: 1} == duration("1s")', 'no message', 'write a map'],
    ['subject.a == ', 'no CEL expression'],
    ['', 'no CEL expression'],
  ])('is refused with the reason: %s', (text, ...says) => {
    for (const part of says) expect(refusal(text)).toContain(part);
  });
});

describe('what a CEL expression may cost', () => {
  const nested = (depth: number): string => {
    const inner = depth === 0 ? 'subject.id == "x"' : nested(depth - 1);
    return `resource.list${depth}.exists(x${depth}, ${inner})`;
  };

  it('is bounded by its length, its brackets and its loops', () => {
    expect(refusal(`subject.a == "${'x'.repeat(4096)}"`)).toContain('write at most 4096');
    expect(refusal(`${'('.repeat(41)}true${')'.repeat(41)}`)).toContain('nested too deep');
    expect(refusal(nested(0))).toBe('accepted');
    expect(refusal(nested(2))).toMatch(/could take .* steps .*; do not go through lists inside of lists/);
    expect(refusal('[1, 2, 3].all(x, [1, 2, 3].all(y, x + y > 0))')).toBe('accepted');
  });

  it.each([
    `${'!'.repeat(4000)}true`,
    `subject${'.a'.repeat(2000)} == 1`,
    `1${' + 1'.repeat(1000)} > 0`,
    `true${' || subject.a'.repeat(300)}`,
    `${'true ? '.repeat(250)}true${' : false'.repeat(250)}`,
  ])('does not end the stack, whatever is repeated (%#)', (text) => {
    const compiled = compileCel(text);
    if (compiled.ok) expect([true, undefined]).toContain(compiled.condition.evaluate(none));
    else expect(compiled.fix).not.toBe('');
  });

  it('is bounded by the attributes: what is larger cannot be said', () => {
    const list = (length: number): Partial<DecisionAttributes> => ({
      subject: { list: Array.from({ length }, () => 'x') },
    });
    expect(say('"y" in subject.list', list(256))).toBe(false);
    expect(say('"y" in subject.list', list(257))).toBeUndefined();
    expect(say('subject.text == "y"', { subject: { text: 'x'.repeat(8192) } })).toBe(false);
    expect(say('subject.text == "y"', { subject: { text: 'x'.repeat(8193) } })).toBeUndefined();
    let deep: unknown = 1;
    for (let depth = 0; depth < 100_000; depth++) deep = { deep };
    expect(say('subject.a == 1', { subject: { a: 1, deep } })).toBeUndefined();
  });

  it.each([
    // Roles, groups and scopes.
    'subject.roles.exists(r, r in ["admin", "editor"])',
    'resource.scopes.all(s, s in subject.scopes)',
    'subject.groups.exists(g, g.startsWith("team-") && g.endsWith("-admins") && g != "team-x-admins")',
    'subject.groups.exists(g, g.contains("oncall"))',
    'subject.emails.exists(e, e.matches("@example[.](org|com)$"))',
    'resource.items.filter(i, i.kind == "invoice").map(i, i.owner).exists(o, o == subject.id)',
    'resource.acl.exists(e, e.who == subject.id && (e.right == "write" || e.right == "own") && !e.revoked)',
    'resource.members.exists_one(m, m.id == subject.id) || subject.id in resource.admins',
    'size(resource.items) < 100 && resource.items.all(i, i.price * i.count + i.tax <= 1000)',
    'resource.tags.all(t, !(t in ["secret", "internal", "restricted"])) || subject.clearance >= 3',
    'subject.department == resource.department && resource.classification != "secret"',
    'environment.time > timestamp("2026-01-01T00:00:00Z") && environment.time - timestamp(resource.created) < duration("24h")',
    'action.path.matches("^/api/v[0-9]+/") && action.host.endsWith(".example.org") && size(action.path) < 200',
    'has(resource.owner) && (resource.owner == subject.id || subject.roles.exists(r, r == "admin"))',
    `subject.id in [${Array.from({ length: 60 }, (_, index) => `"user-${index}"`).join(', ')}]`,
  ])('takes what people write: %s', (text) => {
    expect(refusal(text)).toBe('accepted');
  });

  it.each([
    // What is found in one step in the worst of attributes is not found in all steps of a loop.
    'resource.list.all(x, subject.text.contains("y"))',
    'resource.list.all(x, size(subject.text) > 3)',
    'resource.list.all(x, subject.list == resource.list)',
    'resource.list.all(x, size(subject.list + resource.list) > 0)',
    'resource.list.all(x, x in subject.list && x in subject.other)',
    'resource.list.all(x, subject.text.matches("a"))',
    `${'!subject.text.matches("a") && '.repeat(12)}true`,
  ])('refuses what goes through large things again and again: %s', (text) => {
    expect(refusal(text)).toContain('steps');
  });

  it('takes the size of all attributes together', () => {
    const texts = (count: number): Partial<DecisionAttributes> => ({
      subject: { texts: Array.from({ length: count }, () => 'x'.repeat(8192)) },
    });
    expect(say('size(subject.texts) > 0', texts(8))).toBe(true);
    expect(say('size(subject.texts) > 0', texts(9))).toBeUndefined();
    const lists = (count: number): Partial<DecisionAttributes> => ({
      subject: { lists: Array.from({ length: count }, () => []) },
    });
    // The four attributes themselves and the list are containers too.
    expect(say('size(subject.lists) > 0', lists(251))).toBe(true);
    expect(say('size(subject.lists) > 0', lists(252))).toBeUndefined();
    const values = (count: number): Partial<DecisionAttributes> => ({
      subject: Object.fromEntries(
        Array.from({ length: count }, (_, index) => [`l${index}`, Array(256).fill(1)]),
      ),
    });
    expect(say('size(subject.l0) > 0', values(15))).toBe(true);
    expect(say('size(subject.l0) > 0', values(16))).toBeUndefined();
  });

  it('lets nothing in that takes more than a moment: a list inside a list, of 256 long texts each', () => {
    const list = Array.from({ length: 256 }, (_, index) => `${'x'.repeat(100)}${index}`);
    const compiled = compileCel('subject.a.all(x, x in subject.b)');
    if (!compiled.ok) throw new Error(compiled.message);
    const from = performance.now();
    for (let run = 0; run < 10; run++) {
      expect(compiled.condition.evaluate({ ...none, subject: { a: list, b: list } })).toBe(true);
    }
    expect((performance.now() - from) / 10).toBeLessThan(1000);
  });
});

describe('matches', () => {
  it('searches, as CEL says, with RE2', () => {
    const subject = { email: 'ann@example.org' };
    expect(say('subject.email.matches("@example[.]org$")', { subject })).toBe(true);
    expect(say('subject.email.matches("^example")', { subject })).toBe(false);
    expect(say('subject.email.matches("^ann")')).toBeUndefined();
  });

  it('takes no pattern that is worked out, that RE2 does not know, or that is too long', () => {
    expect(refusal('subject.a.matches(subject.b)')).toContain('write the pattern as a text');
    expect(refusal('subject.a.matches("a" + "b")')).toContain('write the pattern as a text');
    for (const pattern of ['(?=a)', '(a)\\\\1', '(', '[z-a]', '*']) {
      expect(refusal(`subject.a.matches("${pattern}")`)).toContain('no RE2 pattern');
    }
    expect(refusal(`subject.a.matches("${'a'.repeat(257)}")`)).toContain('write 256 characters at most');
    expect(refusal('subject.a.matches("a{1000}")')).toContain('too long');
  });

  it.each(['(a+)+$', '(a|a)*$', '(a|aa)+$', '^(([a-z])+.)+[A-Z]([a-z])+$', '(.*a){20}$'])(
    'takes time in proportion to the text: %s',
    (pattern) => {
      const compiled = compileCel(`subject.a.matches("${pattern}")`);
      if (!compiled.ok) throw new Error(compiled.message);
      const from = performance.now();
      compiled.condition.evaluate({ ...none, subject: { a: `${'a'.repeat(8000)}!` } });
      // A backtracking engine needs more than the age of the world.
      expect(performance.now() - from).toBeLessThan(5000);
    },
    20_000,
  );
});

describe('a rule with a CEL condition', () => {
  const policy = (effect: 'Allow' | 'Deny', cel: string): PolicyInput => ({
    kind: 'AccessPolicy',
    metadata: { name: 'p', namespace: 'a' },
    spec: {
      target: {},
      rules: [
        ...(effect === 'Deny' ? [{ name: 'all', from: [{ anyone: true }] }] : []),
        { name: 'r', effect, from: [{ anyone: true }], when: { cel } },
      ],
    },
  });
  const request = (properties: Record<string, unknown>): AccessRequest => ({
    source: undefined,
    target: { namespace: 'a', name: 't', serviceAccount: 't', labels: {}, namespaceLabels: {} },
    application: { action: { name: 'read' }, resource: { type: 'd', id: '1', properties } },
    time: 0,
  });
  const allowed = (effect: 'Allow' | 'Deny', cel: string, properties: Record<string, unknown>): boolean =>
    evaluate(compilePolicySet([policy(effect, cel)], { trustDomain: 'td' }), request(properties)).allowed;

  it('never opens for what cannot be said: Allow does not match, Deny does', () => {
    const cel = 'resource.level < 3';
    expect(allowed('Allow', cel, { level: 2 })).toBe(true);
    expect(allowed('Allow', cel, { level: 3 })).toBe(false);
    expect(allowed('Deny', cel, { level: 2 })).toBe(false);
    expect(allowed('Deny', cel, { level: 3 })).toBe(true);
    for (const properties of [
      {},
      { level: null },
      { level: 'x' },
      { level: [] },
      { level: 3, big: 'x'.repeat(9000) },
    ]) {
      expect(allowed('Allow', cel, properties)).toBe(false);
      expect(allowed('Deny', cel, properties)).toBe(false);
    }
  });
});

describe('any text', () => {
  const word = fc.constantFrom(
    ...[
      'subject',
      'resource.a',
      'action.name',
      'environment.time',
      'x',
      '1',
      '2.5',
      '"a"',
      'true',
      'null',
      '[',
      ']',
    ],
    ...['(', ')', '{', '}', ',', '.', '==', '<', '&&', '||', '!', '?', ':', 'in', '+', '-', '*', '/', '%'],
    ...['exists(x,', 'has(', 'size(', 'matches("a")', 'timestamp(', '.all(x, ', 'b"x"', "r'\\'", '//', '\\'],
  );
  const texts = fc.oneof(
    fc.string({ maxLength: 60 }),
    fc.array(word, { maxLength: 14 }).map((words) => words.join(' ')),
    fc.array(word, { maxLength: 14 }).map((words) => words.join('')),
  );

  const fields = fc.dictionary(
    fc.oneof(fc.string({ maxLength: 4 }), fc.constantFrom('a', 'b', 'list', 'name')),
    fc.oneof(fc.jsonValue(), fc.constantFrom<unknown>('a', 1, true, ['a'], null)),
  );
  const operand = fc.constantFrom(
    'subject.a',
    'resource.b',
    'action.name',
    '1',
    '2.5',
    '"a"',
    'true',
    '["a"]',
  );
  const operator = fc.constantFrom('==', '!=', '<', '>=', '&&', '||', 'in', '+');
  // Such that many are right: a comparison, or two, now and then inside a list.
  const comparison = fc.tuple(operand, operator, operand).map((parts) => parts.join(' '));
  const likely = fc.oneof(
    comparison,
    fc.tuple(comparison, comparison).map(([left, right]) => `(${left}) && !(${right})`),
    comparison.map((text) => `subject.list.exists(x, x == "a" || ${text})`),
    comparison.map((text) => `has(subject.a) ? ${text} : false`),
  );

  it('compiles or is refused, and what compiles answers true, false or nothing for any attributes', () => {
    let accepted = 0;
    fc.assert(
      fc.property(fc.oneof(texts, likely), fields, (text, given) => {
        const compiled = compileCel(text);
        if (!compiled.ok) {
          expect(compiled.message).not.toBe('');
          expect(compiled.fix).not.toBe('');
          return;
        }
        accepted++;
        const attributes = { subject: given, resource: given, action: given, environment: given };
        expect([true, false, undefined]).toContain(compiled.condition.evaluate(attributes));
      }),
      { numRuns: 3000 },
    );
    expect(accepted).toBeGreaterThan(500);
  });
});
