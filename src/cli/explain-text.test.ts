import { describe, expect, it } from '@jest/globals';
import { explain } from '../access/policy/explain.js';
import type { PolicyInput, RuleInput } from '../access/policy/input.js';
import type { AccessRequest } from '../access/policy/model.js';
import { compilePolicySet } from '../access/policy/policy-set.js';
import { explanationText } from './explain-text.js';

const policy = (name: string, rules: readonly RuleInput[], spec: object = {}): PolicyInput => ({
  kind: 'AccessPolicy',
  metadata: { namespace: 'shop', name },
  spec: { target: {}, rules, ...spec },
});
const cluster = (name: string, tier: string, rules: readonly RuleInput[]): PolicyInput => ({
  kind: 'ClusterAccessPolicy',
  metadata: { name },
  spec: { tier, target: {}, rules },
});

const anyone = [{ anyone: true }];
const front = 'spiffe://td/ns/shop/sa/front';
const request: AccessRequest = {
  source: front,
  target: { namespace: 'shop', name: 'web', serviceAccount: 'web', labels: {}, namespaceLabels: {} },
  port: 8080,
  http: { method: 'POST', path: '/admin/x?y=1' },
  time: Date.UTC(2026, 0, 7, 10, 30),
};

function text(inputs: readonly PolicyInput[], more: Partial<AccessRequest> = {}): string {
  const asked = { ...request, ...more };
  return explanationText(explain(compilePolicySet(inputs, { trustDomain: 'td' }), asked), asked);
}

describe('an explanation in words', () => {
  it('begins with the verdict, and goes step by step to what decides', () => {
    const inputs = [
      cluster('no-legacy', 'Admin', [
        { name: 'legacy', effect: 'Deny', from: [{ trustDomains: ['legacy.example'] }] },
      ]),
      cluster('base', 'Baseline', [{ name: 'same', from: anyone }]),
      policy(
        'jit',
        [
          {
            name: 'oncall',
            from: anyone,
            to: [{ http: { methods: ['GET'], paths: [{ prefix: '/admin' }] } }],
          },
        ],
        { validity: { from: '2026-01-01T00:00:00Z', until: '2026-01-02T00:00:00Z' } },
      ),
      policy('shadow', [{ name: 'all', from: anyone }], { mode: 'Audit' }),
    ];
    expect(text(inputs))
      .toBe(`DENIED: no rule allows POST /admin/x on shop/web to ${front}; nearest is rule "oncall" of policy shop/jit, but the policy is over, and method POST is not GET

  from  ${front}
  to    shop/web:8080
  asks  POST /admin/x?y=1
  at    2026-01-07T10:30:00.000Z

  Admin deny        1 rule, which does not match
    - "legacy" of no-legacy would deny it but for
        source: asks for trust domain legacy.example; found ${front}
  deny              no rule
  allow             1 rule, which does not match
    - "oncall" of shop/jit would allow it but for
        time: asks for a time from 2026-01-01T00:00:00.000Z until 2026-01-02T00:00:00.000Z; found 2026-01-07T10:30:00.000Z
        method: asks for GET; found POST
> closed            shop/jit says who may, so nobody else may: DENY
  Baseline deny     not reached
  Baseline allow    not reached; it would allow
  closed (cluster)  not reached; it would deny
  default           not reached; it would deny

time: policy shop/jit is over since 2026-01-02T00:00:00.000Z
audit: rule "all" of policy shop/shadow would have allowed it (another answer)`);
  });

  it('says which rule allows, and which others would', () => {
    const lines = text([
      policy('p', [
        { name: 'a', from: anyone },
        { name: 'b', from: anyone },
      ]),
    ]).split('\n');
    expect(lines[0]).toBe('ALLOWED: allowed by rule "a" of policy shop/p');
    expect(lines).toContain('> allow             rule "a" of shop/p matches: ALLOW');
    expect(lines).toContain('    + "b" of shop/p matches too');
  });

  it('says what a Deny rule did not see, what is broken, and what an audited policy does not say', () => {
    const unseen = text(
      [
        policy('p', [
          { name: 'd', effect: 'Deny', from: anyone, when: { token: { issuers: ['https://i'] } } },
        ]),
        policy('quiet', [{ name: 'q', effect: 'Deny', from: [{ spiffeIDs: ['spiffe://td/x'] }] }], {
          mode: 'Audit',
        }),
      ],
      {},
    );
    expect(unseen).toContain('> deny              rule "d" of shop/p matches: DENY\n');
    expect(unseen).toContain(
      '        token: asks for iss https://i; tokens are not seen, which counts as met',
    );
    expect(unseen).toContain('audit: policy shop/quiet would say nothing of it');
    const broken = text([policy('p', [{ name: '', from: anyone }])]);
    expect(broken).toContain('> deny              shop/p cannot be compiled, so it opens nothing: DENY');
    expect(broken).toContain('broken: policy shop/p: spec.rules[0].name must name the rule');
  });

  it('shows the nearest three of many rules, and says how many more there are', () => {
    const rules = Array.from({ length: 20 }, (_, index): RuleInput => ({
      name: `r${index}`,
      from: [{ spiffeIDs: [`spiffe://td/${index}`] }],
    }));
    const lines = text([policy('p', rules)]).split('\n');
    expect(lines.filter((line) => line.startsWith('    - '))).toHaveLength(3);
    expect(lines).toContain('      … and 17 further away');
  });

  it('says of a refused request and of an application what there is to say', () => {
    const refused = text([], { http: { method: 'GET', path: '/a/../b' } });
    expect(refused).toMatch(/^DENIED: the request is refused: /);
    expect(refused).not.toContain('Admin deny');
    const { target, time } = request;
    const application = { action: { name: 'read' }, resource: { type: 'document', id: '7' } };
    const set = compilePolicySet([], { trustDomain: 'td', defaultAction: 'Allow' });
    const asked: AccessRequest = { source: undefined, target, time, application };
    const words = explanationText(explain(set, asked), asked);
    expect(words).toContain('  from  a caller without identity\n');
    expect(words).toContain('  asks  read on document 7\n');
    expect(words).toContain('> default           no policy says anything of it: ALLOW');
    expect(words).toContain('  closed            by no policy\n');
  });
});
