import { describe, expect, it } from '@jest/globals';
import type { PolicyItem } from '../../rpc/node-api.js';
import { PolicyStore } from './policy-store.js';

const item = (key: string, content: object, revision = '1'): PolicyItem => ({
  ...{ key, revision },
  json: JSON.stringify(content),
});
const policy = (name: string, revision = '1'): PolicyItem =>
  item(`AccessPolicy/shop/${name}`, aPolicy(name), revision);
const aPolicy = (name: string): object => ({
  ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'AccessPolicy', metadata: { name, namespace: 'shop' } },
  spec: { target: {}, rules: [] },
});
const aPod = (nodeName: string): object => ({
  ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web', namespace: 'shop', uid: 'u' } },
  spec: { nodeName, serviceAccountName: 'web' },
  identities: [
    { kind: 'WorkloadIdentity', namespace: 'shop', name: 'web', uri: 'spiffe://example.org/ns/shop/sa/web' },
  ],
});
const whole = (...upserts: readonly PolicyItem[]) => ({ snapshot: true, upserts, removed: [] });
const change = (upserts: readonly PolicyItem[], removed: readonly string[] = []) => ({
  ...{ snapshot: false, upserts, removed },
});

describe('what a node holds to decide by', () => {
  it('is nothing until the whole has come, and never a change of what is not there', () => {
    const store = new PolicyStore('n1');
    expect(store.synced.value).toBe(false);
    expect(store.held()).toEqual([]);
    expect(() => store.take(change([policy('p')]))).toThrow('did not begin with the whole');
    expect(store.list('AccessPolicy')).toEqual([]);
    store.take(whole(policy('p')));
    expect(store.synced.value).toBe(true);
    expect(store.held()).toEqual([{ key: 'AccessPolicy/shop/p', revision: '1' }]);
  });

  it('follows changes and tells of them together, and of nothing that came again as it was', () => {
    const store = new PolicyStore('n1');
    const told: string[][] = [];
    store.subscribe((changes) =>
      told.push(changes.map(({ kind, key, before, after }) => `${kind} ${key} ${!before}${!after}`)),
    );
    store.take(whole(policy('p'), policy('q')));
    store.take(change([policy('p'), policy('q', '2')]));
    store.take(change([], ['AccessPolicy/shop/p', 'AccessPolicy/shop/never']));
    store.take(change([policy('q', '2')]));
    expect(told).toEqual([
      ['AccessPolicy shop/p truefalse', 'AccessPolicy shop/q truefalse'],
      ['AccessPolicy shop/q falsefalse'],
      ['AccessPolicy shop/p falsetrue'],
    ]);
    store.take(whole(policy('r')));
    expect(store.list('AccessPolicy').map(({ metadata }) => metadata.name)).toEqual(['r']);
    expect(store.stats()).toMatchObject({ items: 1, characters: policy('r').json.length });
  });

  it('knows who holds an ID by its own pods and by the identities that policies name', () => {
    const store = new PolicyStore('n1');
    const uris = ['spiffe://example.org/ns/bank/sa/x'];
    const identity = { kind: 'WorkloadIdentity', metadata: { name: 'x', namespace: 'bank' }, uris };
    store.take(whole(item('Pod/shop/web', aPod('n1')), item('WorkloadIdentity/bank/x', identity)));
    expect([...store.all()].map(({ subject, spiffeId }) => [subject.kind, spiffeId.uri])).toEqual([
      ['pod', 'spiffe://example.org/ns/shop/sa/web'],
      ['pod', 'spiffe://example.org/ns/bank/sa/x'],
    ]);
    expect(store.get('WorkloadIdentity', 'bank/x')).toBeDefined();
    // A list would be taken for all that there are, and its namespaces for namespaces without labels.
    expect(store.list('WorkloadIdentity')).toEqual([]);
  });

  it('keeps what was known of callers as it was for whoever has asked', () => {
    const store = new PolicyStore('n1');
    const uri = 'spiffe://example.org/x';
    store.take(whole(item(`Source/${uri}`, { labels: { app: 'a' } })));
    const before = store.sources();
    store.take(change([item(`Source/${uri}`, { labels: { app: 'b' } }, '2')]));
    expect(before(uri)).toEqual({ labels: { app: 'a' } });
    expect(store.sources()(uri)).toEqual({ labels: { app: 'b' } });
    store.take(change([], [`Source/${uri}`]));
    expect(store.sources()(uri)).toBeUndefined();
  });

  it.each([
    ['a pod of another node', item('Pod/shop/web', aPod('n2'))],
    ['another object than the key says', item('AccessPolicy/shop/other', aPolicy('p'))],
    ['another kind than the key says', item('AccessRole/p', aPolicy('p'))],
    ['a kind that is not sent', item('Secret/shop/p', {})],
    ['no JSON', { key: 'AccessPolicy/shop/p', revision: '1', json: '{' }],
    ['no object', { key: 'AccessPolicy/shop/p', revision: '1', json: '[]' }],
    ['a source that says nothing', item('Source/spiffe://example.org/x', { labels: { a: 1 } })],
    [
      'an ID that is none',
      item('WorkloadIdentity/a/b', {
        ...{ kind: 'WorkloadIdentity', metadata: { namespace: 'a', name: 'b' }, uris: ['x'] },
      }),
    ],
  ])('takes nothing of an update with %s', (_, bad) => {
    const store = new PolicyStore('n1');
    store.take(whole(policy('kept')));
    expect(() => store.take(change([policy('new'), bad], ['AccessPolicy/shop/kept']))).toThrow(
      expect.objectContaining({ code: 'PoliciesInvalid' }),
    );
    expect(store.held()).toEqual([{ key: 'AccessPolicy/shop/kept', revision: '1' }]);
    expect(store.get('AccessPolicy', 'shop/kept')).toBeDefined();
  });

  it('is bounded by number and size; what is too much leaves what is there', () => {
    const characters = policy('p').json.length;
    const store = new PolicyStore('n1', { items: 2, characters: characters * 2 });
    store.take(whole(policy('p'), policy('q')));
    expect(() => store.take(change([policy('r')]))).toThrow('at most');
    const big = { ...policy('q', '2'), json: policy('q').json + ' '.repeat(10) };
    expect(() => store.take(change([big]))).toThrow('at most');
    // One for another is not more.
    store.take(change([policy('r')], ['AccessPolicy/shop/p']));
    expect(store.held().map(({ key }) => key)).toEqual(['AccessPolicy/shop/q', 'AccessPolicy/shop/r']);
  });

  it('tells since when the server is away, but not before there is anything to be old', () => {
    const store = new PolicyStore('n1');
    store.follows(5);
    expect(store.stats().staleSince).toBeUndefined();
    store.follows(undefined);
    store.take(whole());
    store.follows(10);
    store.follows(20);
    expect(store.stats().staleSince).toBe(10);
    store.follows(undefined);
    expect(store.stats().staleSince).toBeUndefined();
  });
});
