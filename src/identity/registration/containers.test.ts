import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { aClusterWorkloadIdentity, aPod, aWorkloadIdentity } from '../../../test/support/identities.js';
import { containerSelectorMatches, svidRevision } from './containers.js';
import { createRegistrationIndex, type RegistrationIndex } from './registration-index.js';
import type { ContainerFacts, ContainerSelector } from './registration.js';

const hex = (digit: string): string => digit.repeat(64);
/** What is kept of the ID of a container. */
const half = (digit: string): string => digit.repeat(32);
const digestOf = (digit: string): string => `sha256:${hex(digit)}`;
const container = (name: string, id: string, image = 'a'): ContainerFacts => ({
  ...{ name, containerID: `containerd://${hex(id)}`, imageID: `registry.example/app@${digestOf(image)}` },
});
const indexOf = (): RegistrationIndex =>
  createRegistrationIndex({
    trustDomain: 'example.org',
    defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
  });

describe('a container selector', () => {
  const names = fc.constantFrom('app', 'proxy', 'init');
  const digests = fc.constantFrom('a', 'b', 'c');
  const images = fc.oneof(
    digests.map((digit) => ({
      imageID: `docker.io/library/app@${digestOf(digit)}`,
      digest: digestOf(digit),
    })),
    digests.map((digit) => ({ imageID: digestOf(digit), digest: digestOf(digit) })),
    fc
      .constantFrom('', 'app:v1', `app@sha256:abc`, `${digestOf('a')}:v1`, `xsha256:${hex('a')}`)
      .map((imageID) => ({ imageID, digest: undefined })),
    fc.constant({ imageID: undefined, digest: undefined }),
  );
  const selectors: fc.Arbitrary<ContainerSelector> = fc.record(
    { names: fc.array(names), imageDigests: fc.array(digests.map(digestOf)) },
    { requiredKeys: [] },
  );

  it('matches exactly where each of its fields does; what is not known matches nothing', () => {
    const seen = { yes: 0, no: 0 };
    fc.assert(
      fc.property(selectors, names, images, (selector, name, { imageID, digest }) => {
        const facts = { name, containerID: '', ...(imageID === undefined ? {} : { imageID }) };
        const byName = selector.names === undefined || selector.names.includes(name);
        const byImage =
          selector.imageDigests === undefined ||
          (digest !== undefined && selector.imageDigests.includes(digest));
        const wanted = Object.keys(selector).length > 0 && byName && byImage;
        seen[wanted ? 'yes' : 'no']++;
        expect(containerSelectorMatches(selector, facts)).toBe(wanted);
      }),
      { numRuns: 500 },
    );
    expect(Math.min(seen.yes, seen.no)).toBeGreaterThan(10);
  });
});

describe('a registration for containers', () => {
  const pod = aPod({ containerNames: ['app', 'proxy'] });

  it('names those that are selected and those that are not, and follows them without another SVID', () => {
    const index = indexOf();
    index.applyPod(pod);
    index.applyIdentity(aWorkloadIdentity('main', { containerSelector: { names: ['app'] } }));
    const [before] = index.forPod(pod.uid);
    expect(before?.containers).toEqual({ ids: [], others: [] });
    const started = { ...pod, containers: [container('proxy', '2'), container('app', '1')] };
    const { changed } = index.applyPod(started);
    expect(changed).toHaveLength(1);
    const [after] = changed;
    expect(after?.containers).toEqual({ ids: [half('1')], others: [half('2')] });
    if (before === undefined || after === undefined) throw new Error('no registration');
    expect(after.revision).not.toBe(before.revision);
    expect(svidRevision(after)).toBe(svidRevision(before));
    // Another order of the same is no change.
    expect(index.applyPod({ ...started, containers: [...started.containers].reverse() }).changed).toEqual([]);
    expect(index.explainPod(pod.uid, 'node-1', hex('2'))).toContain('the container is proxy, it wants app');
    expect(index.explainPod(pod.uid, 'node-1')).toContain('given on the shared socket of the node alone');
    expect(index.explainPod(pod.uid, 'node-1', hex('3'))).toContain('does not tell of this container yet');
  });

  it('is none where the pod has no container of the name', () => {
    const index = indexOf();
    index.applyPod(pod);
    const identity = aWorkloadIdentity('main', { containerSelector: { names: ['ap', 'web'] } });
    index.applyIdentity(identity);
    expect(index.forPod(pod.uid)).toEqual([]);
    expect(index.outcome({ kind: 'WorkloadIdentity', namespace: 'shop', name: 'main' })).toMatchObject({
      sharedSocketOnly: true,
      failures: [{ reason: 'NoSuchContainer', message: expect.stringContaining('it has app or proxy') }],
    });
  });

  it.each([
    [{}, 'sets no field'],
    [{ imageDigests: ['sha256:abc'] }, 'must be "sha256:" and 64'],
  ])('is none where the selector is wrong: %j', (containerSelector, problem) => {
    const index = indexOf();
    index.applyPod({ ...pod, containers: [container('app', '1')] });
    index.applyIdentity(aWorkloadIdentity('main', { containerSelector }));
    expect(index.forPod(pod.uid)).toEqual([]);
    const outcome = index.outcome({ kind: 'WorkloadIdentity', namespace: 'shop', name: 'main' });
    expect(outcome?.problem?.message).toContain(problem);
  });
});

describe('a static pod', () => {
  const hash = 'f'.repeat(32);
  const mirror = aPod({ name: 'etcd-node-1', staticUid: hash, containers: [container('etcd', '1')] });
  const ofNode = { staticPods: true, spiffeIDTemplate: '/node/{{ .NodeName }}/etcd' };

  it('gets what is for static pods alone: its node makes mirrors in any namespace, with any label', () => {
    const index = indexOf();
    index.applyPod(mirror);
    index.applyPod(aPod());
    index.applyIdentity(aWorkloadIdentity('main'));
    index.applyIdentity(aClusterWorkloadIdentity('all', { fallback: true }));
    expect(index.forPod(mirror.uid)).toEqual([]);
    index.applyIdentity(aClusterWorkloadIdentity('static', ofNode));
    expect(index.forPod(mirror.uid)).toMatchObject([
      {
        spiffeId: { uri: 'spiffe://example.org/node/node-1/etcd' },
        subject: { uid: mirror.uid, staticUid: hash },
        containers: { ids: [half('1')], others: [] },
      },
    ]);
    expect(index.forPod(aPod().uid).map(({ identity }) => identity.name)).toEqual(['main']);
    expect(index.explainPod(hash, 'node-1', hex('2'))).toContain('etcd-node-1');
    expect(index.explainPod(hash, 'node-2', hex('2'))).toContain('not known here');
  });

  it('gets nothing where its UID on the node is not clear, or a service account is asked for', () => {
    const index = indexOf();
    index.applyPod({ ...mirror, staticUid: '' });
    index.applyIdentity(aClusterWorkloadIdentity('static', ofNode));
    expect(index.forPod(mirror.uid)).toEqual([]);
    const ref = { kind: 'ClusterWorkloadIdentity', namespace: '', name: 'static' } as const;
    expect(index.outcome(ref)?.failures).toMatchObject([{ reason: 'StaticPodUnclear' }]);
    index.applyPod(mirror);
    for (const spec of [
      { staticPods: true },
      { ...ofNode, serviceAccountNames: ['default'] },
      { ...ofNode, spiffeIDTemplate: '/sa/{{ .ServiceAccount }}' },
    ]) {
      index.applyIdentity(aClusterWorkloadIdentity('static', spec));
      expect(index.forPod(mirror.uid)).toEqual([]);
    }
  });
});
