import { afterEach, describe, expect, it } from '@jest/globals';
import { FakeClock, settle } from '../../../../test/support/fake-clock.js';
import { MemoryStore } from '../../../../test/support/memory-store.js';
import { recordingLogger } from '../../../../test/support/recording-logger.js';
import { seededRandom } from '../../../../test/support/seeded-random.js';
import { WatchedValue } from '../../../lib/watched.js';
import type { AccessPolicyStatus, AccessRoleStatus } from '../../../resources/policy.js';
import type { DesiredObject } from '../../../store/kubernetes/applied-content.js';
import type { ApplyFailure, ApplyReport } from '../../../store/kubernetes/applied-report.js';
import type { ServedTypes } from '../../../store/kubernetes/discovery.js';
import type { StoredObject } from '../../../store/store.js';
import type { ObjectEvent } from '../controller-events.js';
import { createAccessController } from './controller.js';
import { MESHES } from './meshes.js';

const START = Date.UTC(2026, 0, 1, 12);

/** An API server that serves the kinds of these meshes. */
function served(...meshes: readonly string[]): ServedTypes {
  const all = MESHES.filter(({ name }) => meshes.includes(name)).flatMap(({ kinds }) =>
    kinds.map(({ group, kind, versions: [version = ''] }) => ({
      ...{ group, kind, version, plural: kind.toLowerCase() },
      scope: 'Namespaced' as const,
    })),
  );
  return {
    all,
    find: (group, kind, version) =>
      all.find(
        (type) =>
          type.group === group && type.kind === kind && (version === undefined || version === type.version),
      ),
  };
}

/** What has been applied, by owner; fails as a test says. */
class FakeObjects {
  readonly applied = new Map<string, readonly DesiredObject[]>();
  /** Owners in the order in which they were applied. */
  readonly calls: string[] = [];
  fail: (owner: string, desired: readonly DesiredObject[]) => readonly ApplyFailure[] = () => [];
  #drift: (owner: string) => void = () => undefined;

  apply(owner: string, desired: readonly DesiredObject[]): Promise<ApplyReport> {
    this.calls.push(owner);
    const failures = this.fail(owner, desired);
    if (desired.length === 0) this.applied.delete(owner);
    else if (failures.length === 0) this.applied.set(owner, desired);
    return Promise.resolve({ applied: desired.length, removed: 0, unchanged: 0, failures });
  }
  owners(): readonly string[] {
    return [...this.applied.keys()];
  }
  onDrift(listener: (owner: string) => void): () => void {
    this.#drift = listener;
    return () => undefined;
  }
  drift(owner: string): void {
    this.#drift(owner);
  }
  run(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  names(): readonly string[] {
    return [...this.applied.values()]
      .flat()
      .map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`)
      .sort();
  }
}

function object(kind: string, path: string, more: object = {}): StoredObject {
  const [name = '', namespace] = path.split('/').reverse();
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind,
    metadata: {
      ...{ name, uid: `uid-of-${path}`, generation: 1 },
      ...(namespace === undefined ? {} : { namespace }),
    },
    ...more,
  };
}

const trustDomain = (more: object = {}): StoredObject =>
  object('TrustDomain', 'example.org', { spec: { name: 'example.org', ...more } });
const pod = (path: string, app: string): StoredObject => {
  const one = object('Pod', path, { spec: { serviceAccountName: app } });
  return { ...one, metadata: { ...one.metadata, labels: { app } } };
};
const anyone = [{ anyAuthenticated: true }];
const policy = (path: string, app: string, more: object = {}, rules: readonly object[] = []): StoredObject =>
  object('AccessPolicy', path, {
    spec: {
      target: { podSelector: { matchLabels: { app } } },
      rules: rules.length > 0 ? rules : [{ name: 'all', from: anyone }],
      ...more,
    },
  });

const worlds: { end(): Promise<void> }[] = [];
afterEach(async () => {
  for (const world of worlds.splice(0)) await world.end();
});

function start(store: MemoryStore, objects: FakeObjects, types: ServedTypes | undefined) {
  const clock = new FakeClock(START);
  const logger = recordingLogger();
  const events: ObjectEvent[] = [];
  const kinds = new WatchedValue(types);
  const controller = createAccessController({
    ...{ store, objects, served: kinds, clock, logger, random: seededRandom(1) },
    registrations: { all: () => [] },
    events: { record: (event) => events.push(event) },
  });
  const stop = new AbortController();
  const running = controller.run(stop.signal);
  const world = {
    ...{ clock, logger, events, kinds },
    async end() {
      stop.abort();
      await running;
    },
  };
  worlds.push(world);
  return world;
}

/** Some time passes, in which all that is due is done. */
async function pass(clock: FakeClock, ms = 3_000): Promise<void> {
  for (let turn = 0; turn < 3; turn++) {
    await clock.advance(ms / 3);
    await settle();
  }
}

const ready = (store: MemoryStore, path: string): string | undefined => {
  const condition = (store.status('AccessPolicy', path) as AccessPolicyStatus | undefined)?.conditions?.[0];
  return condition && `${condition.status} ${condition.reason}: ${condition.message}`;
};

function payments(): MemoryStore {
  const store = new MemoryStore();
  store.put(trustDomain(), object('Namespace', 'payments'), pod('payments/p-1', 'api'));
  store.put(policy('payments/access', 'api'));
  return store;
}

const OBJECTS = [
  'AuthorizationPolicy istio-system/signet-default.allow',
  'AuthorizationPolicy payments/access.access.0.0.allow',
  'EnvoyFilter istio-system/signet-request-form',
  'PeerAuthentication istio-system/signet-default.mtls',
];

describe('objects', () => {
  it('are rendered for the meshes that the cluster has, and the policy owns what ends with it', async () => {
    const store = payments();
    const objects = new FakeObjects();
    const { clock } = start(store, objects, served('istio', 'networkpolicy'));
    await pass(clock);
    expect(objects.names()).toEqual(OBJECTS);
    expect(objects.applied.get('istio/payments')?.[0]?.metadata.ownerReferences).toEqual([
      expect.objectContaining({ kind: 'AccessPolicy', name: 'access', uid: 'uid-of-payments/access' }),
    ]);
    for (const { metadata } of objects.applied.get('istio/istio-system') ?? [])
      expect(metadata.ownerReferences).toBeUndefined();
    expect(ready(store, 'payments/access')).toBe(
      'True Compiled: 1 rule in force; rendered for istio (exact)',
    );
  });

  it('are never owned by a policy of another namespace, nor where several policies speak', async () => {
    const store = payments();
    const cluster = object('ClusterAccessPolicy', 'admin', {
      spec: { tier: 'Admin', target: { namespaces: ['payments'] }, rules: [{ name: 'a', from: anyone }] },
    });
    const baseline = (name: string): StoredObject =>
      object('ClusterAccessPolicy', name, {
        spec: { tier: 'Baseline', target: {}, rules: [{ name: 'b', from: anyone }] },
      });
    store.put(cluster, baseline('one'), baseline('two'), object('Namespace', 'shop'), pod('shop/s', 'web'));
    store.put(policy('istio-system/root', 'nobody'));
    const objects = new FakeObjects();
    const { clock } = start(store, objects, served('istio', 'cilium', 'linkerd'));
    await pass(clock);
    const owned = [...objects.applied.values()].flat().flatMap((one) => {
      const [reference] = (one.metadata.ownerReferences ?? []) as { kind: string; name: string }[];
      return reference === undefined ? [] : [{ one, reference }];
    });
    expect(owned.map(({ reference }) => reference.name).sort()).toContain('admin');
    for (const { one, reference } of owned) {
      expect(one.kind).toBe('AuthorizationPolicy');
      expect(one.metadata.annotations?.['signet.dev/policies']).toBe(
        reference.kind === 'AccessPolicy' ? `${one.metadata.namespace}/${reference.name}` : reference.name,
      );
    }
    const several = [...objects.applied.values()]
      .flat()
      .filter(({ metadata }) => metadata.annotations?.['signet.dev/policies']?.includes(','));
    expect(several.length).toBeGreaterThan(0);
    for (const { metadata } of several) expect(metadata.ownerReferences).toBeUndefined();
  });

  it('follow edits, and touch the owner that the edit is about alone', async () => {
    const store = payments();
    store.put(object('Namespace', 'shop'), pod('shop/s', 'web'), policy('shop/access', 'web'));
    const objects = new FakeObjects();
    const { clock } = start(store, objects, served('istio'));
    await pass(clock);
    objects.calls.length = 0;
    store.put(policy('shop/access', 'web', {}, [{ name: 'none', effect: 'Deny', from: anyone }]));
    await clock.advance(5);
    expect(objects.calls).toEqual(['istio/shop']);
    expect(objects.names()).toContain('AuthorizationPolicy shop/access.access.0.0.deny');
    store.remove(policy('shop/access', 'web'));
    await clock.advance(5);
    expect(objects.calls).toEqual(['istio/shop', 'istio/shop']);
    expect(objects.names()).toEqual(OBJECTS);
  });

  it('are applied with what denies first', async () => {
    const store = payments();
    store.put(
      policy('payments/access', 'api', {}, [
        { name: 'all', from: anyone },
        { name: 'not', effect: 'Deny', from: [{ serviceAccounts: [{ name: 'x' }] }] },
      ]),
    );
    const objects = new FakeObjects();
    const { clock } = start(store, objects, served('istio'));
    await pass(clock);
    const actions = objects.applied
      .get('istio/payments')
      ?.map((one) => (one as { readonly spec?: { readonly action?: string } }).spec?.action);
    expect(actions).toEqual(['DENY', 'ALLOW']);
  });

  it('are not pruned before it is known what is wanted, and then they are', async () => {
    const store = payments();
    const objects = new FakeObjects();
    objects.applied.set('istio/payments', []);
    objects.applied.set('istio/gone', []);
    objects.applied.set('linkerd/payments', []);
    const { clock, kinds } = start(store, objects, undefined);
    for (const owner of objects.owners()) objects.drift(owner);
    await pass(clock);
    expect(objects.calls).toEqual([]);
    kinds.set(served('istio'));
    await pass(clock);
    expect(objects.owners().toSorted()).toEqual(['istio/istio-system', 'istio/payments']);
    expect(objects.calls).toContain('istio/gone');
    expect(objects.calls).toContain('linkerd/payments');
  });

  it('are not pruned while the policies cannot be read', async () => {
    const store = new MemoryStore();
    store.put(object('Namespace', 'payments'), policy('payments/access', 'api'));
    const objects = new FakeObjects();
    objects.applied.set('istio/payments', []);
    const { clock, logger } = start(store, objects, served('istio'));
    objects.drift('istio/payments');
    await pass(clock, 12_000);
    expect(objects.calls).toEqual([]);
    expect(logger.lines).toEqual(['error the access policies cannot be read; what is applied stays']);
    store.put(trustDomain());
    await pass(clock, 12_000);
    expect(objects.names()).toContain('AuthorizationPolicy payments/access.access.0.0.allow');
  });

  it('are taken back from a mesh that is taken out of the TrustDomain, and from one that goes', async () => {
    const store = payments();
    const objects = new FakeObjects();
    const { clock, kinds } = start(store, objects, served('istio', 'networkpolicy'));
    await pass(clock);
    store.put(trustDomain({ meshes: ['networkpolicy'] }));
    await pass(clock);
    expect(objects.owners()).toEqual(['networkpolicy/payments']);
    expect((store.status('AccessPolicy', 'payments/access') as AccessPolicyStatus).renderings).toEqual([
      expect.objectContaining({ mesh: 'networkpolicy', objects: 1 }),
    ]);
    store.put(trustDomain());
    await pass(clock);
    expect(objects.names()).toEqual(OBJECTS);
    kinds.set(served('networkpolicy'));
    await pass(clock);
    expect(objects.owners()).toEqual([]);
    expect(ready(store, 'payments/access')).toMatch(/^True Compiled: .*no mesh/);
  });

  it('are rendered for the meshes as the TrustDomain says that these are installed, also when it says otherwise', async () => {
    const store = payments();
    const objects = new FakeObjects();
    const { clock, logger } = start(store, objects, served('istio'));
    await pass(clock);
    expect(objects.owners()).toContain('istio/istio-system');
    store.put(trustDomain({ meshOptions: { istio: { rootNamespace: 'mesh-root' } } }));
    await pass(clock);
    expect(objects.owners()).toContain('istio/mesh-root');
    expect(objects.owners()).not.toContain('istio/istio-system');
    // One that cannot be used leaves what is applied.
    store.put(trustDomain({ meshOptions: { linkerd: { probeNetworks: ['10.0.0.0/99'] } } }));
    await pass(clock);
    expect(objects.owners()).toContain('istio/mesh-root');
    store.put(trustDomain());
    await pass(clock);
    expect(objects.owners()).toContain('istio/istio-system');
    expect(objects.owners()).not.toContain('istio/mesh-root');
    expect(logger.lines).toEqual([]);
  });

  it('begin and end at the very instant', async () => {
    const store = payments();
    const from = new Date(START + 3_600_000).toISOString();
    const until = new Date(START + 7_200_000).toISOString();
    store.put(policy('payments/access', 'api', { validity: { from, until } }));
    const objects = new FakeObjects();
    const { clock } = start(store, objects, served('istio'));
    const opens = (): boolean =>
      (objects.applied.get('istio/payments') ?? []).some(
        (one) => (one as { readonly spec?: { readonly rules?: unknown } }).spec?.rules !== undefined,
      );
    await pass(clock);
    expect(opens()).toBe(false);
    expect(ready(store, 'payments/access')).toContain('False NotYetValid: spec.validity.from');
    await clock.advance(3_600_000 - 3_000 - 1);
    expect(opens()).toBe(false);
    await clock.advance(1);
    expect(opens()).toBe(true);
    expect(ready(store, 'payments/access')).toContain('True Compiled');
    await clock.advance(3_600_000 - 1);
    expect(opens()).toBe(true);
    // The clock is set forward over the end: it is seen within half a minute.
    clock.jump(60_000);
    await pass(clock, 31_000);
    expect(opens()).toBe(false);
    expect(ready(store, 'payments/access')).toContain('False Expired: spec.validity.until');
  });

  it('are applied once there is their namespace, though nothing else is other than before', async () => {
    const store = payments();
    const objects = new FakeObjects();
    let gone = true;
    objects.fail = (owner) =>
      gone && owner === 'istio/istio-system'
        ? [{ object: 'o', code: 'NamespaceGone', message: 'there is none', retry: false }]
        : [];
    const { clock } = start(store, objects, served('istio'));
    await pass(clock, 30_000);
    expect(objects.owners()).toEqual(['istio/payments']);
    gone = false;
    store.put(object('Namespace', 'istio-system'));
    await clock.advance(0);
    expect(objects.names()).toEqual(OBJECTS);
  });

  it('of a mesh that renders all at once wait until the edits end', async () => {
    const store = payments();
    store.put(trustDomain({ meshes: ['opa'] }));
    const objects = new FakeObjects();
    const { clock } = start(store, objects, served('opa'));
    await pass(clock);
    const text = (): string => JSON.stringify([...objects.applied.values()]);
    const calls = objects.calls.length;
    for (let edit = 0; edit < 10; edit++) {
      store.put(policy('payments/access', 'api', {}, [{ name: `rule-${edit}`, from: anyone }]));
      await clock.advance(100);
    }
    expect(objects.calls).toHaveLength(calls);
    await pass(clock, 3_000);
    expect(objects.calls).toHaveLength(calls + 1);
    expect(text()).toContain('rule-9');
  });
});

describe('statuses', () => {
  it('name the field and the fix of what cannot be compiled, and its objects close the target', async () => {
    const store = payments();
    const broken = [{ name: 'r', from: [{ spiffeIDs: ['https://x'] }] }];
    store.put(policy('payments/access', 'api', {}, broken));
    const objects = new FakeObjects();
    const { clock, events } = start(store, objects, served('istio'));
    await pass(clock);
    expect(ready(store, 'payments/access')).toMatch(
      /^False Invalid: spec\.rules\[0\]\.from\[0\]\.spiffeIDs\[0\]: .*its target denies everything$/,
    );
    expect(events).toMatchObject([{ type: 'Warning', reason: 'Invalid' }]);
    store.put(policy('payments/access', 'api'));
    await pass(clock);
    expect(ready(store, 'payments/access')).toContain('True Compiled');
    expect(events).toMatchObject([{ reason: 'Invalid' }, { type: 'Normal', reason: 'Compiled' }]);
  });

  it('tell of a policy that begins, also where there is no mesh', async () => {
    const store = payments();
    const from = new Date(START + 3_600_000).toISOString();
    store.put(policy('payments/access', 'api', { validity: { from } }));
    const { clock } = start(store, new FakeObjects(), served());
    await pass(clock);
    expect(ready(store, 'payments/access')).toContain('False NotYetValid');
    await clock.advance(3_600_000 - 3_000);
    expect(ready(store, 'payments/access')).toMatch(/^True Compiled: .*no mesh/);
  });

  it('are written once, and not when nothing differs, after a restart neither', async () => {
    const store = payments();
    store.put(object('AccessRole', 'reader', { spec: { permissions: [{ ports: [80] }] } }));
    const objects = new FakeObjects();
    const first = start(store, objects, served('istio'));
    await pass(first.clock);
    expect(store.written.map(({ kind }) => kind).sort()).toEqual(['AccessPolicy', 'AccessRole']);
    store.put(policy('payments/access', 'api'));
    objects.drift('istio/payments');
    await pass(first.clock);
    await first.end();
    const second = start(store, objects, served('istio'));
    await pass(second.clock, 60_000);
    expect(store.written).toHaveLength(2);
  });

  it('count the pods, gathered for a while', async () => {
    const store = payments();
    const { clock } = start(store, new FakeObjects(), served('istio'));
    await pass(clock);
    const writes = store.written.length;
    for (let index = 2; index < 30; index++) {
      store.put(pod(`payments/p-${index}`, 'api'));
      await clock.advance(20);
    }
    store.put(object('Pod', 'payments/other'));
    store.remove(pod('payments/p-2', 'api'));
    await pass(clock, 6_000);
    expect(store.status('AccessPolicy', 'payments/access')).toMatchObject({ podsProtected: 28 });
    expect(store.written.length - writes).toBeLessThanOrEqual(2);
  });

  it('tell who can be nobody, which roles are missing, and how faithful a mesh is', async () => {
    const store = payments();
    store.put(
      policy('payments/access', 'api', {}, [
        { name: 'a', from: [{ serviceAccounts: [{ name: 'nobody' }] }], roles: [{ name: 'writer' }] },
        { name: 'b', from: anyone, to: [{ http: { query: [{ name: 'q', values: ['1'] }] } }] },
      ]),
      object('AccessRole', 'reader', { spec: { includes: ['editor'] } }),
      object('AccessRole', 'editor', { spec: { includes: ['reader'] } }),
    );
    const { clock } = start(store, new FakeObjects(), served('istio'));
    await pass(clock);
    expect(ready(store, 'payments/access')).toBe(
      'False RoleMissing: spec.rules[0].roles[0]: there is no AccessRole writer; declare it, or take it out',
    );
    expect(store.status('AccessPolicy', 'payments/access')).toMatchObject({
      unheldPrincipals: [
        expect.stringContaining('rule "a": nobody can hold service account payments/nobody') as unknown,
      ],
      renderings: [
        {
          ...{ mesh: 'istio', fidelity: 'Narrower' },
          reasons: expect.arrayContaining([expect.stringMatching(/^rule "b": .*query/)]) as unknown,
        },
      ],
    });
    const role = store.status('AccessRole', 'reader') as AccessRoleStatus;
    expect(role.conditions).toMatchObject([{ status: 'False', reason: 'Invalid' }]);
    expect(role.conditions?.[0]?.message).toContain('role "reader" includes itself');
    store.put(object('AccessRole', 'writer', { spec: { permissions: [{ ports: [80] }] } }));
    await pass(clock);
    expect(ready(store, 'payments/access')).toContain('True Compiled');
    expect(store.status('AccessRole', 'writer')).toMatchObject({ permissions: 1, policies: 1 });
  });

  it('say which right is missing, the log and the TrustDomain once for the mesh, until it is given', async () => {
    const store = payments();
    store.put(object('Namespace', 'shop'), pod('shop/s', 'web'), policy('shop/access', 'web'));
    const objects = new FakeObjects();
    const rule = `add to Signet's ClusterRole: {apiGroups: ["security.istio.io"], resources: ["authorizationpolicies"]}`;
    objects.fail = (_, desired) =>
      desired.map(({ apiVersion, kind, metadata }) => ({
        object: `${apiVersion} ${kind} ${metadata.namespace ?? ''}/${metadata.name}`,
        code: 'Forbidden',
        message: `${rule} (${metadata.name} is forbidden)`,
        retry: true,
      }));
    const { clock, logger, events } = start(store, objects, served('istio'));
    await pass(clock, 40_000);
    for (const path of ['payments/access', 'shop/access']) expect(ready(store, path)).toContain(rule);
    expect(ready(store, 'shop/access')).toMatch(/^False Forbidden: security\.istio\.io\/v1 Authoriz/);
    expect(logger.lines).toEqual(['warn objects of a mesh cannot be applied']);
    expect(events.filter(({ regarding }) => regarding.kind === 'TrustDomain')).toMatchObject([
      { reason: 'MeshForbidden', note: `istio: ${rule}` },
    ]);
    const writes = store.written.length;
    objects.fail = () => [];
    await pass(clock, 40_000);
    expect(ready(store, 'shop/access')).toContain('True Compiled');
    expect(store.written).toHaveLength(writes + 2);
  });

  it('name a mesh that there is not, and one whose CRDs are missing', async () => {
    const store = payments();
    store.put(trustDomain({ meshes: ['istoi', 'linkerd'] }));
    const { clock } = start(store, new FakeObjects(), served('istio'));
    await pass(clock);
    expect(ready(store, 'payments/access')).toMatch(/^False MeshMissing: .*did you mean istio\?; .*linkerd/);
  });

  it('ask first where a mesh would close the whole cluster', async () => {
    const store = payments();
    const objects = new FakeObjects();
    const { clock, kinds } = start(store, objects, served('cilium'));
    await pass(clock);
    expect(objects.calls).toEqual([]);
    expect(ready(store, 'payments/access')).toMatch(
      /^False MeshNotAsked: not rendered for cilium: .*DNS too/,
    );
    kinds.set(served('cilium', 'istio'));
    await pass(clock);
    expect(ready(store, 'payments/access')).toMatch(
      /^True Compiled: .*istio \(exact\); not rendered for cil/,
    );
    store.put(trustDomain({ meshes: ['cilium'] }));
    await pass(clock);
    expect(objects.names()).toContain('CiliumClusterwideNetworkPolicy /default-deny');
    store.put(trustDomain({ defaultAction: 'Allow' }));
    await pass(clock);
    expect(ready(store, 'payments/access')).toMatch(/^True Compiled: .*cilium.*, istio/);
    expect(objects.names().filter((name) => name.includes('default-deny'))).toEqual([]);
    // Taking its objects back would open what they close.
    store.put(trustDomain());
    await pass(clock);
    objects.drift('cilium/payments');
    await pass(clock);
    expect(ready(store, 'payments/access')).toMatch(/^True Compiled: .*; not rendered for cilium/);
    expect(objects.owners()).toContain('cilium/payments');
  });

  it('are tried again when they could not be written', async () => {
    const store = payments();
    store.failWrites = 3;
    const { clock } = start(store, new FakeObjects(), served('istio'));
    await pass(clock, 10_000);
    expect(ready(store, 'payments/access')).toContain('True Compiled');
  });
});
