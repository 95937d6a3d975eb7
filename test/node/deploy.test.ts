import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { IMAGES } from '../rig/images.js';
import { isSkipped, rigTimeout } from '../rig/rig.js';
import { until } from '../support/until.js';
import {
  AGENT_NAMESPACE,
  SERVER_NAMESPACE,
  startNodeWorld,
  TRUST_DOMAIN,
  type NodeWorld,
} from './support/world.js';

/* What docs/install.md promises without Helm: applied from plain files with an image of one's own, and removed again. */

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const deploy = join(root, 'deploy');

/** What a test reads of an event. */
interface EventObject {
  readonly reason: string;
  readonly message: string;
  readonly count?: number;
}

(isSkipped('node') ? describe.skip : describe)('an installation from the plain manifests', () => {
  let world: NodeWorld;
  let overlay: string;
  beforeAll(async () => {
    overlay = await mkdtemp(join(tmpdir(), 'overlay-'));
    const [newName, newTag] = IMAGES.signet.split(':');
    const kustomization = {
      ...{ apiVersion: 'kustomize.config.k8s.io/v1beta1', kind: 'Kustomization' },
      resources: [relative(overlay, deploy)],
      images: [{ name: 'registry.example.org/signet', newName, newTag }],
    };
    await writeFile(join(overlay, 'kustomization.yaml'), JSON.stringify(kustomization));
    world = await startNodeWorld({ install: false });
  }, rigTimeout);
  afterAll(async () => {
    await world?.close();
    await rm(overlay, { recursive: true, force: true });
  });

  /** Applies it, and waits until all of it is there. The TrustDomain is made by whoever installs. */
  const install = async (): Promise<void> => {
    await world.kubectl('apply', '-k', overlay);
    await makeTrustDomain();
  };
  const makeTrustDomain = async (): Promise<void> => {
    await world.apply({
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'TrustDomain', metadata: { name: TRUST_DOMAIN } },
      spec: { name: TRUST_DOMAIN, defaultAction: 'Allow' },
    });
    const rolled = ['rollout', 'status', '--timeout=120s'];
    await world.kubectl(...rolled, 'deployment/signet-server', `--namespace=${SERVER_NAMESPACE}`);
    await world.kubectl(...rolled, 'daemonset/signet-agent', `--namespace=${AGENT_NAMESPACE}`);
  };
  const serves = async (name: string): Promise<string> => {
    await world.applyPod({
      ...{ name, labels: { app: 'shop' }, volume: {}, image: IMAGES.spiffeClient },
      args: ['x509', 'fetch', '-socket', '/run/spiffe/api.sock'],
    });
    await world.podIs('Succeeded', name);
    const { svids } = JSON.parse(await world.podLogs(name)) as { readonly svids: readonly { id: string }[] };
    await world.deletePod(name);
    return svids.map(({ id }) => id).join();
  };
  const authorities = (): Promise<string> =>
    world.kubectl(
      'get',
      'secret',
      'signet-ca',
      `--namespace=${SERVER_NAMESPACE}`,
      '-o=jsonpath={.metadata.uid}',
    );
  const shop = {
    ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'WorkloadIdentity' },
    metadata: { name: 'shop', namespace: 'default' },
    spec: { podSelector: { matchLabels: { app: 'shop' } } },
  };
  const id = `spiffe://${TRUST_DOMAIN}/ns/default/sa/default`;

  it('has agents wait for the first bundle as the kubelet tries steadily: with a container, not with a volume', async () => {
    await world.kubectl('apply', '-k', overlay);
    await until(
      'an agent that was tried to be started several times',
      async () => {
        const { body } = await world.cluster.request('GET', `/api/v1/namespaces/${AGENT_NAMESPACE}/events`);
        const { items } = body as { readonly items: readonly EventObject[] };
        return items.some(
          ({ reason, message, count = 1 }) =>
            reason === 'Failed' && message.includes('configmap "signet-bundle" not found') && count >= 4,
        );
      },
      120_000,
    );
    const waiting = '{.items[*].status.containerStatuses[*].state.waiting.reason}';
    const pods = ['get', 'pods', `--namespace=${AGENT_NAMESPACE}`, `--output=jsonpath=${waiting}`];
    expect(await world.kubectl(...pods)).toBe('CreateContainerConfigError');
  });

  it('comes up with an image of one’s own, and gives a pod its SVID', async () => {
    await makeTrustDomain();
    await world.apply(shop);
    expect(await serves('first')).toBe(id);
  });

  it('goes and comes back with the same authorities when the namespaces of servers stay', async () => {
    const before = await authorities();
    // `deploy/[1-4]*.yaml`
    const files = (await readdir(deploy)).filter((name) => /^[1-4].*\.yaml$/.test(name));
    await world.kubectl('delete', '--timeout=100s', ...files.flatMap((name) => ['-f', join(deploy, name)]));
    await world.kubectl('delete', 'namespace', AGENT_NAMESPACE, '--timeout=100s');
    expect(await authorities()).toBe(before);
    await install();
    expect(await authorities()).toBe(before);
    expect(await serves('second')).toBe(id);
  });

  it('is gone with all that was declared when all of it is deleted', async () => {
    await world.kubectl('delete', '-f', deploy, '--timeout=100s');
    await world.kubectl('delete', '-f', join(root, 'crds'), '--timeout=100s');
    await world.kubectl('delete', 'clustertrustbundle', 'signet.dev:workload:bundle');
    const all = 'namespaces,crds,clusterroles,clusterrolebindings,csidrivers';
    const more =
      'mutatingwebhookconfigurations,validatingadmissionpolicies,clustertrustbundles,priorityclasses';
    const left = await until(
      'namespaces that are gone',
      async () => {
        const names = await world.kubectl('get', `${all},${more}`, '--output=name');
        return names.includes(`namespace/${SERVER_NAMESPACE}`) ? false : names;
      },
      60_000,
    );
    expect(left.split('\n').filter((name) => name.includes('signet'))).toEqual([]);
    expect((await world.cluster.enter('ls', '/run/signet/volumes')).stdout).toBe('');
  });
});
