import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { aPodObject } from '../../../test/support/identities.js';
import { MemoryStore } from '../../../test/support/memory-store.js';
import { AGENTS } from '../../../test/support/node-world.js';
import { podFacts } from '../../cluster/pod-facts.js';
import type { StoredObject } from '../../store/store.js';
import { followAgentPods } from './agent-pods.js';

const NODES = ['n1', 'n2', 'n3'];
const pods = fc
  .record({
    name: fc.constantFrom('a', 'b', 'c'),
    uid: fc.constantFrom('1', '2'),
    namespace: fc.constantFrom(AGENTS.namespace, 'shop'),
    nodeName: fc.constantFrom('', ...NODES),
    serviceAccountName: fc.constantFrom(AGENTS.name, 'default'),
    phase: fc.constantFrom('Running', 'Failed'),
  })
  .map(({ name, uid, namespace, nodeName, serviceAccountName, phase }): StoredObject => {
    const pod = aPodObject(
      name,
      { nodeName, serviceAccountName },
      { namespace, uid: `${namespace}-${name}-${uid}` },
    );
    return { ...pod, ...{ status: { phase } } };
  });
interface Action {
  readonly pods: readonly StoredObject[];
  readonly remove: boolean;
}
const actions: fc.Arbitrary<readonly Action[]> = fc.array(
  fc.record({ pods: fc.array(pods, { maxLength: 3 }), remove: fc.boolean() }),
);

describe('the nodes with an agent', () => {
  it('are those that a look at all pods finds, whatever comes, changes and goes', () => {
    fc.assert(
      fc.property(actions, actions, (before, after) => {
        const store = new MemoryStore();
        const act = (some: readonly Action[]): void => {
          for (const { pods: changed, remove } of some) {
            if (!remove) for (const pod of changed) store.put(pod);
            else
              for (const { metadata } of changed) {
                const there = store.get('Pod', `${metadata.namespace ?? ''}/${metadata.name}`);
                if (there !== undefined) store.remove(there);
              }
          }
        };
        act(before);
        const agents = followAgentPods(store, AGENTS);
        act(after);
        for (const node of NODES) {
          const found = store.list('Pod').some((pod) => {
            const facts = podFacts(pod);
            return (
              facts?.nodeName === node &&
              facts.namespace === AGENTS.namespace &&
              facts.serviceAccount === AGENTS.name
            );
          });
          expect([node, agents.on(node)]).toEqual([node, found]);
        }
        agents.close();
        expect(store.subscribers).toBe(0);
      }),
    );
  });
});
