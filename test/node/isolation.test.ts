import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { IMAGES } from '../rig/images.js';
import { isSkipped, rigTimeout } from '../rig/rig.js';
import { until } from '../support/until.js';
import { startNodeWorld, type Manifest, type NodeWorld } from './support/world.js';

/* What a pod can do to the identities of others, and to its own volume, on a real node. */

const SOCKET = '/run/spiffe/api.sock';
const ROOT: Manifest = { securityContext: { runAsUser: 0 } };

(isSkipped('node') ? describe.skip : describe)('volumes on a node', () => {
  let world: NodeWorld;
  beforeAll(async () => {
    world = await startNodeWorld();
    await world.apply({
      apiVersion: 'signet.dev/v1alpha1',
      kind: 'WorkloadIdentity',
      metadata: { name: 'shop', namespace: 'default' },
      spec: { podSelector: { matchLabels: { app: 'shop' } } },
    });
    await world.applyPod({ name: 'victim', labels: { app: 'shop' }, volume: { files: 'pem' } });
    await world.podIs('Ready', 'victim');
  }, rigTimeout);
  afterAll(() => world.close());

  /** What a script in a pod says, on both its outputs. */
  const shell = async (name: string, script: string): Promise<string> => {
    const { stdout, stderr } = await world.exec(name, ['sh', '-c', script]);
    return stdout + stderr;
  };

  describe.each([
    ['a user of the container', 'attacker-user', {}],
    ['root in the container, with the runtime’s default capabilities', 'attacker-root', ROOT],
  ])('a pod as %s', (_title, name, spec) => {
    beforeAll(async () => {
      const mount = { name: 'spiffe', mountPath: '/run/spiffe', readOnly: true };
      const containers = [{ name: 'main', image: IMAGES.busybox, volumeMounts: [mount] }];
      await world.applyPod({ name, volume: {}, spec: { ...spec, ...(spec === ROOT ? { containers } : {}) } });
      await world.podIs('Ready', name);
    }, rigTimeout);

    it('sees no socket but its own, by no path and through no process', async () => {
      for (const folder of ['/run/signet', '/var/lib/kubelet'])
        expect(await shell(name, `ls ${folder}`)).toContain('No such file or directory');
      // Every process that it sees is its own, and none shows another root.
      const roots = await shell(name, 'for p in /proc/[0-9]*; do ls $p/root/run $p/root/var/lib 2>&1; done');
      expect(roots).toContain('spiffe');
      expect(roots).not.toMatch(/signet|kubelet|containerd/);
      expect(await shell(name, 'ls /run/spiffe')).toBe('api.sock\nauthz.sock\n');
      const mounts = await shell(name, 'cat /proc/self/mountinfo');
      expect(mounts.match(/ \/run\/spiffe /g)).toHaveLength(1);
    });

    it('cannot delete, replace, rename or add to what is in its volume', async () => {
      const before = await shell(name, `stat -c '%i %F' ${SOCKET}`);
      expect(before).toContain('socket');
      for (const attempt of [
        `rm -f ${SOCKET}`,
        `mv ${SOCKET} ${SOCKET}.old`,
        'ln -s /etc/passwd /run/spiffe/link',
        'touch /run/spiffe/file',
        `chmod 0 ${SOCKET}`,
      ])
        expect([attempt, await shell(name, `${attempt} && echo done`)]).toEqual([
          attempt,
          expect.stringContaining('Read-only file system'),
        ]);
      expect(await shell(name, `ln -f /etc/passwd ${SOCKET} && echo done`)).not.toContain('done');
      expect(await shell(name, `stat -c '%i %F' ${SOCKET}`)).toBe(before);
    });

    it('cannot make its volume writable, nor take it off', async () => {
      for (const attempt of [
        'mount -o remount,rw /run/spiffe',
        'mount -o remount,bind,rw /run/spiffe',
        'umount /run/spiffe',
        'mount -t tmpfs none /run/spiffe',
      ])
        expect([attempt, await shell(name, `${attempt} && echo done`)]).toEqual([
          attempt,
          expect.not.stringContaining('done'),
        ]);
      expect(await shell(name, `touch /run/spiffe/file && echo done`)).toContain('Read-only file system');
      expect(await shell(name, `stat -c %F ${SOCKET}`)).toBe('socket\n');
    });
  });

  it('that do not fit into the agent’s memory are told of to their pods, and harm no other', async () => {
    const filler = '/run/signet/volumes/filler';
    const fill = `dd if=/dev/zero of=${filler} bs=1M count=1024 2>&1; df -P /run/signet/volumes | tail -1`;
    const files = 'cat /run/spiffe/tls.crt /run/spiffe/tls.key /run/spiffe/ca.crt';
    const before = await shell('victim', files);
    expect((await world.cluster.enter('sh', '-c', fill)).stdout).toContain('100%');
    const wanted = { labels: { app: 'shop' }, volume: { files: 'pem' } };
    await world.applyPod({ name: 'late', ...wanted });
    const told = await until(
      'an event that says what is full',
      async () => (await world.eventsOf('late')).find((event) => event.includes('is full')),
      60_000,
    );
    expect(told).toMatch(
      /^FailedMount: .*file system for volumes is full: ask for fewer files, or remove pods/,
    );
    // The pod that runs has its files and its socket all the while.
    expect(await shell('victim', files)).toBe(before);
    expect(await shell('victim', 'stat -c %F /run/spiffe/api.sock')).toBe('socket\n');
    await world.cluster.enter('rm', filler);
    await world.podIs('Ready', 'late');
    expect(await shell('late', files)).toContain('BEGIN CERTIFICATE');
    await world.deletePod('late');
  });

  it('stay through a kubelet that is killed', async () => {
    const read = 'cat /run/spiffe/tls.crt';
    const before = await shell('victim', read);
    expect(before).toContain('BEGIN CERTIFICATE');
    await world.cluster.restartKubelet();
    // The kubelet answers before it has looked at its pods.
    await until('the same files', async () => (await shell('victim', read)) === before, 60_000);
    expect((await world.pod('victim')).status.containerStatuses?.[0]?.restartCount).toBe(0);
  });
});
