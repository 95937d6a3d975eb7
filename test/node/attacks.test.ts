import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { join } from 'node:path';
import { makeKey } from '../../src/agent/key-maker.js';
import { connectToServer } from '../../src/agent/remote/server-connection.js';
import { systemClock } from '../../src/lib/clock.js';
import { systemRandom } from '../../src/lib/random.js';
import type { NodeApi } from '../../src/rpc/node-api.js';
import { createRemoteNodeApi } from '../../src/rpc/node/remote-node-api.js';
import { IMAGES } from '../rig/images.js';
import { isSkipped, rigTimeout, spiffeClient } from '../rig/rig.js';
import { bundleOf } from '../support/cluster-agents.js';
import { recordingLogger } from '../support/recording-logger.js';
import { until } from '../support/until.js';
import {
  AGENT_NAMESPACE,
  SERVER_NAMESPACE,
  startNodeWorld,
  TRUST_DOMAIN,
  type Manifest,
  type NodeWorld,
} from './support/world.js';

/* What a pod, a thief or an accident on a real node comes to. */

const FETCH = ['x509', 'fetch', '-socket'];

(isSkipped('node') ? describe.skip : describe)('on a node', () => {
  let world: NodeWorld;
  beforeAll(async () => {
    world = await startNodeWorld();
    await world.apply(identity('shop', 'shop'));
    await world.applyPod({ name: 'victim', labels: { app: 'shop' }, volume: { files: 'pem' } });
    await world.podIs('Ready', 'victim');
  }, rigTimeout);
  afterAll(() => world.close());

  const idOf = (name: string): string => `spiffe://${TRUST_DOMAIN}/ns/default/of/${name}`;
  /** A WorkloadIdentity `name` for pods with the label `app`. */
  function identity(name: string, app: string): Manifest {
    const spec = { podSelector: { matchLabels: { app } }, spiffeIDTemplate: idOf(name) };
    const metadata = { name, namespace: 'default' };
    return { apiVersion: 'signet.dev/v1alpha1', kind: 'WorkloadIdentity', metadata, spec };
  }
  const agentPod = async (): Promise<{ name: string; uid: string }> => {
    const output = '--output=jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{"\\n"}{end}';
    const listed = await world.kubectl('get', 'pods', `--namespace=${AGENT_NAMESPACE}`, output);
    const [name = '', uid = ''] = listed.split('\n')[0]?.split(' ') ?? [];
    return { name, uid };
  };
  const agentsAreReady = async (): Promise<void> => {
    const daemonSet = ['status', 'daemonset/signet-agent', `--namespace=${AGENT_NAMESPACE}`];
    await world.kubectl('rollout', ...daemonSet, '--timeout=60s');
  };
  const onNode = async (script: string): Promise<string> => {
    const { stdout, stderr } = await world.cluster.enter('/bin/sh', '-c', script);
    return stdout + stderr;
  };
  /** What the node has of a pod: mounts and folders. */
  const leftOf = async (uid: string): Promise<string> =>
    onNode(`grep -F ${uid} /proc/self/mountinfo; ls -d /var/lib/kubelet/pods/${uid} 2>/dev/null; true`);
  const volumesOnNode = async (): Promise<number> =>
    (await onNode('ls /run/signet/volumes')).split('\n').filter((line) => /^[0-9a-f]{24}$/.test(line)).length;
  const isGone = async (uid: string): Promise<void> => {
    await until(`nothing left of pod ${uid}`, async () => (await leftOf(uid)) === '', 60_000);
  };
  const eventOf = (pod: string, part: string): Promise<string> =>
    until(
      `an event with ${part}`,
      async () => (await world.eventsOf(pod)).find((event) => event.includes(part)),
      60_000,
    );

  it('nobody makes a pod that reaches into the node beside Signet’s own', async () => {
    const node = { volumes: [{ name: 'host', hostPath: { path: '/run/signet' } }] };
    for (const spec of [node, { hostPID: true }, { serviceAccountName: 'signet-agent', hostPID: true }])
      await expect(world.applyPod({ name: 'spy', namespace: AGENT_NAMESPACE, spec })).rejects.toThrow(
        /only the controller of DaemonSets/,
      );
    for (const spec of [node, { hostPID: true }])
      await expect(world.applyPod({ name: 'spy', namespace: SERVER_NAMESPACE, spec })).rejects.toThrow(
        /violates PodSecurity|nothing of their node/,
      );
  });

  it('a pod that no identity selects yet is told so in an event, and starts once one does', async () => {
    await world.applyPod({ name: 'early', labels: { app: 'early' }, volume: { files: 'pem' } });
    const said = await eventOf('early', 'no identity selects');
    expect(said).toMatch(/^FailedMount: /);
    // Which selector it is that missed.
    expect(said).toContain('shop');
    expect(said).toMatch(/podSelector|app/);
    await world.apply(identity('early', 'early'));
    await world.podIs('Ready', 'early');
    const { uid } = (await world.pod('early')).metadata;
    await world.kubectl('delete', 'pod', 'early', '--grace-period=0', '--force');
    await isGone(uid);
  });

  it('a pod that is deleted while it waits for files leaves nothing', async () => {
    const before = await volumesOnNode();
    await world.applyPod({ name: 'waiting', labels: { app: 'nobody' }, volume: { files: 'pem' } });
    const { uid } = (await world.pod('waiting')).metadata;
    await until('its folder', async () => (await leftOf(uid)) !== '', 60_000);
    await world.kubectl('delete', 'pod', 'waiting', '--grace-period=0', '--force');
    await isGone(uid);
    await until('its volume gone', async () => (await volumesOnNode()) <= before, 60_000);
  });

  it('a stolen token or certificate of the agent gets what its node’s pods have, until the pod of the agent is gone', async () => {
    const { name, uid } = await agentPod();
    const projected = `/var/lib/kubelet/pods/${uid}/volumes/kubernetes.io~projected/token/token`;
    const stolen = (await onNode(`cat ${projected}`)).trim();
    const output = '--output=jsonpath={.items[0].status.podIP}';
    const server = ['get', 'pods', `--namespace=${SERVER_NAMESPACE}`, output];
    const host = await world.kubectl(...server);
    const bundle = await bundleOf(world.cluster, TRUST_DOMAIN);
    /** From outside of the cluster's nodes. */
    const use = async <T>(token: string, then: (api: NodeApi) => Promise<T>): Promise<T | string> => {
      const logger = recordingLogger();
      const stop = new AbortController();
      const attempt = connectToServer(
        {
          ...{ trustDomain: TRUST_DOMAIN, host, port: 8443, keyType: 'ec-p256', logger },
          ...{ clock: systemClock, random: systemRandom },
          readToken: () => Promise.resolve(token),
          readBundle: () => Promise.resolve(bundle),
        },
        stop.signal,
      );
      const refused = until(
        'an answer',
        () => stop.signal.aborted || logger.all.find((one) => one.includes('does not take this agent yet')),
        30_000,
      );
      const first = await Promise.race([attempt, refused]);
      try {
        if (typeof first !== 'object') return String(first);
        return await then(
          createRemoteNodeApi(
            () => first.rpc,
            TRUST_DOMAIN,
            () => undefined,
          ),
        );
      } finally {
        stop.abort();
        await attempt.then((connection) => connection.close()).catch(() => undefined);
      }
    };
    const { csr } = await makeKey('ec-p256');
    const victim = (await world.pod('victim')).metadata.uid;
    const signed = await use(stolen, async (api) => {
      const wanted = [`${victim}/default/shop`, 'another-pod/default/shop'];
      const results = await api.signX509(wanted.map((registrationId) => ({ registrationId, csr })));
      return results.map((result) => (result.ok ? 'signed' : result.code));
    });
    expect(signed).toEqual(['signed', 'RegistrationNotFound']);

    const connected = (): Promise<string> => Promise.resolve('believed');
    const token = async (account: string, namespace: string, ...more: string[]): Promise<string> =>
      (await world.kubectl('create', 'token', account, `--namespace=${namespace}`, ...more)).trim();
    const bound = ['--bound-object-kind=Pod', `--bound-object-name=${name}`];
    const odd = await token('signet-agent', AGENT_NAMESPACE, ...bound, '--audience=another');
    expect(await use(odd, connected)).toMatch(/does not accept|not for audience/);
    const audience = '--audience=signet-server';
    const workloads = await token(
      'default',
      'default',
      audience,
      '--bound-object-kind=Pod',
      '--bound-object-name=victim',
    );
    expect(await use(workloads, connected)).toContain('agents run as service account');
    // The right account, but no agent's pod.
    expect(await use(await token('signet-agent', AGENT_NAMESPACE, audience), connected)).toMatch(/pod/);

    await world.deletePod(name, AGENT_NAMESPACE);
    expect(await use(stolen, connected)).toMatch(/does not accept|is not there/);
    await agentsAreReady();
  });

  it('a token of its own with the server’s audience makes no agent of a pod', async () => {
    const bundle = await bundleOf(world.cluster, TRUST_DOMAIN);
    const metadata = { name: 'stolen-bundle', namespace: 'default' };
    await world.apply({ apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { 'bundle.json': bundle } });
    const projected = [{ serviceAccountToken: { path: 'token', audience: 'signet-server' } }];
    const volumes = [
      { name: 'bundle', configMap: { name: metadata.name } },
      { name: 'token', projected: { sources: projected } },
    ];
    const args = [
      ...['agent', `--server=signet-server.${SERVER_NAMESPACE}.svc:8443`, '--no-csi'],
      ...['--token-file=/token/token', '--bundle-file=/bundle/bundle.json', '--state-directory=/tmp/state'],
    ];
    const volumeMounts = volumes.map(({ name }) => ({ name, mountPath: `/${name}` }));
    const containers = [{ name: 'main', image: IMAGES.signet, args, volumeMounts }];
    await world.applyPod({ name: 'impostor', spec: { containers, volumes } });
    await world.podIs('Ready', 'impostor');
    const said = await until(
      'an answer of the server',
      async () =>
        (await world.podLogs('impostor')).split('\n').find((line) => line.includes('take this agent')),
      60_000,
    );
    expect(said).toContain('agents run as service account');
    expect(await world.podLogs('impostor')).not.toContain('attested');
    await world.deletePod('impostor');
  });

  /** Does something while the node has no agent, and waits until it has one again. */
  const withoutAgent = async (act: () => Promise<void>): Promise<void> => {
    const daemonSet = ['daemonset/signet-agent', `--namespace=${AGENT_NAMESPACE}`, '--type=merge'];
    const nowhere = (value: string | null): string =>
      JSON.stringify({ spec: { template: { spec: { nodeSelector: { 'signet.dev/nowhere': value } } } } });
    await world.kubectl('patch', ...daemonSet, '--patch', nowhere('yes'));
    await until('no agent', async () => (await agentPod()).name === '', 60_000);
    await act();
    await world.kubectl('patch', ...daemonSet, '--patch', nowhere(null));
    await agentsAreReady();
  };

  it('pods that come and go while there is no agent start, and end, once there is one', async () => {
    const before = await volumesOnNode();
    const shop = (name: string): Promise<void> =>
      world.applyPod({ name, labels: { app: 'shop' }, volume: { files: 'pem' } });
    const uidOf = async (name: string): Promise<string> => (await world.pod(name)).metadata.uid;
    for (const name of ['leaves', 'forced']) await shop(name);
    for (const name of ['leaves', 'forced']) await world.podIs('Ready', name);
    const gone = [await uidOf('leaves'), await uidOf('forced')];
    await withoutAgent(async () => {
      await world.kubectl('delete', 'pod', 'leaves', '--wait=false');
      await world.kubectl('delete', 'pod', 'forced', '--grace-period=0', '--force');
      for (const name of ['comes', 'fleeting']) await shop(name);
      expect(await eventOf('comes', 'FailedMount')).toContain('csi.signet.dev');
      gone.push(await uidOf('fleeting'));
      await world.kubectl('delete', 'pod', 'fleeting', '--wait=false');
    });
    await world.podIs('Ready', 'comes');
    for (const uid of gone) await isGone(uid);
    for (const name of ['leaves', 'forced', 'fleeting'])
      await expect(world.pod(name)).rejects.toThrow(/no pod/);
    expect(await volumesOnNode()).toBe(before + 1);
    await world.deletePod('comes');
  });

  it('a node without the volumes of its pods, as after a boot, goes on', async () => {
    await world.applyPod({ name: 'before', labels: { app: 'shop' }, volume: { files: 'pem' } });
    const { uid } = (await world.podIs('Ready', 'before')).metadata;
    await withoutAgent(async () => {
      await onNode(
        `for m in $(grep csi.signet.dev\\\\\\|kubernetes.io~csi /proc/self/mountinfo | cut -d' ' -f5); do umount -l $m; done; umount -l /run/signet/volumes`,
      );
      expect(await onNode('grep -c " /run/signet/volumes " /proc/self/mountinfo')).toBe('0\n');
      await world.cluster.restartKubelet();
    });
    await world.applyPod({ name: 'after', labels: { app: 'shop' }, volume: { files: 'pem' } });
    const after = (await world.podIs('Ready', 'after')).metadata.uid;
    await world.deletePod('before');
    await world.deletePod('after');
    await isGone(uid);
    await isGone(after);
  });

  it('the shared socket tells a pod by its cgroup, and is nothing to a process of the node', async () => {
    const chart = join(import.meta.dirname, '../../charts/signet');
    const upgrade = ['upgrade', 'signet', chart, `--namespace=${SERVER_NAMESPACE}`, '--reuse-values'];
    await world.helm(...upgrade, '--set=agent.sharedSocket.enabled=true', '--wait', '--timeout=90s');
    await agentsAreReady();
    const host = { name: 'shared', hostPath: { path: '/run/signet/api.sock', type: 'Socket' } };
    const image = IMAGES.spiffeClient;
    const volumeMounts = [{ name: 'shared', mountPath: '/shared.sock' }];
    const fetched = async (name: string, app: string): Promise<string> => {
      const containers = [{ name: 'main', image, args: [...FETCH, '/shared.sock'], volumeMounts }];
      await world.applyPod({ name, labels: { app }, spec: { containers, volumes: [host] } });
      await until(
        'its end',
        async () => /Succ|Fail/.test((await world.pod(name)).status.phase ?? ''),
        60_000,
      );
      return world.podLogs(name);
    };
    const { svids } = JSON.parse(await fetched('given', 'shop')) as { svids: readonly { id: string }[] };
    expect(svids.map(({ id }) => id)).toEqual([idOf('shop')]);
    expect(await fetched('none', 'nobody')).toContain('PermissionDenied');
    const { stdout } = await world.cluster.enter(await spiffeClient(), ...FETCH, '/run/signet/api.sock');
    expect(stdout).toContain('PermissionDenied');
  });
});
