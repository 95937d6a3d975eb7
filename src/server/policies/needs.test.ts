import { describe, expect, it } from '@jest/globals';
import type { StoredObject } from '../../store/store.js';
import { needsOf } from './needs.js';

/** What a policy of namespace `shop` with one rule asks for. */
function needs(rule: object, namespace: string | undefined = 'shop'): readonly string[] {
  const policy = {
    ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'AccessPolicy' },
    metadata: { name: 'p', namespace, uid: 'p', generation: 1 },
    spec: { target: {}, rules: [{ name: 'r', ...rule }] },
  };
  return needsOf(policy, 'example.org');
}

const LABELS = { sourceLabels: { matchLabels: { app: 'web' } } };

describe('what a policy asks for beside itself', () => {
  it('is nothing where its principals are IDs, namespaces and service accounts', () => {
    const from = [
      { spiffeIDs: ['spiffe://example.org/x'] },
      { namespaces: ['a'] },
      { serviceAccounts: [{ name: 'x' }] },
      { anyone: true, except: [{ trustDomains: ['evil.example'] }] },
    ];
    expect(needs({ from, when: { targetLabels: {}, cel: 'subject.email == resource.owner' } })).toEqual([]);
  });

  it('is whom identities and namespace selectors mean, also those that it excepts', () => {
    const from = [
      {
        identities: [{ name: 'web' }, { kind: 'ClusterWorkloadIdentity', name: 'all' }],
        except: [
          { identities: [{ namespace: 'bank', name: 'teller' }] },
          { namespaceSelector: { matchLabels: { a: 'b' } } },
        ],
      },
    ];
    expect(needs({ from })).toEqual([
      'identity/WorkloadIdentity/shop/web',
      'identity/ClusterWorkloadIdentity/all',
      'identity/WorkloadIdentity/bank/teller',
      'selected/{"matchLabels":{"a":"b"}}',
    ]);
  });

  it.each([
    [{ spiffeIDs: ['spiffe://example.org/x', 'no ID'] }, ['source/spiffe://example.org/x']],
    [{ namespaces: ['a', 'b'] }, ['sources-of/a', 'sources-of/b']],
    [{ serviceAccounts: [{ name: 'x' }] }, ['source/spiffe://example.org/ns/shop/sa/x']],
    [{ identities: [{ name: 'web' }] }, ['identity/WorkloadIdentity/shop/web', 'sources-of/shop']],
    [{ identities: [{ namespace: 'b', name: 'w' }] }, ['identity/WorkloadIdentity/b/w', 'sources-of/b']],
    [
      { identities: [{ kind: 'ClusterWorkloadIdentity', name: 'all' }] },
      ['identity/ClusterWorkloadIdentity/all', 'sources'],
    ],
    [{ namespaceSelector: {} }, ['selected/{}', 'sources']],
    [{ anyAuthenticated: true }, ['sources']],
    [{ trustDomains: ['example.org'] }, ['sources']],
    [{ ipBlocks: ['10.0.0.0/8'] }, ['sources']],
  ])('is what the callers are whom %j may name, where a condition asks', (entry, expected) => {
    expect(needs({ from: [entry], when: LABELS })).toEqual(expected);
  });

  it.each([
    { sourceLabels: {} },
    { sourcePosture: { noPrivileged: true } },
    { attributes: [{ attribute: 'subject.labels.app', operator: 'Exists' }] },
    { attributes: [{ attribute: 'resource.owner', operator: 'Equals', other: 'subject.labels.app' }] },
    { cel: 'subject.labels.app == "x"' },
    { cel: 'has(subject.labels)' },
    { cel: 'subject["la" + "bels"].app == "x"' },
    { cel: 'subject.all(name, name != "x")' },
    { cel: 'subject == {"id": "x"}' },
    { cel: 'subject . labels.app == "x"' },
    { cel: 'subject.id == "x" && subject' },
    { cel: 7 },
  ])('asks what callers are by %j', (when) => {
    expect(needs({ from: [{ namespaces: ['a'] }], when })).toEqual(['sources-of/a']);
  });

  it.each([
    { attributes: [{ attribute: 'subject.labelsOfMine', operator: 'Exists' }] },
    { cel: 'subject.email.endsWith("@x") && subject.labels2 == 1' },
    { token: { issuers: ['https://x'] } },
    {},
  ])('does not ask what callers are by %j', (when) => {
    expect(needs({ from: [{ namespaces: ['a'] }], when })).toEqual([]);
  });

  it('can be told of what is no policy', () => {
    for (const spec of [
      undefined,
      null,
      1,
      {},
      { rules: 1 },
      { rules: [1, null, { from: 2 }, { from: [3] }] },
    ]) {
      const metadata = { name: 'p', uid: 'p', generation: 1 };
      expect(
        needsOf({ apiVersion: '', kind: 'AccessPolicy', metadata, spec } as StoredObject, 'example.org'),
      ).toEqual([]);
    }
  });
});
