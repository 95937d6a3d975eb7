import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { evaluate } from '../access/policy/evaluate.js';
import type { PolicyInput } from '../access/policy/input.js';
import { parseSpiffeId } from '../identity/spiffe/id.js';
import type { Registration } from '../identity/registration/registration.js';
import type { StoredObject } from '../store/store.js';
import { language, policies, proof, roles, WORLD } from '../../test/support/policies.js';
import { MemoryStore } from '../../test/support/memory-store.js';
import {
  createAccessReader,
  readAccessView,
  type AccessView,
  type RegistrationSource,
} from './access-view.js';
import { trustDomainSettings } from './trust-domain.js';

const settings = trustDomainSettings({ flag: WORLD.trustDomain });
const pick = <T>(items: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...items);

function object(kind: string, name: string, namespace: string | undefined, more: object = {}): StoredObject {
  return {
    apiVersion: 'v1',
    kind,
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      uid: `${namespace}/${name}`,
      generation: 1,
    },
    ...more,
  };
}

const labelled = (one: StoredObject, labels: Readonly<Record<string, string>>): StoredObject => ({
  ...one,
  metadata: { ...one.metadata, labels },
});

const objects: fc.Arbitrary<StoredObject> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.tuple(policies(language()), pick(['p', 'q', 'r'])).map(([[input], name]): StoredObject => {
      const { kind, metadata, spec } = input as PolicyInput;
      return object(kind, name, kind === 'AccessPolicy' ? metadata.namespace : undefined, { spec });
    }),
  },
  {
    weight: 2,
    arbitrary: fc
      .record({ name: pick(['one-1', 'one-2', 'two-1']), app: pick(WORLD.apps), ended: fc.nat(4) })
      .chain(({ name, app, ended }) =>
        pick(WORLD.namespaces).map((namespace) =>
          labelled(
            object('Pod', name, namespace, {
              spec: { serviceAccountName: 'x' },
              status: { phase: ended === 0 ? 'Succeeded' : 'Running' },
            }),
            { app },
          ),
        ),
      ),
  },
  fc
    .record({ name: pick(WORLD.namespaces), team: pick(WORLD.teams) })
    .map(({ name, team }) => labelled(object('Namespace', name, undefined), { team })),
  fc
    .record({ name: pick(WORLD.apps), namespace: pick(WORLD.namespaces) })
    .map(({ name, namespace }) => object('WorkloadIdentity', name, namespace)),
  pick(roles()).chain(({ metadata, spec }) =>
    fc.boolean().map((empty) => object('AccessRole', metadata.name, undefined, { spec: empty ? {} : spec })),
  ),
);

/** Every identity of a namespace gives an ID to every pod of it that has its name as label. */
function registrations(store: MemoryStore): { all(): Registration[] } {
  return {
    all: () =>
      store.list('WorkloadIdentity').flatMap(({ metadata: { namespace = '', name } }) =>
        store
          .list('Pod')
          .filter((pod) => pod.metadata.namespace === namespace && pod.metadata.labels?.['app'] === name)
          .map(
            ({ metadata }) =>
              ({
                subject: { kind: 'pod', uid: metadata.uid },
                identity: { kind: 'WorkloadIdentity', namespace, name },
                spiffeId: parseSpiffeId(`spiffe://${WORLD.trustDomain}/ns/${namespace}/sa/${name}`),
              }) as unknown as Registration,
          ),
      ),
  };
}

/** The same, of a source that knows the registrations of one pod. */
function byPod(store: MemoryStore): RegistrationSource {
  const { all } = registrations(store);
  return {
    all,
    forPod: (uid) => all().filter(({ subject }) => subject.kind === 'pod' && subject.uid === uid),
  };
}

const text = (view: AccessView): string =>
  JSON.stringify([view.inventory, view.policies.policies], (_, value: unknown) =>
    value instanceof Set ? [...value] : value,
  );

describe('a view of access that is read again in part', () => {
  it.each([
    ['by all registrations', registrations],
    ['by those of the pods that a change is about', byPod],
  ])('is what it would be if all were read anew, after every change: %s', (_, sourceOf) => {
    const step = fc.record({
      remove: fc.nat(3).map((one) => one === 0),
      several: fc.array(objects, { minLength: 1, maxLength: 3 }),
    });
    let sameInventory = 0;
    let samePolicies = 0;
    let allowed = 0;
    let asked = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 4, maxLength: 16 }), (steps) => {
        const store = new MemoryStore();
        const source = sourceOf(store);
        const reader = createAccessReader(store, settings, source);
        for (const { remove, several } of steps) {
          const changes: { readonly kind: string; readonly key: string }[] = [];
          const end = store.subscribe((list) => void changes.push(...list));
          if (remove) store.remove(...several);
          else store.put(...several);
          end();
          const before = reader.view;
          const after = reader.update(changes);
          const anew = readAccessView(store, settings, registrations(store));
          expect(text(after)).toBe(text(anew));
          if (after.inventory === before.inventory) sameInventory++;
          if (after.policies === before.policies) samePolicies++;
          for (const target of after.inventory.workloads) {
            const request = { source: target.spiffeIds[0], target, time: WORLD.now, port: 8080 };
            const answer = evaluate(after.policies, request);
            expect(JSON.stringify(answer)).toBe(JSON.stringify(evaluate(anew.policies, request)));
            asked++;
            if (answer.allowed) allowed++;
          }
        }
      }),
      proof(80),
    );
    expect(sameInventory).toBeGreaterThan(50);
    expect(samePolicies).toBeGreaterThan(50);
    // Few: most policies of the sample say nothing of a bare connection.
    expect(allowed).toBeGreaterThan(30);
    expect(asked - allowed).toBeGreaterThan(30);
  });
});
