import { describe, expect, it } from '@jest/globals';
import { evaluate } from '../access/policy/evaluate.js';
import type { StoredObject } from '../store/store.js';
import { MemoryStore } from '../../test/support/memory-store.js';
import { readAccessView } from './access-view.js';
import { trustDomainSettings } from './trust-domain.js';

const settings = trustDomainSettings({ flag: 'example.org' });

interface PodOptions {
  readonly labels?: Record<string, string>;
  readonly account?: string;
  readonly owner?: { readonly kind: string; readonly name: string };
  readonly containers?: readonly unknown[];
  readonly phase?: string;
}

function pod(namespace: string, name: string, options: PodOptions = {}): StoredObject {
  const {
    labels = { app: name },
    account = name,
    owner,
    containers = [{ image: 'x' }],
    phase = 'Running',
  } = options;
  const ownerReferences = owner === undefined ? {} : { ownerReferences: [{ ...owner, controller: true }] };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, uid: `${namespace}-${name}`, generation: 1, labels, ...ownerReferences },
    spec: { serviceAccountName: account, nodeName: 'n', containers },
    status: { phase },
  } as StoredObject;
}

function object(kind: string, namespace: string | undefined, name: string, spec: unknown = {}): StoredObject {
  const scope = namespace === undefined ? {} : { namespace };
  const metadata = { ...scope, name, uid: `${kind}-${name}`, generation: 1 };
  return { apiVersion: 'signet.dev/v1alpha1', kind, metadata, spec } as StoredObject;
}

describe('the inventory of a store', () => {
  it('takes the replicas of a Deployment for one workload, whatever its ReplicaSets are called', () => {
    const store = new MemoryStore();
    const replica = (name: string, hash: string): StoredObject =>
      pod('shop', name, {
        labels: { app: 'web', 'pod-template-hash': hash },
        account: 'web',
        owner: { kind: 'ReplicaSet', name: `web-${hash}` },
      });
    store.put(replica('web-1-a', 'f00'), replica('web-1-b', 'f00'), replica('web-2-a', 'ba5'));
    store.put(pod('shop', 'once', { phase: 'Succeeded' }));
    const { inventory } = readAccessView(store, settings);
    expect(inventory.workloads.map(({ name, labels }) => ({ name, labels }))).toEqual([
      { name: 'web', labels: { app: 'web' } },
    ]);
  });

  it('holds the identities that pods get, and finds their holders', () => {
    const store = new MemoryStore();
    store.put(object('WorkloadIdentity', 'shop', 'all'));
    store.put(pod('shop', 'web'), pod('other', 'web'));
    const { inventory } = readAccessView(store, settings);
    expect(inventory.workloads.map(({ namespace, spiffeIds }) => [namespace, spiffeIds])).toEqual([
      ['other', []],
      ['shop', ['spiffe://example.org/ns/shop/sa/web']],
    ]);
    const names = inventory
      .holders({ kind: 'namespace', trustDomain: 'example.org', namespace: 'shop' })
      .map(({ namespace, name }) => `${namespace}/${name}`);
    expect(names).toEqual(['shop/web']);
    expect(inventory.holders({ kind: 'trustDomain', trustDomain: 'example.com' })).toEqual([]);
    expect(inventory.holders({ kind: 'anyone' })).toHaveLength(2);
  });

  it('reads ports with what they speak, and the probes of the kubelet', () => {
    const store = new MemoryStore();
    const containers = [
      {
        ports: [
          { containerPort: 9000, name: 'tcp-data' },
          { containerPort: 8080 },
          { containerPort: 50051, name: 'grpc' },
          { containerPort: 53, protocol: 'UDP' },
        ],
        readinessProbe: { httpGet: { port: 'grpc', path: '/ready' } },
        livenessProbe: { httpGet: { port: 8080 } },
      },
    ];
    store.put(pod('shop', 'web', { containers }));
    const [web] = readAccessView(store, settings).inventory.workloads;
    expect(web?.ports).toEqual([
      { port: 8080, protocol: 'http' },
      { port: 9000, protocol: 'tcp', name: 'tcp-data' },
      { port: 50051, protocol: 'grpc', name: 'grpc' },
    ]);
    expect(web?.probes).toEqual([
      { port: 8080, path: '/' },
      { port: 50051, path: '/ready' },
    ]);
  });
});

describe('the policies of a store', () => {
  it('know the identities and namespaces that they name', () => {
    const store = new MemoryStore();
    store.put(object('WorkloadIdentity', 'shop', 'web', { podSelector: { matchLabels: { app: 'web' } } }));
    store.put({
      ...object('Namespace', undefined, 'ops'),
      metadata: { name: 'ops', uid: 'u', generation: 1, labels: { team: 'ops' } },
    });
    store.put(pod('shop', 'web'), pod('shop', 'api'));
    store.put(
      object('AccessPolicy', 'shop', 'api', {
        target: { podSelector: { matchLabels: { app: 'api' } } },
        rules: [
          { name: 'web', from: [{ identities: [{ name: 'web' }] }] },
          { name: 'ops', from: [{ namespaceSelector: { matchLabels: { team: 'ops' } } }] },
        ],
      }),
    );
    const { policies, inventory } = readAccessView(store, settings);
    const target = inventory.workloads.find(({ name }) => name === 'api');
    if (target === undefined) throw new Error('the workload is missing');
    const asked = (source: string): string | undefined => {
      const { decidedBy } = evaluate(policies, { source, target, time: 0 });
      return decidedBy.kind === 'rule' ? decidedBy.rule : undefined;
    };
    expect(asked('spiffe://example.org/ns/shop/sa/web')).toBe('web');
    expect(asked('spiffe://example.org/ns/ops/sa/any')).toBe('ops');
    expect(asked('spiffe://example.org/ns/shop/sa/api')).toBeUndefined();
  });

  it('deny by default unless the trust domain says otherwise', () => {
    const store = new MemoryStore();
    store.put(pod('shop', 'web'));
    const lenient = { ...settings, defaultAction: 'Allow' as const };
    const allowed = [settings, lenient].map((chosen) => {
      const { policies, inventory } = readAccessView(store, chosen);
      const [target] = inventory.workloads;
      return target !== undefined && evaluate(policies, { source: undefined, target, time: 0 }).allowed;
    });
    expect(allowed).toEqual([false, true]);
  });
});
