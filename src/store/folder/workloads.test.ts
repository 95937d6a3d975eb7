import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { StoredObject } from '../store.js';
import { MAX_PODS_PER_WORKLOAD, expandWorkload, stableUid } from './workloads.js';

function workload(kind: string, spec: unknown): StoredObject {
  return {
    apiVersion: kind.endsWith('Job') ? 'batch/v1' : 'apps/v1',
    kind,
    metadata: { name: 'web', namespace: 'payments', uid: 'u', generation: 1 },
    spec,
  } as unknown as StoredObject;
}

const template = { metadata: { labels: { app: 'web' } }, spec: { serviceAccountName: 'web' } };
const names = (object: StoredObject): string[] =>
  expandWorkload(object, 'n').map(({ metadata }) => metadata.name);

describe('expandWorkload', () => {
  it.each([
    ['Deployment', { template }, 1],
    ['Deployment', { replicas: 3, template }, 3],
    ['Deployment', { replicas: 0, template }, 0],
    ['StatefulSet', { replicas: 2, template }, 2],
    ['ReplicaSet', { replicas: 2, template }, 2],
    ['DaemonSet', { replicas: 9, template }, 1],
    ['Job', { replicas: 9, template }, 1],
    ['CronJob', { jobTemplate: { spec: { template } } }, 1],
    ['Deployment', { replicas: 1e9, template }, MAX_PODS_PER_WORKLOAD],
    ['Deployment', { replicas: -1, template }, 0],
    ['Deployment', { replicas: 'many', template }, 1],
    ['Deployment', {}, 0],
    ['Deployment', { template: 'x' }, 0],
    ['Deployment', null, 0],
    ['Service', { template }, 0],
  ])('makes of a %s with %j %d pods', (kind, spec, count) => {
    expect(names(workload(kind, spec))).toEqual(Array.from({ length: count }, (_, index) => `web-${index}`));
  });

  it('never throws, whatever the spec', () => {
    fc.assert(
      fc.property(fc.constantFrom('Deployment', 'CronJob', 'Job'), fc.jsonValue(), (kind, spec) => {
        for (const pod of expandWorkload(workload(kind, spec), 'n')) {
          expect(pod).toMatchObject({ kind: 'Pod', spec: { nodeName: expect.any(String) } });
        }
      }),
    );
  });
});

describe('stableUid', () => {
  it('is one UUID for one name, and never the same for two', () => {
    const part = fc.string({ maxLength: 8 });
    fc.assert(
      fc.property(fc.tuple(part, part, part), fc.tuple(part, part, part), (a, b) => {
        expect(stableUid(...a)).toMatch(
          /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
        );
        expect(stableUid(...a)).toBe(stableUid(...a));
        // A NUL in a name would make the parts run together; names of objects hold none.
        fc.pre(![...a, ...b].some((text) => text.includes('\0')));
        expect(stableUid(...a) === stableUid(...b)).toBe(JSON.stringify(a) === JSON.stringify(b));
      }),
    );
  });
});
