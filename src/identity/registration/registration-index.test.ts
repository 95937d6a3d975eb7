import { beforeEach, describe, expect, it } from '@jest/globals';

import { aClusterWorkloadIdentity, aPod, aWorkloadIdentity } from '../../../test/support/identities.js';
import { MOST_IDENTITIES } from './grants.js';
import type { IdentityResource } from './identity-rules.js';
import type { IdentityOutcome } from './outcome.js';
import { createRegistrationIndex, type RegistrationIndex } from './registration-index.js';
import type { PodFacts, Registration } from './registration.js';

let index: RegistrationIndex;

beforeEach(() => {
  index = createRegistrationIndex({
    trustDomain: 'example.org',
    defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
    maxX509TtlSeconds: 86_400,
  });
});

const only = (pod: PodFacts = aPod()): Registration => {
  const [registration, ...more] = index.forPod(pod.uid);
  if (registration === undefined || more.length > 0) throw new Error(`${1 + more.length} registrations`);
  return registration;
};

function outcomeOf({ kind, metadata }: IdentityResource): IdentityOutcome {
  const outcome = index.outcome({ kind, namespace: metadata.namespace ?? '', name: metadata.name });
  if (outcome === undefined) throw new Error('no outcome');
  return outcome;
}

/** The reason why an identity gives the usual pod nothing. */
function refusal(identity: IdentityResource, pod: PodFacts = aPod()): string | undefined {
  index.applyPod(pod);
  index.applyIdentity(identity);
  expect(index.forPod(pod.uid).filter(({ identity: { name } }) => name === identity.metadata.name)).toEqual(
    [],
  );
  const { problem, failures } = outcomeOf(identity);
  const failure = problem ?? failures[0];
  return failure === undefined ? undefined : `${failure.reason}: ${failure.message}`;
}

describe('a registration', () => {
  it('is what the identity says of the pod', () => {
    index.applyPod(aPod());
    const { changed } = index.applyIdentity(
      aWorkloadIdentity('main', {
        spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/ns/{{ .Namespace }}/app/{{ .Labels.app }}',
        dnsNameTemplates: ['{{ .ServiceAccount }}.{{ .Namespace }}.svc', 'payments.shop.svc'],
        x509TTL: '30m',
        hint: 'internal',
        federatesWith: ['partner.example'],
        audiences: ['ledger'],
      }),
    );
    expect(changed).toEqual([
      {
        id: 'uid-shop-payments-1/shop/main',
        subject: { kind: 'pod', namespace: 'shop', name: 'payments-1', uid: 'uid-shop-payments-1' },
        nodeName: 'node-1',
        spiffeId: {
          trustDomain: 'example.org',
          path: '/ns/shop/app/payments',
          uri: 'spiffe://example.org/ns/shop/app/payments',
        },
        x509TtlSeconds: 1800,
        jwtTtlSeconds: 300,
        dnsNames: ['payments.shop.svc'],
        hint: 'internal',
        federatesWith: ['partner.example'],
        audiences: ['ledger'],
        identity: { kind: 'WorkloadIdentity', namespace: 'shop', name: 'main' },
        revision: expect.stringMatching(/^[\w-]{16}$/),
      },
    ]);
    expect(index.get('uid-shop-payments-1/shop/main')).toBe(changed[0]);
    expect(index.forNode('node-1')).toEqual(changed);
    expect(index.forNode('node-2')).toEqual([]);
    expect([...index.all()]).toEqual(changed);
  });

  it('has the namespace and service account as its ID unless said', () => {
    index.applyIdentity(aWorkloadIdentity('main'));
    index.applyPod(aPod());
    expect(only().spiffeId.uri).toBe('spiffe://example.org/ns/shop/sa/payments');
  });

  it('keeps its revision, and is the same object, while nothing of it changes', () => {
    index.applyIdentity(aWorkloadIdentity('main'));
    index.applyPod(aPod());
    const before = only();
    expect(index.applyPod(aPod({ labels: { app: 'payments', build: '7' } })).changed).toEqual([]);
    expect(index.applyIdentity(aWorkloadIdentity('main')).changed).toEqual([]);
    expect(only()).toBe(before);
  });

  it.each([
    { hint: 'x' },
    { x509TTL: '5m' },
    { jwtTTL: '1m' },
    { audiences: ['a'] },
    { federatesWith: ['b.example'] },
    { dnsNameTemplates: ['c.shop.svc'] },
    { spiffeIDTemplate: '/ns/shop/d' },
  ])('changes its revision with %j', (spec) => {
    index.applyIdentity(aWorkloadIdentity('main'));
    index.applyPod(aPod());
    const before = only();
    const { changed, removed } = index.applyIdentity(aWorkloadIdentity('main', spec));
    expect(changed).toEqual([only()]);
    expect(removed).toEqual([]);
    expect(only().id).toBe(before.id);
    expect(only().revision).not.toBe(before.revision);
  });

  it('has the same revision in another process', () => {
    index.applyIdentity(aWorkloadIdentity('main'));
    index.applyPod(aPod());
    // A change of this value makes every agent sign everything anew: let it be on purpose.
    expect(only().revision).toBe('OaCOORW73fjsYVEP');
  });

  it('goes with the pod and with the identity', () => {
    index.applyIdentity(aWorkloadIdentity('main'));
    index.applyPod(aPod());
    const was = only();
    expect(index.removePod(was.id.split('/')[0] ?? '').removed).toEqual([was]);
    expect(index.get(was.id)).toBeUndefined();
    index.applyPod(aPod());
    expect(
      index.removeIdentity({ kind: 'WorkloadIdentity', namespace: 'shop', name: 'main' }).removed,
    ).toEqual([was]);
    expect([...index.all()]).toEqual([]);
  });

  it('leaves the old node when the pod is said to be on another', () => {
    index.applyIdentity(aWorkloadIdentity('main'));
    index.applyPod(aPod());
    const was = only();
    const delta = index.applyPod(aPod({ nodeName: 'node-2' }));
    expect(delta.removed).toEqual([was]);
    expect(delta.changed).toEqual([only()]);
    expect(index.forNode('node-1')).toEqual([]);
    expect(index.forNode('node-2')).toEqual([only()]);
  });

  it('waits for a node, which is no failure', () => {
    const identity = aWorkloadIdentity('main');
    expect(refusal(identity, aPod({ nodeName: '' }))).toBeUndefined();
    expect(outcomeOf(identity)).toMatchObject({ podsSelected: 1, pending: 1, failuresTotal: 0 });
    index.applyPod(aPod());
    expect(outcomeOf(identity)).toMatchObject({ podsSelected: 1, pending: 0, registrations: 1 });
  });
});

describe('selection', () => {
  const selects = (identity: IdentityResource, pod = aPod()): boolean => {
    index.applyPod(pod);
    index.applyIdentity(identity);
    return index.forPod(pod.uid).length > 0;
  };

  it('of a WorkloadIdentity never leaves its namespace', () => {
    expect(selects(aWorkloadIdentity('main', {}, 'other'))).toBe(false);
  });

  it.each([
    [{ podSelector: { matchLabels: { app: 'payments' } } }, true],
    [{ podSelector: { matchLabels: { app: 'orders' } } }, false],
    [{ podSelector: {} }, true],
    [
      {
        podSelector: { matchExpressions: [{ key: 'app', operator: 'NotIn' as const, values: ['payments'] }] },
      },
      false,
    ],
    [{ serviceAccountNames: ['payments', 'x'] }, true],
    [{ serviceAccountNames: ['x'] }, false],
    [{ serviceAccountNames: [] }, false],
    [{ serviceAccountNames: ['payments'], podSelector: { matchLabels: { app: 'orders' } } }, false],
  ])('by %j: %s', (spec, wanted) => {
    expect(selects(aWorkloadIdentity('main', spec))).toBe(wanted);
    expect(selects(aClusterWorkloadIdentity('main', spec), aPod({ name: 'again' }))).toBe(wanted);
  });

  it('follows the namespace and its labels', () => {
    index.applyNamespace('shop', { tier: 'gold' });
    const identity = aClusterWorkloadIdentity('gold', {
      namespaceSelector: { matchLabels: { tier: 'gold' } },
    });
    expect(selects(identity)).toBe(true);
    expect(index.applyNamespace('shop', { tier: 'iron' }).removed).toHaveLength(1);
    expect(index.applyNamespace('shop', { tier: 'gold' }).changed).toHaveLength(1);
    expect(index.removeNamespace('shop').removed).toHaveLength(1);
  });

  it('takes of a namespace that is not known only its name to be true', () => {
    const label = 'kubernetes.io/metadata.name';
    expect(
      selects(aClusterWorkloadIdentity('name', { namespaceSelector: { matchLabels: { [label]: 'shop' } } })),
    ).toBe(true);
    const absent = aClusterWorkloadIdentity('absent', {
      namespaceSelector: { matchExpressions: [{ key: 'restricted', operator: 'DoesNotExist' }] },
      spiffeIDTemplate: '/absent',
    });
    index.applyIdentity(absent);
    expect(outcomeOf(absent).podsSelected).toBe(0);
    index.applyNamespace('shop', {});
    expect(outcomeOf(absent).podsSelected).toBe(1);
  });

  it('by a fallback is only of pods that no other identity selects', () => {
    const fallback = aClusterWorkloadIdentity('rest', { fallback: true });
    expect(selects(fallback)).toBe(true);
    const delta = index.applyIdentity(aWorkloadIdentity('main', { spiffeIDTemplate: '/ns/shop/main' }));
    expect(delta.removed.map(({ id }) => id)).toEqual(['uid-shop-payments-1/rest']);
    expect(only().identity.name).toBe('main');
    // Also when the other fails: a pod that was meant to have another identity must not slip into this one.
    index.applyIdentity(aWorkloadIdentity('main', { spiffeIDTemplate: '/ns/other/x' }));
    expect(index.forPod('uid-shop-payments-1')).toEqual([]);
    index.removeIdentity({ kind: 'WorkloadIdentity', namespace: 'shop', name: 'main' });
    expect(only().identity.name).toBe('rest');
  });

  it('orders a pod’s identities: its namespace’s first, then by name', () => {
    index.applyPod(aPod());
    index.applyIdentity(aClusterWorkloadIdentity('a', { spiffeIDTemplate: '/a' }));
    index.applyIdentity(aWorkloadIdentity('c', { spiffeIDTemplate: '/ns/shop/c' }));
    index.applyIdentity(aWorkloadIdentity('b', { spiffeIDTemplate: '/ns/shop/b' }));
    expect(index.forPod(aPod().uid).map(({ spiffeId }) => spiffeId.path)).toEqual([
      '/ns/shop/b',
      '/ns/shop/c',
      '/a',
    ]);
  });
});

describe('an identity is refused, with the reason and the fix', () => {
  const template = (spiffeIDTemplate: string): IdentityResource =>
    aWorkloadIdentity('main', { spiffeIDTemplate });

  it.each([
    ['/ns/other/sa/x', 'NamespaceEscape: '],
    ['/ns/shop-2/sa/x', 'NamespaceEscape: '],
    ['/ns/shop', 'NamespaceEscape: '],
    ['/admin', 'NamespaceEscape: '],
    ['/ns/{{ .Labels.app }}/x', 'NamespaceEscape: '],
    ['/ns/shop/../other/x', 'SpiffeIdInvalid: '],
    ['/ns/shop/%2e%2e/x', 'SpiffeIdInvalid: '],
    ['/ns/shop//x', 'SpiffeIdInvalid: '],
    ['/ns/shop/x/', 'SpiffeIdInvalid: '],
    ['/ns/shop/x?y', 'SpiffeIdInvalid: '],
    ['spiffe://Example.org/ns/shop/x', 'TrustDomainInvalid: '],
    ['spiffe://other.org/ns/shop/x', 'TrustDomainMismatch: '],
    ['https://example.org/ns/shop/x', 'SpiffeIdInvalid: '],
    ['{{ .Labels.app }}', 'SpiffeIdInvalid: '],
    [`/ns/shop/${'x'.repeat(2030)}`, 'SpiffeIdTooLong: '],
    ['/ns/shop/{{ .Nope }}', 'TemplateInvalid: '],
    ['/ns/shop/{{ .Labels.nope }}', 'TemplateValueMissing: '],
    ['/ns/shop/{{ .Annotations.x }}', 'TemplateValueMissing: '],
  ])('when its template is %s', (text, reason) => {
    expect(refusal(template(text))).toContain(reason);
    expect(refusal(template(text))).toContain('spec.spiffeIDTemplate');
  });

  it.each(['a/b', '..', '%41', ''])('when a label would break out of its segment: %j', (value) => {
    const pod = aPod({ labels: { app: value } });
    expect(refusal(template('/ns/shop/app/{{ .Labels.app }}'), pod)).toContain('TemplateValueUnsafe: ');
  });

  it('when values join to a dot segment or run over 2,048 bytes', () => {
    const pod = aPod({ labels: { a: '.x', b: '.', long: 'x'.repeat(2040) } });
    expect(refusal(template('/ns/shop/.{{ .Labels.b }}/x'), pod)).toContain('TemplateValueUnsafe: ');
    expect(refusal(template('/ns/shop/{{ .Labels.long }}'), pod)).toContain('SpiffeIdTooLong: ');
  });

  it('with a message that holds no more than is worth keeping, whatever a pod writes', () => {
    const pod = aPod({ annotations: { x: 'y'.repeat(200_000) } });
    const long = refusal(template('/ns/shop/{{ .Annotations.x }}//'), pod);
    expect(long).toMatch(/^(SpiffeIdTooLong|SpiffeIdInvalid): /);
    index.applyIdentity(template('/ns/shop/{{ .Annotations.x }}'));
    expect(outcomeOf(template('')).failures[0]).toMatchObject({ reason: 'SpiffeIdTooLong' });
    const images = aWorkloadIdentity('images', { requirements: { imageDigests: true } });
    expect(refusal(images, aPod({ images: ['i'.repeat(100_000)] }))?.length).toBeLessThan(1_100);
  });

  it.each(['/', '/signet/server', '/signet', 'spiffe://{{ .TrustDomain }}'])(
    'when it takes a reserved ID: %s',
    (text) => {
      expect(refusal(aClusterWorkloadIdentity('main', { spiffeIDTemplate: text }))).toMatch(
        /^(ReservedId|SpiffeIdInvalid): /,
      );
    },
  );

  it.each([
    ['spiffe://example.org/ns/shop/sa/admin'],
    ['{{ .Labels.app }}..svc'],
    ['*.shop.svc'],
    ['Payments.shop.svc'],
    ['10.1.2.3'],
    ['-{{ .Labels.app }}'],
    ['pay_ments'],
  ])('when its DNS name is none: %s', (name) => {
    const reason = refusal(aWorkloadIdentity('main', { dnsNameTemplates: ['good.shop.svc', name] }));
    expect(reason).toContain('DNSNameInvalid: ');
    expect(reason).toContain('spec.dnsNameTemplates[1]');
  });

  it.each([
    ['db.bank.svc'],
    ['db'],
    ['shop.svc'],
    ['db.shop'],
    ['db.shop.svc.example.com'],
    ['db.workshop.svc'],
    ['db.shop.svc.bank.svc.cluster.local'],
    ['{{ .ServiceAccount }}.svc'],
    ['example.com'],
  ])('when its DNS name is of another namespace, or of none: %s', (name) => {
    const reason = refusal(aWorkloadIdentity('main', { dnsNameTemplates: ['good.shop.svc', name] }));
    expect(reason).toMatch(/^NamespaceEscape: spec\.dnsNameTemplates\[1\]: .*\.shop\.svc/);
  });

  it('not when a cluster admin gives any DNS name', () => {
    index.applyPod(aPod());
    index.applyIdentity(
      aClusterWorkloadIdentity('main', {
        spiffeIDTemplate: '/x',
        dnsNameTemplates: ['example.com', 'db.bank.svc'],
      }),
    );
    expect(only().dnsNames).toEqual(['example.com', 'db.bank.svc']);
  });

  it('when a label would put another name into the certificate', () => {
    const identity = aWorkloadIdentity('main', { dnsNameTemplates: ['{{ .Labels.app }}.shop.svc'] });
    for (const value of ['evil.example.com', 'spiffe://example.org/admin', 'UPPER'])
      expect(refusal(identity, aPod({ labels: { app: value } }))).toContain('TemplateValueUnsafe: ');
  });

  it('when its TTL is above the authority’s, naming the bound', () => {
    expect(refusal(aWorkloadIdentity('main', { x509TTL: '25h' }))).toMatch(
      /^TTLTooLong: .*x509TTL is 25h.*86400s/,
    );
    expect(refusal(aWorkloadIdentity('main', { jwtTTL: '25h' }))).toMatch(/^TTLTooLong: .*jwtTTL/);
    expect(refusal(aWorkloadIdentity('main', { x509TTL: '0s' }))).toMatch(/^(TTLTooShort|DurationInvalid): /);
    expect(refusal(aWorkloadIdentity('main', { x509TTL: 'soon' }))).toMatch(/^DurationInvalid: .*x509TTL/);
  });

  it('when its hint is over 1,024 bytes, whatever the characters', () => {
    expect(refusal(aWorkloadIdentity('main', { hint: 'é'.repeat(513) }))).toMatch(
      /^HintTooLong: .*1026 bytes/,
    );
  });

  it('when it federates with what is no trust domain, or with itself', () => {
    expect(refusal(aWorkloadIdentity('main', { federatesWith: ['Upper.org'] }))).toMatch(
      /^TrustDomainInvalid: .*federatesWith\[0\]/,
    );
    expect(refusal(aWorkloadIdentity('main', { federatesWith: ['example.org'] }))).toMatch(
      /^TrustDomainInvalid: .*own/,
    );
  });

  it('when it is over its bounds', () => {
    expect(refusal(aWorkloadIdentity('main', { audiences: Array.from({ length: 257 }, String) }))).toMatch(
      /^ListTooLong: /,
    );
    expect(
      refusal(aWorkloadIdentity('main', { dnsNameTemplates: Array.from({ length: 33 }, () => 'a') })),
    ).toMatch(/^ListTooLong: /);
    expect(refusal(aWorkloadIdentity('main', { audiences: [''] }))).toMatch(/^AudienceInvalid: /);
  });

  it('selects nothing by a selector that cannot be read', () => {
    const broken = { matchExpressions: [{ key: 'a', operator: 'Like' as 'In', values: ['b'] }] };
    for (const spec of [{ podSelector: broken }, { namespaceSelector: broken }]) {
      const identity = aClusterWorkloadIdentity('main', spec);
      expect(refusal(identity)).toMatch(/^SelectorInvalid: /);
      expect(outcomeOf(identity).podsSelected).toBe(0);
    }
  });

  it('when it has no namespace, and then it selects nothing', () => {
    const { metadata, ...rest } = aWorkloadIdentity('main');
    const identity = { ...rest, metadata: { name: 'main', uid: metadata.uid, generation: 1 } };
    expect(refusal(identity)).toMatch(/^NamespaceMissing: /);
    expect(outcomeOf(identity).podsSelected).toBe(0);
  });

  it('is told once, with the pods it would have had counted', () => {
    const identity = aWorkloadIdentity('main', { spiffeIDTemplate: '/ns/other/x' });
    refusal(identity);
    expect(outcomeOf(identity)).toMatchObject({
      podsSelected: 1,
      registrations: 0,
      failures: [],
      problem: { reason: 'NamespaceEscape' },
    });
  });
});

describe('requirements', () => {
  const digest = `ghcr.io/acme/pay@sha256:${'a'.repeat(64)}`;
  it.each([
    [{ noPrivileged: true }, { privileged: true }, 'PrivilegedContainer'],
    [{ imageDigests: true }, { images: [digest, 'ghcr.io/acme/pay:1'] }, 'ImageWithoutDigest'],
    [{ imageDigests: true }, { images: [] }, 'ImagesUnknown'],
    [{ allowedImages: ['ghcr.io/acme'] }, { images: ['ghcr.io/acme-evil/x'] }, 'ImageNotAllowed'],
    [{ allowedImages: ['ghcr.io'] }, { images: ['ghcr.io:5000/x'] }, 'ImageNotAllowed'],
    [{ allowedImages: ['ghcr.io/'] }, { images: ['ghcr.io:5000'] }, 'ImageNotAllowed'],
    [{ allowedImages: [''] }, { images: ['x'] }, 'ImageNotAllowed'],
    [{ allowedImages: [] }, { images: ['x'] }, 'ImageNotAllowed'],
  ])('%j refuses %j', (requirements, facts, reason) => {
    expect(refusal(aWorkloadIdentity('main', { requirements }), aPod(facts))).toMatch(
      new RegExp(`^${reason}: requirements`),
    );
  });

  it.each([
    [{ noPrivileged: true }, {}],
    [{ imageDigests: true, allowedImages: ['ghcr.io/acme'] }, { images: [digest] }],
    [
      { allowedImages: ['ghcr.io/acme/pay', 'busybox'] },
      { images: ['ghcr.io/acme/pay:1', 'busybox', digest] },
    ],
  ])('%j is met by %j', (requirements, facts) => {
    index.applyPod(aPod(facts));
    index.applyIdentity(aWorkloadIdentity('main', { requirements }));
    expect(index.forPod(aPod().uid)).toHaveLength(1);
  });
});

describe('collisions', () => {
  it('two identities with one hint: the first by kind and name stands, the other fails and names it', () => {
    index.applyPod(aPod());
    const later = aClusterWorkloadIdentity('a', { hint: 'main', spiffeIDTemplate: '/a' });
    index.applyIdentity(later);
    expect(only().identity.name).toBe('a');
    const delta = index.applyIdentity(aWorkloadIdentity('z', { hint: 'main' }));
    expect(delta.removed.map(({ identity }) => identity.name)).toEqual(['a']);
    expect(only().identity.name).toBe('z');
    expect(outcomeOf(later).failures).toEqual([
      {
        pod: 'shop/payments-1',
        reason: 'HintConflict',
        message: expect.stringContaining('WorkloadIdentity shop/z'),
      },
    ]);
    index.applyIdentity(aWorkloadIdentity('z', { hint: 'other' }));
    expect(index.forPod(aPod().uid)).toHaveLength(2);
  });

  it('no hint is no collision', () => {
    index.applyPod(aPod());
    index.applyIdentity(aWorkloadIdentity('a'));
    index.applyIdentity(aWorkloadIdentity('b', { spiffeIDTemplate: '/ns/shop/b' }));
    expect(index.forPod(aPod().uid)).toHaveLength(2);
  });

  it('one that fails takes no hint from the next', () => {
    index.applyPod(aPod());
    index.applyIdentity(aWorkloadIdentity('a', { hint: 'main', requirements: { imageDigests: true } }));
    index.applyIdentity(aWorkloadIdentity('b', { hint: 'main' }));
    expect(only().identity.name).toBe('b');
  });

  it('two identities with one SPIFFE ID: one stands', () => {
    index.applyPod(aPod());
    const later = aWorkloadIdentity('b', { x509TTL: '5m' });
    index.applyIdentity(later);
    index.applyIdentity(aWorkloadIdentity('a'));
    expect(only().identity.name).toBe('a');
    expect(outcomeOf(later).failures[0]).toMatchObject({ reason: 'DuplicateSPIFFEID' });
  });
});

describe('identities for processes', () => {
  const process = (name: string, spec: object): IdentityResource =>
    aClusterWorkloadIdentity(name, { spiffeIDTemplate: `/host/${name}`, ...spec });

  it('are on every node and select no pod', () => {
    index.applyPod(aPod());
    const identity = process('batch', { processSelector: { uid: 1000, path: '/usr/bin/batch' } });
    const { changed } = index.applyIdentity(identity);
    expect(changed).toMatchObject([
      {
        id: 'process//batch',
        subject: { kind: 'process', selector: { uid: 1000, path: '/usr/bin/batch' } },
        nodeName: '',
        spiffeId: { uri: 'spiffe://example.org/host/batch' },
      },
    ]);
    expect(index.forNode('any')).toEqual(changed);
    expect(index.get('process//batch')).toBe(changed[0]);
    expect(outcomeOf(identity)).toMatchObject({ podsSelected: 0, registrations: 1 });
    expect(
      index.removeIdentity({ kind: 'ClusterWorkloadIdentity', namespace: '', name: 'batch' }).removed,
    ).toEqual(changed);
    expect(index.forNode('any')).toEqual([]);
  });

  it.each([
    [{ processSelector: {} }, 'ProcessSelectorInvalid: '],
    [{ processSelector: { path: 'relative' } }, 'ProcessSelectorInvalid: '],
    [{ processSelector: { sha256: 'abc' } }, 'ProcessSelectorInvalid: '],
    [{ processSelector: { uid: -1 } }, 'ProcessSelectorInvalid: '],
    [{ processSelector: { uid: 1 }, podSelector: {} }, 'ProcessSelectorInvalid: '],
    [{ processSelector: { uid: 1 }, fallback: true }, 'ProcessSelectorInvalid: '],
    [{ processSelector: { uid: 1 }, spiffeIDTemplate: undefined }, 'TemplateRequired: '],
    [{ processSelector: { uid: 1 }, spiffeIDTemplate: '/host/{{ .Namespace }}' }, 'TemplateValueMissing: '],
  ])('are refused: %j', (spec, reason) => {
    expect(refusal(process('main', spec))).toContain(reason);
    expect(index.forNode('any')).toEqual([]);
  });

  it('collide when one process could have both hints', () => {
    const later = process('b', { processSelector: { path: '/bin/x' }, hint: 'main' });
    index.applyIdentity(later);
    index.applyIdentity(process('c', { processSelector: { path: '/bin/y' }, hint: 'main' }));
    expect(index.forNode('')).toHaveLength(2);
    const delta = index.applyIdentity(process('a', { processSelector: { uid: 7 }, hint: 'main' }));
    expect(delta.removed.map(({ id }) => id).sort()).toEqual(['process//b', 'process//c']);
    expect(outcomeOf(later).problem).toMatchObject({ reason: 'HintConflict' });
    expect(delta.outcomes.map(({ name }) => name).sort()).toEqual(['a', 'b', 'c']);
    index.removeIdentity({ kind: 'ClusterWorkloadIdentity', namespace: '', name: 'a' });
    expect(index.forNode('')).toHaveLength(2);
  });

  it('change their revision with the selector, so that no agent goes on with the old one', () => {
    const before = index.applyIdentity(process('x', { processSelector: { uid: 1 } })).changed[0];
    const { changed } = index.applyIdentity(process('x', { processSelector: { uid: 2 } }));
    expect(changed).toMatchObject([{ id: 'process//x', subject: { selector: { uid: 2 } } }]);
    expect(changed[0]?.revision).not.toBe(before?.revision);
  });

  it('become identities for pods and back', () => {
    index.applyPod(aPod());
    index.applyIdentity(process('x', { processSelector: { uid: 1 } }));
    const delta = index.applyIdentity(process('x', {}));
    expect(delta.removed.map(({ id }) => id)).toEqual(['process//x']);
    expect(delta.changed.map(({ id }) => id)).toEqual(['uid-shop-payments-1/x']);
    const back = index.applyIdentity(process('x', { processSelector: { uid: 1 } }));
    expect(back.removed.map(({ id }) => id)).toEqual(['uid-shop-payments-1/x']);
    expect(back.changed.map(({ id }) => id)).toEqual(['process//x']);
  });
});

describe('very many identities for one pod', () => {
  const name = (at: number): string => `i${String(at).padStart(4, '0')}`;

  it('are given up to a bound for each kind, and the others are told so, until there is room', () => {
    index.applyPod(aPod());
    const many = Array.from({ length: MOST_IDENTITIES + 2 }, (_, at) =>
      aWorkloadIdentity(name(at), { spiffeIDTemplate: `/ns/shop/${name(at)}` }),
    );
    for (const identity of many.toReversed()) index.applyIdentity(identity);
    // Whoever writes in the namespace leaves room for what the cluster's admin gives.
    index.applyIdentity(aClusterWorkloadIdentity('all', { spiffeIDTemplate: '/all' }));
    const names = (): readonly string[] => index.forPod(aPod().uid).map(({ identity }) => identity.name);
    expect(names()).toEqual([...Array.from({ length: MOST_IDENTITIES }, (_, at) => name(at)), 'all']);
    const [first] = many;
    const last = many.at(-1);
    if (first === undefined || last === undefined) throw new Error('none');
    expect(outcomeOf(last)).toMatchObject({
      ...{ registrations: 0, failuresTotal: 1, failures: [{ reason: 'TooManyIdentities' }] },
    });
    const { kind, metadata } = first;
    const { changed } = index.removeIdentity({ kind, namespace: 'shop', name: metadata.name });
    expect(changed.map(({ identity }) => identity.name)).toEqual([name(MOST_IDENTITIES)]);
  });

  it('cost their number, not its square, when the pod changes', () => {
    const identity = (at: number): IdentityResource =>
      aWorkloadIdentity(name(at), { spiffeIDTemplate: `/ns/shop/${name(at)}` });
    /** The least of some changes of a pod, in milliseconds. */
    const changing = (count: number): number => {
      const own = createRegistrationIndex({
        trustDomain: 'example.org',
        defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
      });
      for (let at = 0; at < count; at += 1) own.applyIdentity(identity(at));
      own.applyPod(aPod());
      const times = ['a', 'b', 'c', 'd', 'e'].map((version) => {
        const began = performance.now();
        own.applyPod({ ...aPod(), labels: { ...aPod().labels, version } });
        return performance.now() - began;
      });
      return Math.min(...times);
    };
    changing(500);
    // Sixteen times as many; their square would be 256 times.
    expect(changing(8000)).toBeLessThan(80 * changing(500));
  });
});

describe('outcomes', () => {
  it('list the first failures by name and count the rest', () => {
    const identity = aWorkloadIdentity('main', { requirements: { noPrivileged: true } });
    index.applyIdentity(identity);
    for (let at = 99; at >= 10; at--) index.applyPod(aPod({ name: `pod-${at}`, privileged: true }));
    const { failures, failuresTotal } = outcomeOf(identity);
    expect(failures).toHaveLength(50);
    expect(failures[0]?.pod).toBe('shop/pod-10');
    expect(failures.at(-1)?.pod).toBe('shop/pod-59');
    expect(failuresTotal).toBe(90);
  });

  it('are said to change only when they may have', () => {
    index.applyIdentity(aWorkloadIdentity('main'));
    expect(index.applyPod(aPod()).outcomes.map(({ name }) => name)).toEqual(['main']);
    expect(index.applyPod(aPod({ annotations: { a: 'b' } })).outcomes).toEqual([]);
    expect(index.applyPod(aPod({ namespace: 'other' })).outcomes.map(({ name }) => name)).toEqual([]);
  });
});
