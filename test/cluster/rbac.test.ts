import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import { makeKey } from '../../src/agent/key-maker.js';
import { startAgent } from '../../src/main/agent.js';
import { MESH_KINDS } from '../../src/server/controllers/access/meshes.js';
import { startControlPlane, type AuditEntry, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import {
  conditionOf,
  create,
  SECRETS,
  startClusterServer,
  SYSTEM,
  TRUST_DOMAINS,
  trustDomainStatusOf,
  type ClusterServer,
} from '../support/cluster-server.js';
import { recordingLogger } from '../support/recording-logger.js';
import { until } from '../support/until.js';

/*
 * The operator under exactly the rights of deploy/, through all that it does: nothing that it asks for may be forbidden, and
 * it must use all that it was given.
 */

const root = join(import.meta.dirname, '../..');
const SERVER = { namespace: SYSTEM, name: 'signet-server' };
const USER = `system:serviceaccount:${SERVER.namespace}:${SERVER.name}`;
const AGENTS = 'signet-agents';
const SIGNET = '/apis/signet.dev/v1alpha1';
const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

interface RoleObject {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly rules: readonly Rule[];
}

/** An object of a mesh. */
interface Made {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

const MESHES = ['istio', 'cilium', 'linkerd', 'kuma', 'gateway', 'networkpolicy'];
const PCR = '/apis/certificates.k8s.io/v1/namespaces/payments/podcertificaterequests';

/** One right: what may be done to what. */
interface Right {
  readonly verb: string;
  readonly resource: string;
}

/** What is right to have though this test does not come to it, and why. */
const UNUSED: ReadonlyMap<string, string> = new Map([
  [
    'signet-server: patch events.events.k8s.io',
    'an event that comes again is counted half a minute later: src/store/kubernetes/events.test.ts',
  ],
  [
    'signet-server-networkpolicy: update networkpolicies.networking.k8s.io',
    'needed only where somebody adds a field that is not ours, of which a NetworkPolicy has few',
  ],
  [
    'signet-server: get podcertificaterequests.certificates.k8s.io',
    'a request that holds a public key alone is of v1beta1: test/cluster/pod-certificates.test.ts',
  ],
]);

(rig.isSkipped('kubernetes') ? describe.skip : describe)('the rights of the server', () => {
  let plane: ControlPlane;
  let folder = '';
  let kubeconfig = '';
  const servers: ClusterServer[] = [];
  const stops: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sg-'));
    plane = await startControlPlane({ audit: true, controllerManager: true });
    for (const definition of meshDefinitions()) await create(plane, CRDS, definition);
    await kubectl('apply', '-f', join(root, 'crds'), '-f', join(root, 'deploy'));
    await kubectl('wait', '--for=condition=Established', 'crd', '--all', '--timeout=30s');
    kubeconfig = await plane.kubeconfigFor(SERVER);
    await kubectl('apply', '-f', join(root, 'examples/payments'));
  }, rig.rigTimeout);
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop();
    await Promise.all(servers.splice(0).map((server) => server.stop()));
  });
  afterAll(async () => {
    await plane?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const kubectl = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await plane.kubectl(args);
    if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  const ready = (): Promise<string> => conditionOf(plane, 'Ready', 'example.org');
  const launch = (identity: string): ClusterServer => {
    const server = startClusterServer(plane, identity, {
      connection: { kubeconfig },
      agentServiceAccount: { namespace: AGENTS, name: 'signet-agent' },
    });
    servers.push(server);
    return server;
  };
  const start = async (identity: string): Promise<ClusterServer> => {
    const server = launch(identity);
    let isReady = false;
    server.ready.then(
      () => (isReady = true),
      () => undefined,
    );
    await until(`the server ${identity}`, () => isReady, 30_000).catch(async (cause: unknown) => {
      const log = await plane.auditLog();
      throw new Error(`${forbidden(log.filter(ofServer)).join('\n')}\n${server.logger.lines.join('\n')}`, {
        cause,
      });
    });
    return server;
  };
  const ask = async (request: {
    readonly nonce: string;
    readonly action: string;
    readonly kind?: string;
  }): Promise<void> => {
    await plane.request('PATCH', `${TRUST_DOMAINS}/example.org`, {
      metadata: { annotations: { 'signet.dev/ca-request': JSON.stringify(request) } },
    });
    await until(`the request ${request.nonce}`, async () => {
      const { request: handled } = await trustDomainStatusOf(plane, 'example.org');
      return handled?.nonce === request.nonce && handled.outcome !== 'Running';
    });
  };
  const exists = async (path: string): Promise<boolean> => (await plane.request('GET', path)).status === 200;
  const gone = (path: string): Promise<unknown> =>
    until(`${path} is gone`, async () => !(await exists(path)));
  const there = (path: string): Promise<unknown> => until(`${path} is there`, () => exists(path));

  /** An agent on a node with a pod to serve, until its SVID has come. */
  const runAgent = async (port: number): Promise<void> => {
    const pods = `/api/v1/namespaces/${AGENTS}/pods`;
    await create(plane, '/api/v1/nodes', {
      metadata: { name: 'n1', labels: { 'kubernetes.io/os': 'linux' } },
    });
    const containers = [{ name: 'c', image: 'none' }];
    // Nobody but the controller of DaemonSets makes it. There is no scheduler here.
    const name = await until('the pod of the DaemonSet', async () => {
      const { items } = (await plane.request('GET', pods)).body as { readonly items: readonly Made[] };
      return items[0]?.metadata.name ?? false;
    });
    const bound = await plane.request('POST', `${pods}/${name}/binding`, {
      ...{ apiVersion: 'v1', kind: 'Binding', metadata: { name } },
      target: { apiVersion: 'v1', kind: 'Node', name: 'n1' },
    });
    if (bound.status !== 201) throw new Error(JSON.stringify(bound.body));
    for (const app of ['order', 'payment'])
      await create(plane, '/api/v1/namespaces/payments/pods', {
        metadata: { name: app, labels: { tier: 'backend', app: `${app}-service`, own: app } },
        spec: {
          serviceAccountName: `${app}-service`,
          nodeName: 'n1',
          containers,
          readinessGates: [{ conditionType: 'signet.dev/identity' }],
        },
      });
    const token = await plane.serviceAccountToken({
      ...{ namespace: AGENTS, name: 'signet-agent', audience: 'signet-server' },
      boundPod: { name },
    });
    const bundle = `/api/v1/namespaces/${AGENTS}/configmaps/signet-bundle`;
    await there(bundle);
    const { body } = await plane.request('GET', bundle);
    await writeFile(join(folder, 'token'), token);
    const { data } = body as { readonly data: Readonly<Record<string, string>> };
    await writeFile(join(folder, 'bundle.json'), data['bundle.json'] ?? '');
    const stop = new AbortController();
    const { agent, stopped } = await startAgent({
      server: { host: '127.0.0.1', port },
      tokenFile: join(folder, 'token'),
      bundleFile: join(folder, 'bundle.json'),
      ...{ clock: systemClock, random: systemRandom, logger: recordingLogger(), signal: stop.signal },
    });
    stops.push(async () => {
      stop.abort();
      await stopped;
    });
    await until('the SVIDs of the pods', () => agent.stats().svids === 2);
    await until('the pod knows', async () =>
      JSON.stringify((await plane.request('GET', '/api/v1/namespaces/payments/pods/order')).body).includes(
        'SvidIssued',
      ),
    );
  };

  it('are enough for all that it does, and no more than that', async () => {
    const first = await start('a');
    await until('signing', async () => (await ready()) === 'True Signing');
    const { address } = await first.ready;
    await runAgent(address.port);
    await until('the status of the identity', async () => {
      const { body } = await plane.request(
        'GET',
        `${SIGNET}/namespaces/payments/workloadidentities/payments`,
      );
      return (body as { readonly status?: { readonly podsSelected?: number } }).status !== undefined;
    });

    // Bundles: a namespace that asks, and asks no more.
    const map = '/api/v1/namespaces/asks/configmaps/signet-bundle';
    await kubectl('create', 'namespace', 'asks');
    await kubectl('label', 'namespace', 'asks', 'signet.dev/inject-bundle=true');
    await there(map);
    await kubectl('delete', 'configmap', 'signet-bundle', '-n', 'asks');
    await there(map);
    await plane.request('PATCH', map, { data: { more: 'edited-by-hand' } });
    await until('no edited bundle', async () => {
      const { body } = await plane.request('GET', map);
      return !JSON.stringify((body as { readonly data?: object }).data).includes('edited-by-hand');
    });
    await kubectl('label', 'namespace', 'asks', 'signet.dev/inject-bundle-');
    await gone(map);

    // A webhook of somebody's.
    for (const kind of ['Validating', 'Mutating']) {
      const path = `/apis/admissionregistration.k8s.io/v1/${kind.toLowerCase()}webhookconfigurations`;
      await create(plane, path, webhook());
      await until(`the bundle in the ${kind}WebhookConfiguration`, async () =>
        JSON.stringify((await plane.request('GET', `${path}/hook`)).body).includes('caBundle'),
      );
    }

    // A pod that the kubelet asks for.
    await create(plane, PCR, await certificateRequest());
    await until('the certificate', async () =>
      JSON.stringify((await plane.request('GET', `${PCR}/order`)).body).includes('certificateChain'),
    );

    // Policies, for every mesh that there is; edited by hand, repaired, deleted.
    await kubectl(
      'patch',
      'trustdomain',
      'example.org',
      '--type=merge',
      '-p',
      JSON.stringify({ spec: { meshes: MESHES } }),
    );
    await create(plane, `${SIGNET}/accessroles`, {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'AccessRole', metadata: { name: 'reader' } },
      spec: { permissions: [{ actions: ['read'] }] },
    });
    await create(plane, `${SIGNET}/clusteraccesspolicies`, {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'ClusterAccessPolicy', metadata: { name: 'probes' } },
      spec: {
        tier: 'Admin',
        target: { namespaces: ['payments'] },
        rules: [
          {
            name: 'keep-out',
            effect: 'Deny',
            from: [{ serviceAccounts: [{ namespace: 'asks', name: 'nobody' }] }],
          },
        ],
      },
    });
    await create(plane, `${SIGNET}/namespaces/payments/accesspolicies`, {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'AccessPolicy', metadata: { name: 'orders' } },
      spec: {
        target: { podSelector: { matchLabels: { own: 'order' } } },
        rules: [{ name: 'payments-may-ask', from: [{ serviceAccounts: [{ name: 'payment-service' }] }] }],
      },
    });
    await create(plane, `${SIGNET}/federatedtrustdomains`, {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'FederatedTrustDomain', metadata: { name: 'partner' } },
      spec: {
        trustDomain: 'partner.example',
        bundleEndpoint: { url: 'https://partner.example/bundle', profile: 'https_web' },
      },
    });
    const groupsOf = (all: readonly Made[]): readonly string[] => [
      ...new Set(all.map(({ apiVersion }) => apiVersion.split('/')[0] ?? '')),
    ];
    const all = await until('objects of each mesh', async () => {
      const present = await made();
      return groupsOf(present).length === MESHES.length && present;
    });
    for (const object of all) await edit(object);
    await until('no edited object', async () => !JSON.stringify(await made()).includes('edited-by-hand'));
    await kubectl('delete', 'accesspolicies,clusteraccesspolicies', '-A', '--all');
    await kubectl(
      'patch',
      'trustdomain',
      'example.org',
      '--type=merge',
      '-p',
      '{"spec":{"meshes":["istio"]}}',
    );
    await until('no object but those of istio', async () =>
      groupsOf(await made()).every((group) => /istio/.test(group)),
    );
    await kubectl(
      'patch',
      'trustdomain',
      'example.org',
      '--type=merge',
      '-p',
      '{"spec":{"meshes":["gateway"]}}',
    );
    await until('no object', async () => groupsOf(await made()).every((group) => /gateway/.test(group)));

    await create(plane, `${SIGNET}/revocations`, {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'Revocation', metadata: { name: 'stolen' } },
      spec: { subject: { pod: { namespace: 'payments', name: 'order' } }, reason: 'its node was stolen' },
    });
    await until('the status of the revocation', async () => {
      const { body } = await plane.request('GET', `${SIGNET}/revocations/stolen`);
      return 'status' in (body as object);
    });

    // Authorities: rotated, lost, and begun anew.
    await ask({ action: 'rotate', kind: 'jwt', nonce: 'one' });
    await create(plane, `${SIGNET}/clusterworkloadidentities`, {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'ClusterWorkloadIdentity', metadata: { name: 'all' } },
      spec: { fallback: true },
    });
    await until('the status of the identity of all', async () => {
      const { body } = await plane.request('GET', `${SIGNET}/clusterworkloadidentities/all`);
      return 'status' in (body as object);
    });
    const second = await start('b');
    await first.stop();
    await until('the second leads', async () => (await second.ready).leading.value);
    await ask({ action: 'rotate', kind: 'jwt', nonce: 'two' });

    await kubectl('delete', 'secret', 'signet-ca', '-n', SYSTEM);
    await until('the loss', async () => (await ready()).startsWith('False'));
    await ask({ action: 'begin-anew', nonce: 'three' });
    await until('signing anew', async () => (await ready()) === 'True Signing');
    // The key that seals them is lost, too, and a server starts.
    await second.stop();
    await kubectl('delete', 'secret', 'signet-key-encryption', '-n', SYSTEM);
    const key = Buffer.from(systemRandom.bytes(32)).toString('base64');
    await create(plane, SECRETS, { metadata: { name: 'signet-key-encryption' }, data: { key } });
    const third = launch('c');
    await until('the loss of the key', async () => (await ready()) === 'False KeyEncryptionWrong');
    await ask({ action: 'begin-anew', nonce: 'four' });
    await third.ready;

    const log = await settledAudit();
    expect(forbidden(log)).toEqual([]);
    const unused = unusedOf(await roles(), log);
    expect([...unused].sort()).toEqual([...UNUSED.keys()].sort());
  }, 180_000);

  /** What Signet has made of policies. */
  const made = async (): Promise<readonly Made[]> => {
    const kinds = MESH_KINDS.filter(({ group }) => group !== '')
      .map(({ kind, group }) => `${pluralOf(kind)}.${group}`)
      .join(',');
    const label = 'app.kubernetes.io/managed-by=signet';
    const { items } = JSON.parse(await kubectl('get', kinds, '-A', '-l', label, '-o', 'json')) as {
      readonly items: readonly Made[];
    };
    return items;
  };
  /** As somebody does who knows better. */
  const edit = async ({ apiVersion, kind, metadata: { name, namespace } }: Made): Promise<void> => {
    const within = namespace === undefined ? '' : `/namespaces/${namespace}`;
    const path = `/apis/${apiVersion}${within}/${pluralOf(kind)}/${name}`;
    const spec =
      kind === 'NetworkPolicy'
        ? { podSelector: { matchLabels: { by: 'edited-by-hand' } } }
        : { by: 'edited-by-hand' };
    const { status, body } = await plane.request('PATCH', path, { spec });
    if (status !== 200) throw new Error(`PATCH ${path}: ${JSON.stringify(body)}`);
  };
  const uid = async (path: string): Promise<string> =>
    ((await plane.request('GET', path)).body as { readonly metadata: { readonly uid: string } }).metadata.uid;
  /** As a kubelet asks. */
  const certificateRequest = async (): Promise<object> => ({
    ...{ apiVersion: 'certificates.k8s.io/v1', kind: 'PodCertificateRequest' },
    metadata: { name: 'order', namespace: 'payments' },
    spec: {
      ...{
        signerName: 'signet.dev/workload',
        podName: 'order',
        serviceAccountName: 'order-service',
        nodeName: 'n1',
      },
      podUID: await uid('/api/v1/namespaces/payments/pods/order'),
      serviceAccountUID: await uid('/api/v1/namespaces/payments/serviceaccounts/order-service'),
      nodeUID: await uid('/api/v1/nodes/n1'),
      stubPKCS10Request: Buffer.from((await makeKey('ec-p256')).csr).toString('base64'),
    },
  });

  /** The log of the server's requests, once it holds what was asked last. */
  const settledAudit = async (): Promise<readonly AuditEntry[]> => {
    let last = -1;
    return until('the audit log is still', async () => {
      const entries = (await plane.auditLog()).filter(ofServer);
      const same = entries.length === last;
      last = entries.length;
      return same && entries;
    });
  };
  const roles = async (): Promise<readonly RoleObject[]> => {
    const text = await kubectl('apply', '-f', join(root, 'deploy'), '--dry-run=client', '-o', 'yaml');
    const [list] = parseAllDocuments(text);
    const { items } = list?.toJS() as { readonly items: readonly RoleObject[] };
    return items.filter(
      ({ kind, metadata }) =>
        (kind === 'ClusterRole' || kind === 'Role') && metadata.name.startsWith('signet-server'),
    );
  };
});

const ofServer = ({ user }: AuditEntry): boolean => user.username === USER;

function forbidden(log: readonly AuditEntry[]): readonly string[] {
  return log
    .filter(({ responseStatus }) => responseStatus?.code === 403)
    .map(({ verb, requestURI }) => `${verb} ${requestURI}`);
}

/** What a request shows to be needed. */
function neededBy({ verb, requestURI, objectRef, responseStatus }: AuditEntry): readonly string[] {
  const { apiGroup = '', resource = '', subresource } = objectRef ?? {};
  const what = `${subresource === undefined ? resource : `${resource}/${subresource}`}.${apiGroup}`;
  const code = responseStatus?.code ?? 500;
  const needed = [`${verb} ${what}`];
  // Where an API server does not stream lists, it is asked for one.
  if (verb === 'watch' && requestURI.includes('sendInitialEvents=true')) needed.push(`list ${what}`);
  if (verb !== 'patch' || code > 201) return needed;
  // An apply that makes an object needs the right to create it as well.
  if (code === 201) needed.push(`create ${what}`);
  // Checked by admission, not by a request of its own.
  const signer = 'signers.certificates.k8s.io';
  if (what === 'podcertificaterequests/status.certificates.k8s.io') needed.push(`sign ${signer}`);
  if (what === 'clustertrustbundles.certificates.k8s.io') needed.push(`attest ${signer}`);
  return needed;
}

/**
 * Rights that no request needed. The objects of a mesh are all treated alike, and which of them there are depends on what
 * policies say: there each verb must be needed for one of them, and each of them be watched.
 */
function unusedOf(roles: readonly RoleObject[], log: readonly AuditEntry[]): readonly string[] {
  const used = new Set(log.flatMap(neededBy));
  return roles.flatMap(({ metadata: { name }, rules }) => {
    const rights = rules.flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) =>
          verbs.map((verb): Right => ({ verb, resource: `${resource}.${group}` })),
        ),
      ),
    );
    const isUsed = ({ verb, resource }: Right): boolean => used.has(`${verb} ${resource}`);
    const isMesh = name !== SERVER.name;
    const alike = ({ verb }: Right): boolean =>
      isMesh && verb !== 'watch' && rights.some((right) => right.verb === verb && isUsed(right));
    return rights
      .filter((right) => !isUsed(right) && !alike(right))
      .map(({ verb, resource }) => `${name}: ${verb} ${resource}`);
  });
}

/** The kinds that policies become, with any content: nothing of the meshes themselves is needed. */
function meshDefinitions(): readonly object[] {
  const applied = MESH_KINDS.filter(
    ({ group }) =>
      (group.includes('.') && !group.endsWith('networking.k8s.io')) || group.startsWith('gateway'),
  );
  const read = { group: 'gateway.networking.k8s.io', kind: 'Gateway', versions: ['v1'] };
  return [...applied, read].map(({ group, kind, versions }) => {
    const singular = kind.toLowerCase();
    const plural = singular.endsWith('y') ? `${singular.slice(0, -1)}ies` : `${singular}s`;
    const [version = 'v1'] = versions;
    return {
      ...{ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition' },
      metadata: {
        name: `${plural}.${group}`,
        annotations: { 'api-approved.kubernetes.io': 'unapproved, for tests' },
      },
      spec: {
        group,
        scope: kind.includes('Clusterwide') ? 'Cluster' : 'Namespaced',
        names: { kind, plural, singular, listKind: `${kind}List` },
        versions: [
          {
            ...{ name: version, served: true, storage: true },
            schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
          },
        ],
      },
    };
  });
}

function pluralOf(kind: string): string {
  const singular = kind.toLowerCase();
  return singular.endsWith('y') ? `${singular.slice(0, -1)}ies` : `${singular}s`;
}

/** Somebody's webhook that asks for our bundle, and that nothing goes to. */
function webhook(): object {
  return {
    metadata: { name: 'hook', annotations: { 'signet.dev/inject-ca': 'true' } },
    webhooks: [
      {
        ...{
          name: 'hook.example.org',
          sideEffects: 'None',
          admissionReviewVersions: ['v1'],
          failurePolicy: 'Ignore',
        },
        clientConfig: { service: { namespace: 'default', name: 'hook' } },
        rules: [
          {
            apiGroups: ['nobody.example'],
            apiVersions: ['v1'],
            operations: ['CREATE'],
            resources: ['nothing'],
          },
        ],
      },
    ],
  };
}
