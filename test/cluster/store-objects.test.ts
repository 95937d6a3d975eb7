import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { CONFIG_MAP, POD, signetType } from '../../src/store/kubernetes/types.js';
import { podTrimmer } from '../../src/store/kubernetes/trim.js';
import { startControlPlane, type AuditEntry, type ControlPlane } from '../rig/control-plane.js';
import { newKubeClient, type KubeAnswer, type KubeClient } from '../rig/kube-client.js';
import * as rig from '../rig/rig.js';
import { startStore, type StoreWorld, type StoreWorldOptions } from '../support/store-world.js';
import { until } from '../support/until.js';

const LONG = 180_000;
const PODS = '/api/v1/namespaces/shop/pods';
const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const IDENTITIES = '/apis/signet.dev/v1alpha1/namespaces/shop/workloadidentities';
const IDENTITY = { type: signetType('WorkloadIdentity') };
/** Shared by all stores, so that what they keep can be compared. */
const trim = podTrimmer();

interface Crd {
  readonly spec: { readonly versions: { schema: { openAPIV3Schema: Schema } }[] };
}
interface Schema {
  readonly type?: string;
  properties?: Readonly<Record<string, Schema>>;
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('the store, and what it is about', () => {
  let plane: ControlPlane;
  let admin: KubeClient;
  const worlds: StoreWorld[] = [];

  beforeAll(async () => {
    plane = await startControlPlane({ audit: true });
    admin = newKubeClient(plane.server, plane.admin);
    for (const name of ['shop', 'signet'])
      await made('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
    for (const [namespace, name] of [
      ['shop', 'default'],
      ['signet', 'signet'],
    ] as const)
      await made(`/api/v1/namespaces/${namespace}/serviceaccounts`, {
        ...{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } },
      });
  }, rig.rigTimeout);
  afterEach(async () => {
    await Promise.all(worlds.splice(0).map((world) => world.end()));
  });
  afterAll(async () => {
    admin?.close();
    await plane?.close();
  });

  const made = async (path: string, object: unknown): Promise<KubeAnswer> => {
    const answer = await admin.request('POST', path, object);
    expect([answer.status, (answer.body as { readonly message?: string }).message]).toEqual([201, undefined]);
    return answer;
  };
  const start = (options: Partial<StoreWorldOptions>): StoreWorld => {
    const world = startStore({ plane, kinds: [IDENTITY], ...options });
    worlds.push(world);
    return world;
  };
  const synced = async (options: Partial<StoreWorldOptions>): Promise<StoreWorld> => {
    const world = start(options);
    await until('the store is synced', () => world.store.synced.value, 60_000);
    return world;
  };
  const crd = (name: string): Crd =>
    parse(readFileSync(join(import.meta.dirname, '../../crds', `${name}.yaml`), 'utf8')) as Crd;
  const identity = (name: string): object => ({
    ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'WorkloadIdentity' },
    ...{ metadata: { name, namespace: 'shop' }, spec: { serviceAccountNames: ['default'] } },
  });
  const pod = (name: string, annotations: object = {}): object => ({
    ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'shop', annotations } },
    spec: {
      serviceAccountName: 'default',
      automountServiceAccountToken: false,
      containers: [{ name: 'app', image: 'registry.example/app:1' }],
    },
  });
  const writes = async (since: number): Promise<readonly AuditEntry[]> =>
    (await plane.auditLog()).filter(
      ({ userAgent, verb, requestReceivedTimestamp }) =>
        userAgent === 'signet' &&
        ['create', 'update', 'patch', 'delete'].includes(verb) &&
        Date.parse(requestReceivedTimestamp) >= since,
    );

  it(
    'says once that a CRD is missing, serves the rest meanwhile, and goes on when it is installed, an older one too',
    async () => {
      const world = start({ kinds: [IDENTITY, { type: CONFIG_MAP, namespace: 'shop' }] });
      await until('config maps are read', () => world.lists('ConfigMap') === 1);
      await until('it is tried again', () => world.failures().length >= 2, 30_000);
      expect(world.store.waitingFor).toEqual(['WorkloadIdentity']);
      expect(world.store.synced.value).toBe(false);
      expect(world.log.lines).toEqual([
        "warn the API server does not serve workloadidentities.signet.dev v1alpha1; install Signet's CRDs (kubectl apply -f crds/)",
      ]);
      // One that knows nothing of the status's fields.
      const older = crd('workloadidentities');
      for (const { schema } of older.spec.versions)
        schema.openAPIV3Schema.properties = {
          ...schema.openAPIV3Schema.properties,
          ...{ status: { type: 'object', properties: { podsSelected: { type: 'integer' } } } },
        };
      await made(CRDS, older);
      await until('the store is synced', () => world.store.synced.value, 30_000);
      await made(IDENTITIES, identity('web'));
      await until('it is seen', () => world.store.get('WorkloadIdentity', 'shop/web'));

      // What the older one drops is written once, not again and again.
      const status = { podsSelected: 3, svidsIssued: 2 };
      await world.store.writeStatus('WorkloadIdentity', 'shop/web', status);
      expect(world.store.status('WorkloadIdentity', 'shop/web')).toEqual({ podsSelected: 3 });
      const since = Date.now();
      for (let round = 0; round < 5; round++)
        await world.store.writeStatus('WorkloadIdentity', 'shop/web', status);
      // What is written later shows that the log has come so far.
      await world.store.writeStatus('WorkloadIdentity', 'shop/web', { podsSelected: 4 });
      await until('the write is in the log', async () => (await writes(since)).length > 0);
      expect((await writes(since)).map(({ verb }) => verb)).toEqual(['patch']);
      expect(world.log.lines.at(-1)).toContain('the CRD of WorkloadIdentity does not know all');
      expect(await world.settled()).toEqual([]);
      await admin.request('PUT', `${CRDS}/workloadidentities.signet.dev`, {
        ...((await admin.request('GET', `${CRDS}/workloadidentities.signet.dev`)).body as object),
        spec: crd('workloadidentities').spec,
      });
    },
    LONG,
  );

  it(
    'says once which right it lacks, with the rule to add, and goes on when it is given',
    async () => {
      const token = await plane.serviceAccountToken({ namespace: 'signet', name: 'signet' });
      const world = start({
        kinds: [{ type: POD, trim }],
        who: { ca: plane.admin.ca, token },
      });
      await until('it is tried again', () => world.failures().length >= 2, 30_000);
      expect(new Set(world.failures())).toEqual(new Set(['ApiForbidden']));
      expect(world.log.lines).toEqual([
        'warn pods cannot be read: RBAC forbids it; add to Signet\'s ClusterRole: {apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"]}',
      ]);
      const rbac = '/apis/rbac.authorization.k8s.io/v1';
      const apiVersion = 'rbac.authorization.k8s.io/v1';
      await made(`${rbac}/clusterroles`, {
        ...{ apiVersion, kind: 'ClusterRole', metadata: { name: 'reads-pods' } },
        rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['get', 'list', 'watch'] }],
      });
      await made(`${rbac}/clusterrolebindings`, {
        ...{ apiVersion, kind: 'ClusterRoleBinding', metadata: { name: 'reads-pods' } },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'reads-pods' },
        subjects: [{ kind: 'ServiceAccount', namespace: 'signet', name: 'signet' }],
      });
      await until('the store is synced', () => world.store.synced.value, 20_000);
      expect(await world.settled()).toEqual([]);
    },
    LONG,
  );

  it(
    'keeps nothing of a long annotation, and takes a config map of 1 MB',
    async () => {
      const world = await synced({
        kinds: [
          { type: POD, trim },
          { type: CONFIG_MAP, namespace: 'shop' },
        ],
      });
      expect((await admin.request('POST', PODS, pod('fat', { fat: 'x'.repeat(1_000_000) }))).status).toBe(
        422,
      );
      await made(PODS, pod('fat', { fat: 'x'.repeat(250_000), slim: 'y' }));
      await made('/api/v1/namespaces/shop/configmaps', {
        ...{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'fat', namespace: 'shop' } },
        data: { fat: '\u0000é"'.repeat(250_000) },
      });
      expect(await world.settled()).toEqual([]);
      expect(world.store.get('Pod', 'shop/fat')?.metadata.annotations).toEqual({ slim: 'y' });
      await admin.request('DELETE', '/api/v1/namespaces/shop/configmaps/fat');
    },
    LONG,
  );

  it(
    'tells of 5,000 pods deleted at once, each once, to two stores alike',
    async () => {
      const kinds = [{ type: POD, trim }];
      const [one, two] = [await synced({ kinds }), await synced({ kinds })];
      for (let from = 0; from < 5_000; from += 50)
        await Promise.all(Array.from({ length: 50 }, (_, at) => made(PODS, pod(`pod-${from + at}`))));
      expect(await one.settled()).toEqual([]);
      expect(one.store.list('Pod').length).toBeGreaterThanOrEqual(5_000);
      const before = one.changes.length;
      await admin.request('DELETE', `${PODS}?gracePeriodSeconds=0`);
      expect(await one.settled()).toEqual([]);
      expect(await two.settled()).toEqual([]);
      const ends = one.changes.slice(before).filter(({ after }) => after === undefined);
      expect(ends.length).toBe(new Set(ends.map(({ key }) => key)).size);
      expect([one.store.list('Pod'), two.store.list('Pod'), one.lists('Pod')]).toEqual([[], [], 1]);
    },
    LONG,
  );

  it(
    'writes a status when it differs and only then, after a restart too, whoever else writes',
    async () => {
      const name = 'quiet';
      const key = `shop/${name}`;
      const first = await synced({});
      await made(IDENTITIES, identity(name));
      await until('it is seen', () => first.store.get('WorkloadIdentity', key));
      const status = { podsSelected: 1, svidsIssued: 1 };
      let since = Date.now();
      for (let round = 0; round < 20; round++) await first.store.writeStatus('WorkloadIdentity', key, status);
      await until('the write is in the log', async () => (await writes(since)).length > 0);
      expect(await writes(since)).toHaveLength(1);
      await first.end();

      since = Date.now();
      const second = await synced({});
      await second.store.writeStatus('WorkloadIdentity', key, status);
      // Somebody else writes: it is known, and what differs is written again.
      const answer = await admin.request('PATCH', `${IDENTITIES}/${name}/status`, {
        status: { podsSelected: 9, svidsIssued: 7, failures: [{ pod: 'x', reason: 'y', message: 'z' }] },
      });
      expect(answer.status).toBe(200);
      await until('the other’s status is known', () => {
        const seen = second.store.status('WorkloadIdentity', key) as { readonly podsSelected: number };
        return seen.podsSelected === 9;
      });
      expect(await writes(since)).toEqual([]);
      await second.store.writeStatus('WorkloadIdentity', key, status);
      expect(second.store.status('WorkloadIdentity', key)).toEqual(status);
      expect(await second.settled()).toEqual([]);
      const { body } = await admin.request('GET', `${IDENTITIES}/${name}`);
      expect((body as { readonly status: unknown }).status).toEqual(status);
    },
    LONG,
  );

  it(
    'knows the truth when two write the same status against each other',
    async () => {
      const key = 'shop/fought';
      const [one, two] = [await synced({}), await synced({})];
      await made(IDENTITIES, identity('fought'));
      for (const { store } of [one, two]) await until('it is seen', () => store.get('WorkloadIdentity', key));
      for (let round = 0; round < 50; round++)
        await Promise.all(
          [one, two].map(({ store }, side) =>
            store.writeStatus('WorkloadIdentity', key, { podsSelected: 2 * round + side }),
          ),
        );
      const truth = (await admin.request('GET', `${IDENTITIES}/fought`)).body as { readonly status: unknown };
      for (const world of [one, two]) {
        await until('both know what is there', () => {
          const seen = world.store.status('WorkloadIdentity', key) as { readonly podsSelected: number };
          return seen.podsSelected === (truth.status as typeof seen).podsSelected;
        });
        expect(await world.settled()).toEqual([]);
      }
    },
    LONG,
  );

  it(
    'lets one alone of two write over what both have seen, where that is asked for',
    async () => {
      const key = 'shop/contested';
      const worlds = [await synced({}), await synced({})];
      await made(IDENTITIES, identity('contested'));
      let last: number | undefined;
      for (let round = 0; round < 20; round++) {
        for (const { store } of worlds) {
          await until('it is seen', () => store.get('WorkloadIdentity', key) !== undefined);
          await until('both have seen the last', () => {
            const seen = store.status('WorkloadIdentity', key) as
              { readonly podsSelected: number } | undefined;
            return seen?.podsSelected === last;
          });
        }
        const results = await Promise.allSettled(
          worlds.map(({ store }, side) =>
            store.writeStatus('WorkloadIdentity', key, { podsSelected: 2 * round + side }, { asSeen: true }),
          ),
        );
        const winner = results.findIndex(({ status }) => status === 'fulfilled');
        expect(results[1 - winner]).toMatchObject({ status: 'rejected', reason: { code: 'StatusConflict' } });
        last = 2 * round + winner;
        const { body } = await admin.request('GET', `${IDENTITIES}/contested`);
        expect((body as { readonly status: unknown }).status).toEqual({ podsSelected: last });
      }
      for (const world of worlds) expect(await world.settled()).toEqual([]);
    },
    LONG,
  );

  it(
    'does not write the status of an object that is gone, or another of its name',
    async () => {
      const world = await synced({});
      await made(IDENTITIES, identity('gone'));
      const seen = await until('it is seen', () => world.store.get('WorkloadIdentity', 'shop/gone'));
      await admin.request('DELETE', `${IDENTITIES}/gone`);
      await made(IDENTITIES, identity('gone'));
      // The store may not have heard of it yet; the API server is asked for the object that was seen.
      await world.store.writeStatus('WorkloadIdentity', 'shop/gone', { podsSelected: 1 });
      await until(
        'the other is seen',
        () => world.store.get('WorkloadIdentity', 'shop/gone')?.metadata.uid !== seen.metadata.uid,
      );
      await admin.request('DELETE', `${IDENTITIES}/gone`);
      await until('it is gone', () => world.store.get('WorkloadIdentity', 'shop/gone') === undefined);
      await world.store.writeStatus('WorkloadIdentity', 'shop/gone', { podsSelected: 1 });
      expect(await world.settled()).toEqual([]);
    },
    LONG,
  );
});
