import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { IMAGES } from '../rig/images.js';
import { isSkipped, rigTimeout } from '../rig/rig.js';
import { until } from '../support/until.js';
import { startNodeWorld, TRUST_DOMAIN, type Manifest, type NodeWorld } from './support/world.js';

/* The shared socket of a real node, where containers and static pods are told apart. */

const SHARED = '/shared.sock';
const MANIFESTS = '/var/lib/kubelet/manifests';

(isSkipped('node') ? describe.skip : describe)('the shared socket of a node', () => {
  let world: NodeWorld;
  beforeAll(async () => {
    world = await startNodeWorld({
      install: { agent: { sharedSocket: { enabled: true } } },
      kubeletConfig: { staticPodPath: MANIFESTS, fileCheckFrequency: '1s' },
    });
  }, rigTimeout);
  afterAll(() => world.close());

  const idOf = (name: string): string => `spiffe://${TRUST_DOMAIN}/ns/default/of/${name}`;
  /** A WorkloadIdentity for some containers of the pods with label `app`. */
  const identity = (name: string, app: string, containerSelector: Manifest): Manifest => ({
    ...{
      apiVersion: 'signet.dev/v1alpha1',
      kind: 'WorkloadIdentity',
      metadata: { name, namespace: 'default' },
    },
    spec: { podSelector: { matchLabels: { app } }, spiffeIDTemplate: idOf(name), containerSelector },
  });
  const host = { name: 'shared', hostPath: { path: '/run/signet/api.sock', type: 'Socket' } };
  const volumeMounts = [{ name: 'shared', mountPath: SHARED }];
  /** Containers that ask once for all that they may have, and say what they got. */
  const asking = (...names: string[]): Manifest => ({
    containers: names.map((name) => ({
      ...{ name, image: IMAGES.spiffeClient, args: ['x509', 'fetch', '-socket', SHARED], volumeMounts },
    })),
    volumes: [host],
  });
  const said = (pod: string, container: string): Promise<string> =>
    until(
      `what container ${container} of pod ${pod} got`,
      async () => {
        const logs = ['logs', pod, `--container=${container}`];
        const { code, stdout } = await world.cluster.kubectl(logs);
        return code === 0 && /"svids"|Denied|Unavailable/.test(stdout) ? stdout : undefined;
      },
      60_000,
    );

  it('gives a container what is for it by name, however often it starts, and its neighbour nothing', async () => {
    await world.apply(identity('by-name', 'boxes', { names: ['app'] }));
    const spec = { ...asking('app', 'side-car'), restartPolicy: 'Always' };
    await world.applyPod({ name: 'boxes', labels: { app: 'boxes' }, spec });
    expect(await said('boxes', 'app')).toContain(idOf('by-name'));
    const refused = await said('boxes', 'side-car');
    expect(refused).toContain('PermissionDenied');
    expect(refused).toContain('the container is side-car, it wants app');
    await until(
      'each started again',
      async () =>
        (await world.pod('boxes')).status.containerStatuses?.every(({ restartCount }) => restartCount > 0),
      60_000,
    );
    expect(await said('boxes', 'app')).toContain(idOf('by-name'));
    expect(await said('boxes', 'side-car')).toContain('PermissionDenied');
    await world.deletePod('boxes');
  });

  it('gives a container what is for the digest of its image, and nothing for another digest', async () => {
    const imageIDs = '--output=jsonpath={.status.containerStatuses[*].imageID}';
    await world.apply(identity('other-image', 'digest', { imageDigests: [`sha256:${'0'.repeat(64)}`] }));
    await world.applyPod({ name: 'other-image', labels: { app: 'digest' }, spec: asking('app') });
    expect(await said('other-image', 'app')).toMatch(/PermissionDenied.*the image has digest sha256:/s);
    const imageID = await world.kubectl('get', 'pod', 'other-image', imageIDs);
    const digest = /sha256:[0-9a-f]{64}$/.exec(imageID.trim())?.[0] ?? `no digest in ${imageID}`;
    await world.apply(identity('by-image', 'digest', { imageDigests: [digest] }));
    await world.applyPod({ name: 'by-image', labels: { app: 'digest' }, spec: asking('app') });
    const got = await said('by-image', 'app');
    expect(got).toContain(idOf('by-image'));
    expect(got).not.toContain(idOf('other-image'));
  });

  it('is the only way to it: the pod’s own socket says why it gives nothing', async () => {
    const args = ['x509', 'fetch', '-socket', '/run/spiffe/api.sock'];
    await world.apply(identity('main-alone', 'own', { names: ['main'] }));
    await world.applyPod({
      ...{ name: 'own-socket', labels: { app: 'own' }, image: IMAGES.spiffeClient, args, volume: {} },
    });
    const refused = await said('own-socket', 'main');
    expect(refused).toContain('PermissionDenied');
    expect(refused).toContain('given on the shared socket of the node alone');
  });

  const mirror = (): string => `static-${world.cluster.nodeName}`;
  const idOfStatic = (): string => `spiffe://${TRUST_DOMAIN}/node/${world.cluster.nodeName}/static`;

  it('gives a static pod what is for static pods, of its node, and nothing that is for others', async () => {
    const selector = { podSelector: { matchLabels: { app: 'static' } } };
    const spiffeIDTemplate = '/node/{{ .NodeName }}/static';
    await world.apply(
      {
        ...{
          apiVersion: 'signet.dev/v1alpha1',
          kind: 'ClusterWorkloadIdentity',
          metadata: { name: 'static' },
        },
        spec: { ...selector, staticPods: true, spiffeIDTemplate },
      },
      {
        ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'WorkloadIdentity' },
        metadata: { name: 'ordinary', namespace: 'default' },
        spec: { ...selector, spiffeIDTemplate: idOf('ordinary') },
      },
    );
    const manifest = JSON.stringify({
      ...{ apiVersion: 'v1', kind: 'Pod' },
      metadata: { name: 'static', namespace: 'default', labels: { app: 'static' } },
      spec: asking('app'),
    });
    const write = `mkdir -p ${MANIFESTS} && printf %s '${manifest}' > ${MANIFESTS}/static.json`;
    await world.cluster.enter('/bin/sh', '-c', write);
    await until(
      'the identity of the static pod',
      async () => (await world.cluster.kubectl(['logs', mirror()])).stdout.includes(idOfStatic()),
      90_000,
    );
    expect((await world.cluster.kubectl(['logs', mirror()])).stdout).not.toContain(idOf('ordinary'));
  });

  it('gives nothing of a static pod to one that pretends to be its mirror, nor the other way round', async () => {
    // A pod with the annotations of the mirror but for the one that makes it one.
    const hash = '--output=jsonpath={.metadata.annotations.kubernetes\\.io/config\\.hash}';
    const uid = (await world.kubectl('get', 'pod', mirror(), hash)).trim();
    expect(uid).toMatch(/^[0-9a-f]{32}$/);
    const stolen = { 'kubernetes.io/config.hash': uid, 'kubernetes.io/config.source': 'file' };
    const labels = { app: 'static' };
    await world.applyPod({ name: 'pretender', labels, annotations: stolen, spec: asking('app') });
    const got = await said('pretender', 'app');
    expect(got).toContain(idOf('ordinary'));
    expect(got).not.toContain(idOfStatic());

    // One with all of them: the node runs no such pod, and takes it for one that is over.
    const annotations = { ...stolen, 'kubernetes.io/config.mirror': uid };
    const spec = { ...asking('app'), nodeName: world.cluster.nodeName };
    await world.applyPod({ name: 'forger', labels, annotations, spec });
    await until(
      'the end of the forger',
      async () =>
        (await world.cluster.request('GET', '/api/v1/namespaces/default/pods/forger')).status === 404,
      60_000,
    );
    const last = (await world.cluster.kubectl(['logs', mirror()])).stdout;
    expect(last).not.toContain(idOf('ordinary'));
  });
});
