import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { buildProgram, runProgram } from '../../src/cli/program.js';
import { createRegistrationIndex } from '../../src/identity/registration/registration-index.js';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { SIGNET_KINDS, type SignetKind } from '../../src/resources/kinds.js';
import type { AccessPolicyStatus } from '../../src/resources/policy.js';
import type { ObjectEvent } from '../../src/server/controllers/controller-events.js';
import { createAccessController } from '../../src/server/controllers/access/controller.js';
import { MESH_KINDS } from '../../src/server/controllers/access/meshes.js';
import { createRegistrationController } from '../../src/server/registrations.js';
import { createAppliedSet } from '../../src/store/kubernetes/applied-set.js';
import { createDiscovery } from '../../src/store/kubernetes/discovery.js';
import { createKubernetesStore } from '../../src/store/kubernetes/kubernetes-store.js';
import { createObjectWriter } from '../../src/store/kubernetes/object-writer.js';
import { podTrimmer } from '../../src/store/kubernetes/trim.js';
import { NAMESPACE, POD, signetType } from '../../src/store/kubernetes/types.js';
import { startControlPlane, type AuditEntry, type ControlPlane } from '../rig/control-plane.js';
import { newKubeClient, type KubeClient, type KubeCredentials } from '../rig/kube-client.js';
import * as rig from '../rig/rig.js';
import { apiClient } from '../support/api-client.js';
import { recordingLogger } from '../support/recording-logger.js';
import { until } from '../support/until.js';

/* The controller of policies against a real API server that has the CRDs of meshes, and nothing else of them. */

const SIGNET = '/apis/signet.dev/v1alpha1';
const ISTIO = '/apis/security.istio.io/v1';

interface Object {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly ownerReferences?: readonly { readonly name: string }[];
  };
  readonly spec: Readonly<Record<string, unknown>>;
}

/** What is applied. */
interface Applied {
  readonly [field: string]: unknown;
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly [field: string]: unknown;
    readonly name: string;
    readonly namespace?: string;
  };
}

const PLURALS: Readonly<Record<string, string>> = {
  AccessPolicy: 'accesspolicies',
  ClusterAccessPolicy: 'clusteraccesspolicies',
};

/** A server that leads, as far as policies are concerned. */
interface Term {
  readonly events: readonly ObjectEvent[];
  readonly logged: readonly string[];
  end(): Promise<void>;
}

(rig.isSkipped('kubernetes') || rig.isSkipped('istio') ? describe.skip : describe)(
  'policies on a real API server',
  () => {
    let plane: ControlPlane;
    let client: KubeClient;
    const terms: Term[] = [];

    beforeAll(async () => {
      plane = await startControlPlane({ audit: true, controllerManager: true });
      client = newKubeClient(plane.server, plane.admin);
      await kubectl('apply', '--server-side', '-f', 'crds');
      await kubectl('wait', '--for=condition=Established', '--timeout=60s', 'crd', '--all');
      await kubectl('create', 'namespace', 'istio-system');
    }, rig.rigTimeout);
    afterAll(async () => {
      client?.close();
      await plane?.close();
    });
    beforeEach(async () => {
      await install(await rig.crds('istio'));
    }, 60_000);
    afterEach(async () => {
      await Promise.all(terms.splice(0).map((term) => term.end()));
      for (const kind of ['trustdomains', 'clusteraccesspolicies', 'accessroles'])
        await plane.request('DELETE', `${SIGNET}/${kind}`);
      for (const [root, kind] of [
        [SIGNET, 'accesspolicies'],
        [ISTIO, 'authorizationpolicies'],
      ] as const)
        for (const where of new Set(
          (await list(`${root}/${kind}`)).map(({ metadata }) => metadata.namespace),
        ))
          await plane.request('DELETE', `${root}/namespaces/${where ?? ''}/${kind}`);
    }, 60_000);

    const kubectl = async (...args: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await plane.kubectl(args);
      expect([code, stderr.includes('rror') ? stderr : '']).toEqual([0, '']);
      return stdout;
    };
    const install = async (file: string): Promise<void> => {
      await kubectl('apply', '--server-side', '-f', file);
      await kubectl('wait', '--for=condition=Established', '--timeout=60s', '-f', file);
    };
    /** As kubectl applies, without its limit of five a second. */
    const put = async (...objects: readonly Applied[]): Promise<void> => {
      for (const object of objects) {
        const { kind, apiVersion, metadata } = object;
        const plural = PLURALS[kind] ?? `${kind.toLowerCase()}s`;
        const root = apiVersion === 'v1' ? '/api/v1' : `/apis/${apiVersion}`;
        const within = metadata.namespace === undefined ? '' : `/namespaces/${metadata.namespace}`;
        const path = `${root}${within}/${plural}/${metadata.name}?fieldManager=kubectl&force=true`;
        const { status, body } = await client.request('PATCH', path, object, 'application/apply-patch+yaml');
        expect([status < 300, status < 300 ? '' : JSON.stringify(body)]).toEqual([true, '']);
      }
    };
    const list = async (path: string): Promise<readonly Object[]> => {
      const { body } = await plane.request('GET', path);
      return (body as { readonly items?: readonly Object[] }).items ?? [];
    };
    const istio = async (): Promise<ReadonlyMap<string, Object>> =>
      new Map(
        (await list(`${ISTIO}/authorizationpolicies`)).map((item) => [
          `${item.metadata.namespace ?? ''}/${item.metadata.name}`,
          item,
        ]),
      );
    const status = async (path: string): Promise<AccessPolicyStatus | undefined> => {
      const [namespace = '', name = ''] = path.split('/');
      const { body } = await plane.request('GET', `${SIGNET}/namespaces/${namespace}/accesspolicies/${name}`);
      return (body as { readonly status?: AccessPolicyStatus }).status;
    };
    const reason = async (path: string): Promise<string | undefined> =>
      (await status(path))?.conditions?.[0]?.reason;
    const writes = async (since: number): Promise<readonly AuditEntry[]> =>
      (await plane.auditLog()).filter(
        ({ userAgent, verb, stage, requestReceivedTimestamp }) =>
          userAgent === 'signet' &&
          stage === 'ResponseComplete' &&
          !['get', 'list', 'watch'].includes(verb) &&
          Date.parse(requestReceivedTimestamp) >= since,
      );

    const start = async (who: KubeCredentials = plane.admin, kinds = MESH_KINDS): Promise<Term> => {
      const logger = recordingLogger();
      const api = apiClient(plane.server, who);
      const parts = { api, clock: systemClock, random: systemRandom, logger };
      const fieldManager = 'signet';
      const writer = createObjectWriter({ api, fieldManager });
      const store = createKubernetesStore({
        ...{ ...parts, writer },
        kinds: [
          { type: NAMESPACE, metadataOnly: true },
          { type: POD, trim: podTrimmer() },
          ...(Object.keys(SIGNET_KINDS) as readonly SignetKind[]).map((kind) => ({ type: signetType(kind) })),
        ],
      });
      const stop = new AbortController();
      const running: Promise<void>[] = [store.run(stop.signal)];
      await until('the store is read', () => store.synced.value);
      const index = createRegistrationIndex({
        trustDomain: 'example.org',
        defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
        maxX509TtlSeconds: 86_400,
      });
      const registrations = createRegistrationController({ store, index, clock: systemClock, logger });
      const discovery = createDiscovery(parts);
      const events: ObjectEvent[] = [];
      const controller = createAccessController({
        ...{ store, registrations: index, clock: systemClock, random: systemRandom, logger },
        objects: createAppliedSet({ ...parts, writer, fieldManager, discovery, set: 'mesh', kinds }),
        served: discovery.types,
        events: { record: (event) => events.push(event) },
      });
      running.push(discovery.run(stop.signal), controller.run(stop.signal));
      const term: Term = {
        ...{ events, logged: logger.lines },
        async end() {
          stop.abort();
          await Promise.all(running);
          await registrations.close();
          api.close();
        },
      };
      terms.push(term);
      return term;
    };

    const trustDomain = (more: object = {}): Applied => ({
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'TrustDomain', metadata: { name: 'example.org' } },
      spec: { name: 'example.org', ...more },
    });
    const policy = (path: string, more: object = {}): Applied => {
      const [namespace = '', name = ''] = path.split('/');
      const rules = [{ name: 'all', from: [{ anyAuthenticated: true }] }];
      const target = { podSelector: { matchLabels: { app: name } } };
      return {
        ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'AccessPolicy', metadata: { namespace, name } },
        spec: { target, rules, ...more },
      };
    };
    const namespace = (name: string): Applied => ({
      ...{ apiVersion: 'v1', kind: 'Namespace', metadata: { name } },
    });
    const objectOf = (path: string): string => {
      const [space = '', name = ''] = path.split('/');
      return `${space}/access.${name}.0.0.allow`;
    };

    it('become what signet render prints; edits and deletions of others are undone; all goes with the policy', async () => {
      await kubectl('apply', '-f', 'examples/payments');
      await start();
      const printed = await rendered('examples/payments', 'istio');
      const wanted = printed.filter(({ kind }) => kind === 'AuthorizationPolicy');
      expect(wanted.length).toBeGreaterThan(1);
      const path = 'payments/payment-access';
      await until('the policy is ready', async () => (await reason(path)) === 'Compiled');
      // What is of the whole mesh has no policy whose status would tell of it.
      const names = JSON.stringify(wanted.map(nameOf).sort());
      const there = await until('exactly these objects are there', async () => {
        const now = await istio();
        return JSON.stringify([...now.keys()].sort()) === names ? now : undefined;
      });
      for (const one of wanted) {
        const { spec, metadata } = there.get(nameOf(one)) ?? {};
        expect(spec).toEqual(one.spec);
        expect(metadata).toMatchObject(one.metadata);
      }
      expect(await status(path)).toMatchObject({
        podsProtected: 1,
        renderings: [{ mesh: 'istio', fidelity: 'Exact', objects: 1 }],
      });
      const [mine] = wanted.filter(({ metadata }) => metadata.namespace === 'payments');
      const name = nameOf(mine ?? { metadata: { name: '' } });
      expect(there.get(name)?.metadata.ownerReferences).toMatchObject([{ name: 'payment-access' }]);

      const at = `${ISTIO}/namespaces/payments/authorizationpolicies/${name.split('/')[1] ?? ''}`;
      await plane.request('PATCH', at, { spec: { rules: [{}] } });
      await until('the edit is undone', async () => isSame((await istio()).get(name)?.spec, mine?.spec));
      await plane.request('DELETE', at);
      await until('it is back', async () => isSame((await istio()).get(name)?.spec, mine?.spec));
      // Another manager that takes fields over loses them again.
      const theirs = await plane.kubectl(
        ['apply', '--server-side', '--force-conflicts', '--field-manager=somebody', '-f', '-'],
        { stdin: JSON.stringify({ ...mine, spec: { action: 'ALLOW', rules: [{}] } }) },
      );
      expect(theirs.code).toBe(0);
      await until('the fields are taken back', async () =>
        isSame((await istio()).get(name)?.spec, mine?.spec),
      );

      await kubectl('delete', '-f', 'examples/payments/access.yaml');
      await until('it is gone', async () => !(await istio()).has(name));
      expect([...(await istio()).keys()]).toEqual(['istio-system/signet-default.allow']);
    }, 60_000);

    it('cost no write when nothing is other than it should be, after a restart neither', async () => {
      await put(trustDomain(), namespace('quiet'), namespace('loud'));
      await put(policy('quiet/one'), policy('quiet/two'), policy('loud/three'));
      const first = await start();
      await until('all are ready', async () =>
        (await Promise.all(['quiet/one', 'quiet/two', 'loud/three'].map(reason))).every(
          (one) => one === 'Compiled',
        ),
      );
      // What holds in the whole mesh belongs to no policy.
      const shared = '/apis/networking.istio.io/v1alpha3/namespaces/istio-system/envoyfilters';
      await until('so is the mesh', async () => (await list(shared)).length === 1);
      await settled();
      await first.end();
      const restarted = Date.now();
      const second = await start();
      await put(policy('loud/three', { mode: 'Audit' }));
      await until('the edit is seen', async () => (await reason('loud/three')) === 'Audited');
      await settled();
      const written = (await writes(restarted)).map(({ verb, objectRef }) => [verb, objectRef?.name]);
      expect(written.sort()).toEqual([
        ['patch', 'access.three.0.0.allow'],
        ['patch', 'three'],
      ]);
      // Pods of a workload that is there already, and then of a new one.
      const since = Date.now();
      await put(pod('quiet/a-1', 'one'), pod('quiet/a-2', 'one'));
      await until('they are counted', async () => (await status('quiet/one'))?.podsProtected === 2);
      await settled();
      expect((await writes(since)).map(({ objectRef }) => [objectRef?.resource, objectRef?.name])).toEqual([
        ['accesspolicies', 'one'],
      ]);
      await second.end();
    }, 60_000);

    it('follow the meshes: one whose CRDs come later, one that goes, and those that the TrustDomain names', async () => {
      await put(trustDomain(), namespace('late'), policy('late/one'), pod('late/one-1', 'one'));
      await start();
      const meshes = async (): Promise<readonly string[]> =>
        ((await status('late/one'))?.renderings ?? []).map(({ mesh }) => mesh);
      await until('istio is there', async () => isSame(await meshes(), ['istio']));
      await install(join('test', 'rig', 'crds', 'linkerd.yaml'));
      await until('linkerd is there', async () => isSame(await meshes(), ['istio', 'linkerd']));
      const servers = '/apis/policy.linkerd.io/v1beta3/namespaces/late/servers';
      await until('its objects are', async () => (await list(servers)).length === 1);
      await put(trustDomain({ meshes: ['istio', 'networkpolicy'] }));
      await until('linkerd is left', async () => isSame(await meshes(), ['istio', 'networkpolicy']));
      await until('its objects are gone', async () => (await list(servers)).length === 0);
      const policies = '/apis/networking.k8s.io/v1/namespaces/late/networkpolicies';
      await until('a NetworkPolicy is there', async () => (await list(policies)).length > 0);
      await put(trustDomain({ meshes: ['istio'] }));
      await until('it is gone', async () => (await list(policies)).length === 0);
      const root = (name: string): Promise<boolean> =>
        list(`${ISTIO}/namespaces/${name}/authorizationpolicies`).then(({ length }) => length > 0);
      expect(await root('istio-system')).toBe(true);
      await put(namespace('mesh-root'));
      await put(trustDomain({ meshes: ['istio'], meshOptions: { istio: { rootNamespace: 'mesh-root' } } }));
      await until('it is rendered for the root namespace', () => root('mesh-root'));
      await until('and not for another', async () => !(await root('istio-system')));
      await put(trustDomain({ meshes: ['istio'] }));
      await until('it is back', async () => (await root('istio-system')) && !(await root('mesh-root')));
      await kubectl('delete', '-f', join('test', 'rig', 'crds', 'linkerd.yaml'));
      await kubectl('delete', 'crd', 'authorizationpolicies.security.istio.io');
      await until('istio is missed', async () => (await reason('late/one')) === 'MeshMissing');
      await install(await rig.crds('istio'));
      await until('and found again', async () => (await istio()).has(objectOf('late/one')));
      await until('which is told', async () => (await reason('late/one')) === 'Compiled');
    }, 90_000);

    it('are rendered for Cilium too, where a namespaced policy owns nothing that has no namespace', async () => {
      await install(await rig.crds('cilium'));
      await put(trustDomain({ meshes: ['cilium'] }), namespace('net'), pod('net/one-1', 'one'));
      await put(policy('net/one'), {
        ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'ClusterAccessPolicy', metadata: { name: 'all' } },
        spec: { tier: 'Baseline', target: {}, rules: [{ name: 'r', from: [{ namespaces: ['net'] }] }] },
      });
      await start();
      await until('it is ready', async () => (await reason('net/one')) === 'Compiled');
      const objects = await list('/apis/cilium.io/v2/ciliumnetworkpolicies');
      const printed = await list('/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies');
      expect(objects.length).toBeGreaterThan(0);
      for (const { metadata } of [...objects, ...printed]) {
        expect(metadata.ownerReferences).toBeUndefined();
        expect(metadata.labels).toMatchObject({ 'app.kubernetes.io/managed-by': 'signet' });
      }
      await kubectl('delete', 'accesspolicy', '-n', 'net', 'one');
      await kubectl('delete', 'clusteraccesspolicy', 'all');
      await put(trustDomain({ meshes: ['cilium'], defaultAction: 'Allow' }));
      await until('nothing is left', async () => {
        const left = await Promise.all(
          ['ciliumnetworkpolicies', 'ciliumclusterwidenetworkpolicies'].map((kind) =>
            list(`/apis/cilium.io/v2/${kind}`),
          ),
        );
        return left.flat().length === 0;
      });
      // Nobody waits for the API server to forget them, which may take it long.
      await kubectl('delete', '--wait=false', '-f', await rig.crds('cilium'));
    }, 60_000);

    it('begin and end by themselves, the end also where the server was away meanwhile', async () => {
      await put(trustDomain(), namespace('soon'));
      const first = await start();
      const from = new Date(Date.now() + 4_000);
      const end = new Date(from.getTime() + 4_000);
      const validity = { from: from.toISOString(), until: end.toISOString() };
      await put(policy('soon/one', { validity }), policy('soon/two', { validity: { from: validity.from } }));
      await until('it waits', async () => (await reason('soon/one')) === 'NotYetValid');
      const opens = async (path: string): Promise<boolean> =>
        (await istio()).get(objectOf(path))?.spec['rules'] !== undefined;
      expect(await opens('soon/one')).toBe(false);
      await until('it begins', () => opens('soon/one'));
      expect(Date.now() - from.getTime()).toBeGreaterThanOrEqual(0);
      expect(Date.now() - from.getTime()).toBeLessThan(2_000);
      await until('the other does', () => opens('soon/two'));
      await first.end();
      await until('it is over', () => Date.now() > end.getTime() + 200);
      expect(await opens('soon/one')).toBe(true);
      await start();
      await until('it ends', async () => !(await opens('soon/one')));
      await until('which is told', async () => (await reason('soon/one')) === 'Expired');
      expect(await opens('soon/two')).toBe(true);
    }, 60_000);

    it('go with their namespace in the midst of it, and come back with it', async () => {
      await put(trustDomain(), namespace('brief'));
      const term = await start();
      const paths = Array.from({ length: 40 }, (_, index) => `brief/p${index}`);
      await put(...paths.map((path) => policy(path)));
      await until('some are applied', async () => [...(await istio()).keys()].some(isIn('brief')));
      await kubectl('delete', 'namespace', 'brief', '--wait=true');
      await until('all are gone', async () => ![...(await istio()).keys()].some(isIn('brief')));
      await put(namespace('brief'), policy('brief/again'));
      await until('what is new is there', async () => (await istio()).has(objectOf('brief/again')));
      expect([...(await istio()).keys()].filter(isIn('brief'))).toEqual([objectOf('brief/again')]);
      expect(term.logged.filter((line) => line.startsWith('error'))).toEqual([]);
    }, 90_000);

    it('are gone on with by whoever leads next: nothing is missing and nothing left over', async () => {
      await put(trustDomain(), namespace('shift'));
      const paths = Array.from({ length: 60 }, (_, index) => `shift/p${index}`);
      await put(...paths.map((path) => policy(path)));
      const first = await start();
      await until('the first has begun', async () => [...(await istio()).keys()].some(isIn('shift')));
      await first.end();
      await kubectl(
        'delete',
        'accesspolicy',
        '-n',
        'shift',
        ...paths.slice(0, 20).map((path) => path.slice(6)),
      );
      await start();
      const wanted = paths.slice(20).map(objectOf).sort();
      await until('all is as it should be', async () =>
        isSame([...(await istio()).keys()].filter(isIn('shift')).sort(), wanted),
      );
    }, 90_000);

    it('say which right is missing for one mesh, and go on with the other; given it, they go on by themselves', async () => {
      await install(join('test', 'rig', 'crds', 'linkerd.yaml'));
      await put(trustDomain(), namespace('rights'), policy('rights/one'), pod('rights/one-1', 'one'));
      const rule = (apiGroups: readonly string[], verbs: readonly string[]): object => ({
        ...{ apiGroups, verbs, resources: ['*'] },
      });
      const role = (name: string, ...rules: readonly object[]): readonly Applied[] => [
        {
          ...{ apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRole', metadata: { name } },
          rules,
        },
        {
          ...{ apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRoleBinding', metadata: { name } },
          roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name },
          subjects: [{ kind: 'ServiceAccount', namespace: 'rights', name: 'signet' }],
        },
      ];
      const account = { namespace: 'rights', name: 'signet' };
      await put(
        { apiVersion: 'v1', kind: 'ServiceAccount', metadata: account },
        ...role(
          'signet',
          rule(['', 'apiextensions.k8s.io'], ['get', 'list', 'watch']),
          rule(['signet.dev'], ['get', 'list', 'watch', 'patch']),
          rule(['policy.linkerd.io'], ['*']),
        ),
      );
      const token = await plane.serviceAccountToken(account);
      const term = await start({ ca: plane.admin.ca, token });
      await until('it is told', async () => (await reason('rights/one')) === 'Forbidden');
      expect((await status('rights/one'))?.conditions?.[0]?.message).toContain(
        `add to Signet's ClusterRole: {apiGroups: ["security.istio.io"], resources: ["authorizationpolicies"]`,
      );
      expect(term.events.filter(({ reason: why }) => why === 'MeshForbidden')).toHaveLength(1);
      await until(
        'linkerd has its objects',
        async () => (await list('/apis/policy.linkerd.io/v1beta3/namespaces/rights/servers')).length === 1,
      );
      await put(
        ...role(
          'signet-istio',
          rule(['security.istio.io', 'networking.istio.io', 'extensions.istio.io'], ['*']),
        ),
      );
      await until('it goes on', async () => (await reason('rights/one')) === 'Compiled', 60_000);
      expect((await istio()).has(objectOf('rights/one'))).toBe(true);
      await kubectl('delete', '-f', join('test', 'rig', 'crds', 'linkerd.yaml'));
    }, 120_000);

    const pod = (path: string, app: string): Applied => {
      const [space = '', name = ''] = path.split('/');
      return {
        ...{ apiVersion: 'v1', kind: 'Pod', metadata: { namespace: space, name, labels: { app } } },
        spec: { containers: [{ name: 'a', image: 'a', ports: [{ containerPort: 8080 }] }] },
      };
    };
    /** Long enough for everything that is gathered for a while. */
    const settled = async (): Promise<void> => {
      const from = performance.now();
      await until('a while has passed', () => performance.now() - from > 3_000);
    };
  },
);

interface Printed {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec: object;
}

/** What `signet render` prints. */
async function rendered(folder: string, mesh: string): Promise<readonly Printed[]> {
  let out = '';
  const io = {
    clock: systemClock,
    environment: {},
    stdout: (text: string) => void (out += text),
    stderr: () => undefined,
    signal: new AbortController().signal,
  };
  expect(await runProgram(buildProgram(io, 'test'), ['render', folder, '--mesh', mesh], io)).toBe(0);
  return parseAllDocuments(out).map((document) => document.toJS() as Printed);
}

const nameOf = ({ metadata: { namespace = '', name } }: Pick<Printed, 'metadata'>): string =>
  `${namespace}/${name}`;
const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
const isIn =
  (namespace: string) =>
  (path: string): boolean =>
    path.startsWith(`${namespace}/`);

/** With the fields of objects in order. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, part]) => [name, sorted(part)]),
  );
}
