import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { dnsNameProblem, isDnsNameOfNamespace } from './dns-name.js';

describe('a DNS name in an SVID', () => {
  it.each(['payments', 'payments.shop.svc', 'a-b.example.org', 'x1.y2.z3', `${'a'.repeat(63)}.org`])(
    'may be %s',
    (name) => {
      expect(dnsNameProblem(name)).toBeUndefined();
    },
  );

  it.each([
    ['', 'is empty'],
    ['spiffe://example.org/ns/a', 'is a URI'],
    ['*.example.org', 'wildcard'],
    ['a..b', 'empty label'],
    ['.a', 'empty label'],
    ['a.', 'empty label'],
    ['Payments', 'no DNS name'],
    ['pay_ments', 'no DNS name'],
    ['-a.org', 'no DNS name'],
    ['a-.org', 'no DNS name'],
    ['a b', 'no DNS name'],
    ['a/b', 'no DNS name'],
    ['a%2eb', 'no DNS name'],
    ['bücher.example', 'no DNS name'],
    ['a\0.example', 'no DNS name'],
    ['10.0.0.1', 'reads as an IP address'],
    [`${'a'.repeat(64)}.org`, '63 are allowed'],
    [`${'a.'.repeat(127)}org`, 'at most 253'],
  ])('is never %j', (name, why) => {
    expect(dnsNameProblem(name)).toContain(why);
  });

  it('holds, when accepted, only what can be neither a URI nor a path nor an address', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.domain(), fc.webUrl(), fc.ipV4()), (name) => {
        if (dnsNameProblem(name) === undefined) expect(name).toMatch(/^[a-z0-9.-]*[a-z][a-z0-9.-]*$/);
      }),
    );
  });
});

describe('a DNS name of a namespace', () => {
  const label = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/);

  it('is of one namespace alone, however namespaces and services are called', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(label, fc.constantFrom('svc', 'cluster', 'local')), { minLength: 1, maxLength: 6 }),
        fc.constantFrom('svc', 'svc.cluster.local', 'example.com'),
        fc.oneof(label, fc.constantFrom('svc', 'cluster', 'local')),
        (labels, suffix, other) => {
          const own = labels.at(-1) ?? '';
          const name = `db.${labels.join('.')}.${suffix}`;
          expect(isDnsNameOfNamespace(name, own)).toBe(suffix !== 'example.com');
          if (other !== own) expect(isDnsNameOfNamespace(name, other)).toBe(false);
        },
      ),
    );
  });

  it('has a label before the namespace', () => {
    expect(isDnsNameOfNamespace('shop.svc', 'shop')).toBe(false);
    expect(isDnsNameOfNamespace('workshop.svc', 'shop')).toBe(false);
    expect(isDnsNameOfNamespace('db.shop.svc', 'shop')).toBe(true);
  });
});
