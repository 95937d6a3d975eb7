import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { podRegistration } from '../../test/support/fake-node-api.js';
import type { Registration } from '../identity/registration/registration.js';
import { NodeRegistrations } from './registrations.js';

function registration(pod: number, identity: number, revision: number): Registration {
  return podRegistration(`p${pod}`, {
    id: `p${pod}/${identity}`,
    path: `/p${pod}/${identity}`,
    revision: String(revision),
    identity: { kind: 'WorkloadIdentity', namespace: 'shop', name: `i${identity}` },
  });
}

function processRegistration(identity: number, revision: number): Registration {
  return {
    ...registration(0, identity, revision),
    id: `process/${identity}`,
    nodeName: '',
    subject: { kind: 'process', selector: { uid: identity } },
  };
}

describe('NodeRegistrations', () => {
  it('is what a map would be, however the updates come (model)', () => {
    const one = fc
      .tuple(
        fc.integer({ min: 0, max: 3 }),
        fc.integer({ min: 0, max: 2 }),
        fc.integer({ min: 0, max: 2 }),
        fc.boolean(),
      )
      .map(([pod, identity, revision, isPod]) =>
        isPod ? registration(pod, identity, revision) : processRegistration(identity, revision),
      );
    const update = fc.record({
      snapshot: fc.boolean(),
      upserts: fc.array(one, { maxLength: 5 }),
      removed: fc.array(
        one.map(({ id }) => id),
        { maxLength: 3 },
      ),
    });
    fc.assert(
      fc.property(fc.array(update, { maxLength: 12 }), (updates) => {
        const node = new NodeRegistrations('node-1', 1_000);
        const model = new Map<string, Registration>();
        for (const step of updates) {
          const before = new Map(model);
          if (step.snapshot) model.clear();
          else for (const id of step.removed) if (!step.upserts.some((up) => up.id === id)) model.delete(id);
          for (const up of step.upserts) model.set(up.id, up);
          const { changed, removed } = node.apply(step);
          const gone = [...before.keys()].filter((id) => !model.has(id)).sort();
          expect(removed.map(({ id }) => id).sort()).toEqual(gone);
          for (const [id, now] of model)
            if (before.get(id)?.revision !== now.revision) expect(changed.map((up) => up.id)).toContain(id);
        }
        const values = [...model.values()];
        expect(node.size).toBe(model.size);
        for (let pod = 0; pod < 4; pod++) {
          const uid = `p${pod}`;
          const expected = values
            .filter(({ subject }) => subject.kind === 'pod' && subject.uid === uid)
            .map(({ id }) => id)
            .sort();
          expect(node.forPod(uid).map(({ id }) => id)).toEqual(expected);
          expect(node.pods.value.has(uid)).toBe(expected.length > 0);
        }
        expect(node.processes.map(({ id }) => id)).toEqual(
          values
            .filter(({ subject }) => subject.kind === 'process')
            .map(({ id }) => id)
            .sort(),
        );
      }),
    );
  });

  it('takes nothing of an update that is not for this node, or that is too much', () => {
    const node = new NodeRegistrations('node-1', 2);
    node.apply({ snapshot: true, upserts: [registration(1, 1, 1)], removed: [] });
    const foreign = { ...registration(2, 1, 1), nodeName: 'node-2' };
    expect(() =>
      node.apply({ snapshot: true, upserts: [registration(3, 1, 1), foreign], removed: [] }),
    ).toThrow('node-2');
    const many = [1, 2, 3].map((pod) => registration(pod, 1, 1));
    expect(() => node.apply({ snapshot: true, upserts: many, removed: [] })).toThrow('more than 2');
    expect(node.size).toBe(1);
  });
});
