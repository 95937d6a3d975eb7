import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { PolicyStore } from '../../src/agent/access/policy-store.js';
import type { AuthorizationView } from '../../src/agent/authorization/view.js';
import { evaluate, type Decision } from '../../src/access/policy/evaluate.js';
import type { PolicyInput, RuleInput, WhenInput } from '../../src/access/policy/input.js';
import type { AccessRequest } from '../../src/access/policy/model.js';
import { trustDomainSettings } from '../../src/cluster/trust-domain.js';
import { createRegistrationIndex } from '../../src/identity/registration/registration-index.js';
import { silentLogger } from '../../src/lib/logger.js';
import { followAccess } from '../../src/main/access-view.js';
import { openPolicyFeed } from '../../src/server/policies/feed.js';
import { createRegistrationController } from '../../src/server/registrations.js';
import type { StoredObject } from '../../src/store/store.js';
import { FakeClock } from '../support/fake-clock.js';
import { MemoryStore } from '../support/memory-store.js';
import { IDS, language, policies, proof, roles, WORLD } from '../support/policies.js';
import { asking, worlds } from '../support/policy-worlds.js';

/*
 * A node is sent a small part of what there is. By that part it must decide as by the whole: for every pod on it, whatever
 * the policies ask of callers that are elsewhere, and after whatever edits.
 */

const NODES = ['n1', 'n2'] as const;
const pick = <T>(items: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...items);

let generation = 0;
function object(kind: string, name: string, namespace: string | undefined, more: object = {}): StoredObject {
  generation += 1;
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind,
    metadata: {
      ...{ name, uid: `${kind}-${namespace ?? ''}-${name}`, generation },
      ...(namespace === undefined ? {} : { namespace }),
    },
    ...more,
  };
}

const withLabels = (one: StoredObject, labels: Readonly<Record<string, string>>): StoredObject => ({
  ...one,
  metadata: { ...one.metadata, labels },
});

/** Conditions on callers, beside those of the common language. */
const CALLER_CONDITIONS: readonly WhenInput[] = [
  { attributes: [{ attribute: 'subject.labels.app', operator: 'Equals', values: ['one'] }] },
  { attributes: [{ attribute: 'resource.name', operator: 'Equals', other: 'subject.labels.app' }] },
  { cel: 'subject.labels.app == "one"' },
  { cel: 'subject["labels"].app != "one"' },
  { sourceLabels: { matchLabels: { app: 'one' } } },
  { sourcePosture: { noPrivileged: true } },
  { sourcePosture: { allowedImages: ['registry.example/good'] } },
];
const CLUSTER_IDENTITY = { identities: [{ kind: 'ClusterWorkloadIdentity', name: 'all' }] };

const askingMore = (input: PolicyInput): fc.Arbitrary<PolicyInput> =>
  fc
    .tuple(...input.spec.rules.map(() => fc.tuple(fc.nat(2), pick(CALLER_CONDITIONS), fc.nat(5))))
    .map((choices) => ({
      ...input,
      spec: {
        ...input.spec,
        rules: input.spec.rules.map((rule, index): RuleInput => {
          const [conditioned, when, identified] = choices[index] ?? [1, {}, 1];
          return {
            ...rule,
            ...(conditioned === 0 ? { when } : {}),
            ...(identified === 0 ? { from: [...rule.from, CLUSTER_IDENTITY] } : {}),
          };
        }),
      },
    }));

const policyObjects: fc.Arbitrary<readonly StoredObject[]> = policies(language())
  .chain((inputs) => fc.tuple(...inputs.map(askingMore)))
  .map((inputs) =>
    inputs.map(({ kind, metadata, spec }) =>
      object(kind, metadata.name, kind === 'AccessPolicy' ? metadata.namespace : undefined, { spec }),
    ),
  );

const pods: fc.Arbitrary<StoredObject> = fc
  .record({
    namespace: pick(WORLD.namespaces),
    name: pick(['one-1', 'one-2', 'two-1', 'two-2']),
    app: pick(WORLD.apps),
    hash: pick(['h1', 'h2']),
    serviceAccountName: pick(WORLD.serviceAccounts),
    nodeName: pick([...NODES, ...NODES, '']),
    image: pick(['registry.example/good/app:1', 'evil.example/app', 'registry.example/good:v2']),
    privileged: fc.boolean(),
    phase: pick(['Running', 'Running', 'Running', 'Succeeded']),
  })
  .map(({ namespace, name, app, hash, serviceAccountName, nodeName, image, privileged, phase }) => {
    const pod = object('Pod', name, namespace, {
      spec: { serviceAccountName, nodeName, containers: [{ image, securityContext: { privileged } }] },
      status: { phase },
    });
    return withLabels(
      // A pod that is bound anew is another pod.
      { ...pod, metadata: { ...pod.metadata, uid: `${pod.metadata.uid}-${nodeName}` } },
      { app, 'pod-template-hash': hash },
    );
  });

const namespaces: fc.Arbitrary<StoredObject> = fc
  .record({ name: pick(WORLD.namespaces), team: pick(WORLD.teams) })
  .map(({ name, team }) => withLabels(object('Namespace', name, undefined), { team }));

const identities: fc.Arbitrary<StoredObject> = fc.oneof(
  fc
    .record({ name: pick(WORLD.apps), namespace: pick(WORLD.namespaces), other: fc.boolean() })
    .map(({ name, namespace, other }) =>
      object('WorkloadIdentity', name, namespace, {
        spec: {
          podSelector: { matchLabels: { app: name } },
          ...(other ? { spiffeIDTemplate: '/ns/{{ .Namespace }}/other/x' } : {}),
        },
      }),
    ),
  fc.boolean().map((process) =>
    object('ClusterWorkloadIdentity', 'all', undefined, {
      spec: process
        ? { processSelector: { uid: 1000 }, spiffeIDTemplate: '/ns/a/other/x' }
        : { podSelector: { matchLabels: { app: 'one' } }, spiffeIDTemplate: '/x' },
    }),
  ),
);

const role = pick(roles()).chain(({ metadata, spec }) =>
  fc.boolean().map((empty) => object('AccessRole', metadata.name, undefined, { spec: empty ? {} : spec })),
);

interface Edit {
  readonly put: readonly StoredObject[];
  /** Which of the objects that there are goes; none beyond their number. */
  readonly remove: number;
  /** Whether the agent loses its connection, and comes again with what it holds. */
  readonly reconnect: boolean;
}

const edits: fc.Arbitrary<readonly Edit[]> = fc.array(
  fc.record({
    put: fc.oneof(
      { weight: 3, arbitrary: fc.array(pods, { maxLength: 3 }) },
      { weight: 3, arbitrary: policyObjects },
      { weight: 2, arbitrary: identities.map((one) => [one]) },
      { weight: 1, arbitrary: namespaces.map((one) => [one]) },
      { weight: 1, arbitrary: role.map((one) => [one]) },
    ),
    remove: fc.nat(40),
    reconnect: fc.nat(3).map((n) => n === 0),
  }),
  { minLength: 2, maxLength: 6 },
);

const KINDS = [
  'Pod',
  'AccessPolicy',
  'ClusterAccessPolicy',
  'WorkloadIdentity',
  'ClusterWorkloadIdentity',
  'AccessRole',
];

/** A server's half and the agents of all nodes. */
function start(first: readonly StoredObject[]) {
  const clock = new FakeClock();
  const logger = silentLogger;
  const store = new MemoryStore();
  const settings = trustDomainSettings({ flag: WORLD.trustDomain });
  store.put(...WORLD.namespaces.map((name) => object('Namespace', name, undefined)), ...first);
  const index = createRegistrationIndex({
    trustDomain: WORLD.trustDomain,
    defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
  });
  const controller = createRegistrationController({ store, index, clock, logger });
  const feed = openPolicyFeed({
    ...{ store, trustDomain: WORLD.trustDomain, registrations: index },
    ready: controller.registrations.ready,
    onDelta: (onDelta) => controller.onDelta(onDelta),
  });
  const whole = (): AuthorizationView => {
    const live = followAccess({ store, settings, registrations: index, clock, logger });
    live.close();
    if (live.current === undefined) throw new Error('no view');
    return live.current;
  };
  const agents = NODES.map((nodeName) => {
    const held = new PolicyStore(nodeName);
    let end: () => void = () => undefined;
    let source = feed.of(nodeName, []);
    const connect = (): void => {
      end();
      source = feed.of(nodeName, held.held());
      end = source.subscribe(() => undefined);
    };
    const pull = (): number => {
      const update = source.take();
      if (update === undefined) return 0;
      held.take(update);
      return update.upserts.length + update.removed.length;
    };
    connect();
    pull();
    const live = followAccess({
      ...{ store: held, settings, registrations: held, clock, logger },
      sources: () => held.sources(),
    });
    return { nodeName, held, connect, pull, live };
  });
  const close = async (): Promise<void> => {
    for (const { live } of agents) live.close();
    feed.close();
    await controller.close();
  };
  return { clock, store, whole, agents, close };
}

/** What a decision says, but for its hints, which may look at more of other rules. */
const said = ({ allowed, decidedBy, audit }: Decision): unknown => ({ allowed, decidedBy, audit });

function decide(view: AuthorizationView, uid: string, request: AccessRequest): unknown {
  const target = view.pod(uid);
  if (target === undefined) return 'no such pod';
  const asked = { ...request };
  delete (asked as { sourceWorkload?: unknown }).sourceWorkload;
  const source = request.source === undefined ? undefined : view.source(request.source);
  return said(
    evaluate(view.policies, {
      ...asked,
      target,
      ...(source === undefined ? {} : { sourceWorkload: source }),
    }),
  );
}

describe('the part of policies that a node is sent', () => {
  it('decides as the whole does, for every pod of the node, after every edit', async () => {
    const seen = { allowed: 0, denied: 0, sources: 0, sourceless: 0, identities: 0 };
    await fc.assert(
      fc.asyncProperty(
        worlds(language(), asking(), 12),
        fc.array(pods, { minLength: 2, maxLength: 8 }),
        fc.array(identities, { maxLength: 4 }),
        policyObjects,
        edits,
        async ({ requests }, somePods, someIdentities, somePolicies, changes) => {
          const run = start([
            ...somePods,
            ...someIdentities,
            ...somePolicies,
            ...roles().map((one) => object('AccessRole', one.metadata.name, undefined, { spec: one.spec })),
          ]);
          const compare = (): void => {
            const whole = run.whole();
            for (const { nodeName, held, live } of run.agents) {
              const view = live.current;
              if (view === undefined) throw new Error('no view');
              const here = run.store
                .list('Pod')
                .filter(
                  (pod) => (pod as unknown as { spec: { nodeName: string } }).spec.nodeName === nodeName,
                );
              for (const { metadata } of here) {
                for (const request of requests) {
                  const source = request.source === undefined ? undefined : pickId(request.source, held);
                  const asked = { ...request, source };
                  const expected = decide(whole, metadata.uid, asked);
                  expect(decide(view, metadata.uid, asked)).toEqual(expected);
                  if ((expected as { allowed?: boolean }).allowed === true) seen.allowed++;
                  else seen.denied++;
                }
              }
              // Nothing of namespaces that have no pod here, and no pod from elsewhere.
              const mine = new Set(held.list('Pod').map(({ metadata }) => metadata.namespace));
              for (const { metadata } of held.list('AccessPolicy'))
                expect(mine).toContain(metadata.namespace);
              expect(held.list('Pod').length).toBeLessThanOrEqual(here.length);
              const asksCallers = ['AccessPolicy', 'ClusterAccessPolicy'].some((kind) =>
                held
                  .list(kind)
                  .some((policy) => /sourceLabels|sourcePosture|labels/.test(JSON.stringify(policy))),
              );
              const sources = held.list('Source').length;
              if (!asksCallers) expect(sources).toBe(0);
              if (sources > 0) seen.sources++;
              else seen.sourceless++;
              if (held.held().some(({ key }) => key.includes('WorkloadIdentity/'))) seen.identities++;
            }
          };
          compare();
          for (const { put, remove, reconnect } of changes) {
            const there = KINDS.flatMap((kind) => run.store.list(kind));
            const gone = there[remove];
            if (gone !== undefined) run.store.remove(gone);
            run.store.put(...put);
            for (const agent of run.agents) {
              if (reconnect) agent.connect();
              agent.pull();
              // What is taken is all that there is to take.
              expect(agent.pull()).toBe(0);
            }
            await run.clock.advance(1000);
            compare();
          }
          await run.close();
        },
      ),
      proof(150),
    );
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(50);
  }, 300_000);
});

/** Often an ID that somebody holds for whom something is known here. */
function pickId(source: string, held: PolicyStore): string {
  const known = held.list('Source').map(({ metadata }) => metadata.name);
  const at = IDS.indexOf(source);
  return at % 2 === 0 ? (known[at % Math.max(1, known.length)] ?? source) : source;
}
