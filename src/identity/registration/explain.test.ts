import { describe, expect, it } from '@jest/globals';

import { aClusterWorkloadIdentity, aPod, aWorkloadIdentity } from '../../../test/support/identities.js';
import { MAX_EXPLANATION_BYTES } from './explain.js';
import { createRegistrationIndex, type RegistrationIndex } from './registration-index.js';

function anIndex(): RegistrationIndex {
  return createRegistrationIndex({
    trustDomain: 'example.org',
    defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
  });
}
const process = { uid: 1000, gid: 1000, supplementaryGids: [4], path: '/usr/bin/node' };

describe('why a pod has no identity', () => {
  it('names the nearest identities and each selector that missed', () => {
    const index = anIndex();
    index.applyPod(aPod({ labels: { app: 'orders' }, serviceAccount: 'default' }));
    index.applyIdentity(aWorkloadIdentity('near', { podSelector: { matchLabels: { app: 'payments' } } }));
    index.applyIdentity(
      aWorkloadIdentity('far', {
        podSelector: { matchLabels: { app: 'x', tier: 'y' } },
        serviceAccountNames: ['z'],
      }),
    );
    index.applyIdentity(aWorkloadIdentity('elsewhere', {}, 'other'));
    const text = index.explainPod(aPod().uid);
    expect(text).toBe(
      'no identity selects pod shop/payments-1 (service account default); nearest: ' +
        'WorkloadIdentity shop/near (label app is "orders", it wants "payments"); ' +
        'WorkloadIdentity shop/far (service account is default, it wants z, label app is "orders", it wants "x", there is no label tier, it wants "y")',
    );
  });

  it('says what is wrong with those that select it', () => {
    const index = anIndex();
    index.applyPod(aPod());
    index.applyIdentity(aWorkloadIdentity('main', { spiffeIDTemplate: '/ns/other/x' }));
    expect(index.explainPod(aPod().uid)).toMatch(
      /WorkloadIdentity shop\/main selects it, but: NamespaceEscape: /,
    );
  });

  it('says when there is nothing near, and nothing of another node’s pod', () => {
    const index = anIndex();
    expect(index.explainPod('nobody')).toContain('not known here');
    index.applyPod(aPod());
    expect(index.explainPod(aPod().uid, 'node-1')).toContain('there is none for namespace shop');
    expect(index.explainPod(aPod().uid, 'node-2')).toBe(index.explainPod('nobody'));
  });

  it('names the namespace selector', () => {
    const index = anIndex();
    index.applyPod(aPod());
    index.applyIdentity(
      aClusterWorkloadIdentity('c', { namespaceSelector: { matchLabels: { tier: 'gold' } } }),
    );
    expect(index.explainPod(aPod().uid)).toContain(
      'ClusterWorkloadIdentity c (namespace shop does not match its namespaceSelector)',
    );
  });

  it('says what is wrong with a selector that cannot be read', () => {
    const index = anIndex();
    index.applyPod(aPod());
    index.applyIdentity(aWorkloadIdentity('a', { podSelector: { matchLabels: { 'no key': 'x' } } }));
    expect(index.explainPod(aPod().uid)).toContain(
      'WorkloadIdentity shop/a (spec.podSelector: matchLabels: "no key"',
    );
  });

  it('fits a status message, and is cut at a whole character', () => {
    const index = anIndex();
    // Longer than Kubernetes allows, and of two bytes each: an odd cut would fall into one.
    index.applyPod(aPod({ labels: { app: 'é'.repeat(700) } }));
    index.applyIdentity(aWorkloadIdentity('a', { podSelector: { matchLabels: { app: 'x' } } }));
    const text = index.explainPod(aPod().uid);
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MAX_EXPLANATION_BYTES);
    expect(text).toMatch(/é…$/);
  });
});

describe('why a process has no identity', () => {
  it('names the nearest process selectors and what the kernel said instead', () => {
    const index = anIndex();
    expect(index.explainProcess(process)).toContain('no ClusterWorkloadIdentity has a processSelector');
    index.applyIdentity(
      aClusterWorkloadIdentity('batch', {
        spiffeIDTemplate: '/host/batch',
        processSelector: { uid: 1000, supplementaryGid: 5, sha256: 'a'.repeat(64) },
      }),
    );
    expect(index.explainProcess(process)).toContain(
      `ClusterWorkloadIdentity batch (supplementary groups are [4], it wants 5, sha256 is not known, it wants ${'a'.repeat(64)})`,
    );
  });
});
