import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { existsSync, lstatSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { chmod, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { csiSockets } from '../../src/agent/csi/serve.js';
import { volumeDirectory } from '../../src/agent/csi/volume-directory.js';
import { connectUnix, type CallOptions } from '../../src/rpc/client.js';
import type { NodePublishVolumeRequest } from '../../src/rpc/gen/csi/csi.js';
import { csiIdentityService, csiNodeService, kubeletRegistrationService } from '../../src/rpc/services.js';
import { until } from '../support/until.js';
import { startCsiNode, type CsiNode } from './support/csi-node.js';

/**
 * The driver as a process of its own, with the kernel's real mounts: in a mount namespace that goes with the test. Needs root,
 * as the driver does; without, every test here fails rather than being skipped.
 */

let node: CsiNode;
beforeEach(async () => {
  node = await startCsiNode();
});
afterEach(() => node.close());

const uid = '11111111-2222-3333-4444-555555555555';
const id = 'csi-0123456789abcdef';

function request(
  targetPath: string,
  changes: Partial<NodePublishVolumeRequest> = {},
): NodePublishVolumeRequest {
  return {
    volumeId: id,
    stagingTargetPath: '',
    targetPath,
    volumeCapability: {
      accessType: { $case: 'mount', value: { fsType: '', mountFlags: [], volumeMountGroup: '' } },
      accessMode: { mode: 1 },
    },
    readonly: true,
    secrets: {},
    volumeContext: contextOf(uid),
    ...changes,
  };
}

function contextOf(podUid: string, attributes: Record<string, string> = {}): Record<string, string> {
  return {
    'csi.storage.k8s.io/ephemeral': 'true',
    'csi.storage.k8s.io/pod.uid': podUid,
    'csi.storage.k8s.io/pod.name': 'web-0',
    'csi.storage.k8s.io/pod.namespace': 'shop',
    'csi.storage.k8s.io/serviceAccount.name': 'web',
    ...attributes,
  };
}

const publish = (asked: NodePublishVolumeRequest, options?: CallOptions): Promise<unknown> =>
  node.call((client) => client.nodePublishVolume(asked, options));
const unpublish = (targetPath: string, volumeId = id): Promise<unknown> =>
  node.call((client) => client.nodeUnpublishVolume({ volumeId, targetPath }));
const refused = (status: string, message = /./): unknown =>
  expect.objectContaining({ status, message: expect.stringMatching(message) });
const servedBy = (target: string): number =>
  Number(readFileSync(node.inside(join(target, 'served-by')), 'utf8'));

/** What the volume's socket says, through the pod's side of the mount. */
async function ask(target: string): Promise<string> {
  // By a link, since a socket's path has to be short.
  const link = join(node.directory, 'volume');
  await rm(link, { force: true });
  await symlink(node.inside(target), link);
  const socket = connect({ path: join(link, 'api.sock') });
  let text = '';
  socket.on('data', (part: Buffer) => (text += part.toString()));
  await once(socket, 'close');
  return text;
}

/** Nothing is left of any volume, in the kernel and on disk. */
function expectNothing(target: string): void {
  expect(node.mounts(join(node.kubelet, 'pods'))).toEqual([]);
  expect(existsSync(node.inside(target))).toBe(false);
  expect(readdirSync(node.inside(join(node.state, 'volumes')))).toEqual([]);
}

describe('a volume', () => {
  it('is the data directory, read-only and restricted, and is gone after unpublishing', async () => {
    const driver = await node.start();
    const target = await node.target(uid);
    await publish(request(target));
    const [mounted, ...others] = node.mounts(target);
    expect(others).toEqual([]);
    expect(mounted?.options.split(',')).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev', 'noexec']));
    // A socket can be connected to through a read-only mount, and nothing can be written or replaced.
    expect(await ask(target)).toBe(`${driver.process.pid} ${uid}`);
    const write = node.run('sh', '-c', `echo x > ${target}/served-by`);
    await expect(write).rejects.toThrow(/Read-only file system/);
    await expect(node.run('rm', `${target}/api.sock`)).rejects.toThrow(/Read-only file system/);
    await unpublish(target);
    expectNothing(target);
  });

  it('lies in a bounded file system in memory that no pod can list', async () => {
    await node.start();
    const volumes = join(node.state, 'volumes');
    const [memory] = node.mounts(volumes);
    expect(memory?.options.split(',')).toEqual(expect.arrayContaining(['nosuid', 'nodev', 'noexec']));
    expect(statSync(node.inside(volumes)).mode & 0o777).toBe(0o700);
    expect(await node.run('stat', '-f', '-c', '%T %b %S', volumes)).toMatch(/^tmpfs 32768 4096/);
  });

  it('may be published and unpublished again and again: 100 times, each asked twice', async () => {
    await node.start();
    const target = await node.target(uid);
    for (let count = 0; count < 100; count++) {
      await publish(request(target));
      await publish(request(target));
      expect(node.mounts(target)).toHaveLength(1);
      await unpublish(target);
      await unpublish(target);
      expect(node.mounts(target)).toEqual([]);
    }
    expectNothing(target);
  });

  it('that is published is not published otherwise', async () => {
    await node.start();
    const target = await node.target(uid);
    await publish(request(target));
    const other = request(target, { volumeContext: contextOf(uid, { socket: 'other.sock' }) });
    await expect(publish(other)).rejects.toEqual(refused('AlreadyExists', /with other attributes/));
    await expect(publish(request(target, { volumeId: 'csi-2' }))).rejects.toEqual(refused('AlreadyExists'));
    const elsewhere = request(await node.target(uid, 'second'));
    await expect(publish(elsewhere)).rejects.toEqual(refused('AlreadyExists'));
    expect(await ask(target)).toMatch(uid);
  });

  it('that a process uses is unmounted all the same', async () => {
    await node.start();
    const target = await node.target(uid);
    await publish(request(target));
    const fifo = join(node.directory, 'fifo');
    await node.run('mkfifo', fifo);
    const script = `cd ${target} && touch ${node.directory}/inside && read x < ${fifo} && ls`;
    const busy = node.run('sh', '-c', script);
    await until('a process is inside', () => existsSync(join(node.directory, 'inside')));
    await unpublish(target);
    expectNothing(target);
    await node.run('sh', '-c', `echo > ${fifo}`);
    expect(await busy).toBe('');
  });

  it('that nobody knows is unpublished: after a reboot, or for another driver that died', async () => {
    const first = await node.start();
    const target = await node.target(uid);
    await publish(request(target));
    first.kill('SIGKILL');
    await first.ended;
    const volumes = join(node.state, 'volumes');
    await node.run('sh', '-c', `rm -r ${volumes}/*`);
    await node.start();
    await unpublish(target);
    expectNothing(target);
    // As after a reboot: no mount, but the directory.
    await mkdir(target);
    await unpublish(target);
    await unpublish(join(node.kubelet, 'pods', uid, 'volumes/kubernetes.io~csi/never/mount'), 'never');
    expectNothing(target);
  });
});

describe('an attacker who writes below the kubelet’s directory', () => {
  it('cannot have another place mounted by a link in any component, or lose it there', async () => {
    await node.start();
    const target = await node.target(uid);
    const elsewhere = join(node.directory, 'elsewhere');
    const inner = target.slice(node.kubelet.length + 1).split('/');
    for (let depth = 1; depth <= inner.length; depth++) {
      const component = join(node.kubelet, ...inner.slice(0, depth));
      const rest = inner.slice(depth);
      await mkdir(join(elsewhere, ...rest), { recursive: true });
      const aside = join(node.directory, 'aside');
      if (existsSync(component)) await rename(component, aside);
      await symlink(elsewhere, component);
      await expect(publish(request(target))).rejects.toEqual(
        refused('InvalidArgument', /is a link or no directory/),
      );
      if (depth < inner.length)
        await expect(unpublish(target)).rejects.toEqual(refused('InvalidArgument', /is a link/));
      expect(node.mounts(node.directory).filter(({ at }) => !at.startsWith(node.state))).toEqual([]);
      expect(existsSync(elsewhere)).toBe(true);
      await rm(component);
      if (existsSync(aside)) await rename(aside, component);
      await rm(elsewhere, { recursive: true });
    }
    await publish(request(target));
    await unpublish(target);
  });

  it('gets nothing else mounted while paths are swapped all the time', async () => {
    await node.start();
    const target = await node.target(uid);
    const parent = dirname(target);
    const elsewhere = join(node.directory, 'elsewhere');
    await mkdir(join(elsewhere, 'mount'), { recursive: true });
    writeFileSync(join(elsewhere, 'mount', 'precious'), 'x');
    const stop = new AbortController();
    const swapping = (async () => {
      while (!stop.signal.aborted) {
        await rename(parent, `${parent}-aside`);
        await symlink(elsewhere, parent);
        await rm(parent);
        await rename(`${parent}-aside`, parent);
      }
    })();
    let published = 0;
    for (let count = 0; count < 60; count++) {
      published += await publish(request(target)).then(
        () => 1,
        () => 0,
      );
      expect(node.mounts(elsewhere)).toEqual([]);
      await unpublish(target).catch(() => undefined);
    }
    stop.abort();
    await swapping;
    await unpublish(target);
    expect(node.mounts(join(node.kubelet, 'pods'))).toEqual([]);
    expect(readFileSync(join(elsewhere, 'mount', 'precious'), 'utf8')).toBe('x');
    expect(published).toBeGreaterThan(0);
  });

  it('does not lose files that are where a volume shall be', async () => {
    await node.start();
    const target = await node.target(uid);
    await mkdir(target);
    await writeFile(join(target, 'precious'), 'x');
    await expect(publish(request(target))).rejects.toEqual(
      refused('Internal', /cannot remove the directory/),
    );
    await expect(unpublish(target)).rejects.toEqual(refused('Internal', /ENOTEMPTY/));
    expect(readFileSync(join(target, 'precious'), 'utf8')).toBe('x');
  });
});

describe('what is asked', () => {
  it('is refused when it is for another place or pod, and the message says how to mend it', async () => {
    await node.start();
    const target = await node.target(uid);
    const other = await node.target('99999999-2222-3333-4444-555555555555');
    const paths = [
      '',
      '/etc',
      'relative/mount',
      `${node.kubelet}-2/pods/${uid}/volumes/kubernetes.io~csi/x/mount`,
      `${node.kubelet}/pods/${uid}/volumes/kubernetes.io~csi/../mount`,
      `${node.kubelet}/pods/../${uid}/volumes/kubernetes.io~csi/x/mount`,
      `${node.kubelet}/pods/${uid}/volumes/kubernetes.io~csi/x/mount/..`,
      `${node.kubelet}/pods/${uid}/volumes/kubernetes.io~csi/x/y/mount`,
      `${node.kubelet}/pods/${uid}/volumes/kubernetes.io~empty-dir/x/mount`,
      `${node.kubelet}/pods/${uid}//volumes/kubernetes.io~csi/x/mount`,
      `${target}\0/x`,
      `${target}\n`,
      `/${'x'.repeat(10_000)}`,
    ];
    for (const path of paths) {
      await expect(publish(request(path))).rejects.toEqual(refused('InvalidArgument', /target path/));
      await expect(unpublish(path)).rejects.toEqual(refused('InvalidArgument', /target path/));
    }
    await expect(publish(request(other))).rejects.toEqual(refused('PermissionDenied', /another pod/));
    const without = (name: string): NodePublishVolumeRequest => {
      const volumeContext = contextOf(uid);
      Reflect.deleteProperty(volumeContext, `csi.storage.k8s.io/${name}`);
      return request(target, { volumeContext });
    };
    await expect(publish(without('ephemeral'))).rejects.toEqual(
      refused('InvalidArgument', /ephemeral volumes only/),
    );
    for (const name of ['pod.name', 'pod.namespace', 'serviceAccount.name'])
      await expect(publish(without(name))).rejects.toEqual(refused('InvalidArgument', /podInfoOnMount/));
    const mount = (value: Partial<{ fsType: string; mountFlags: string[]; volumeMountGroup: string }>) => ({
      accessType: {
        $case: 'mount' as const,
        value: { fsType: '', mountFlags: [], volumeMountGroup: '', ...value },
      },
      accessMode: { mode: 1 as const },
    });
    const bad: readonly (readonly [Partial<NodePublishVolumeRequest>, RegExp])[] = [
      [{ volumeId: '' }, /volume ID missing/],
      [{ volumeId: 'a\nb' }, /printable/],
      [{ volumeId: 'x'.repeat(129) }, /printable/],
      [{ volumeCapability: undefined }, /capability missing/],
      [{ volumeCapability: { ...mount({}), accessMode: { mode: 5 } } }, /single node/],
      [{ volumeCapability: { ...mount({}), accessType: { $case: 'block', value: {} } } }, /Block/],
      [{ volumeCapability: mount({ fsType: 'ext4' }) }, /fsType/],
      [{ volumeCapability: mount({ mountFlags: ['suid'] }) }, /mount options/],
      [{ volumeCapability: mount({ volumeMountGroup: 'root' }) }, /fsGroup/],
      [{ volumeCapability: mount({ volumeMountGroup: '4294967295' }) }, /fsGroup/],
      [{ stagingTargetPath: '/x' }, /staged/],
      [{ readonly: false }, /readOnly: true/],
      [{ secrets: { password: 'hunter2' } }, /nodePublishSecretRef/],
      [{ volumeContext: contextOf(uid, { sokcet: 'x' }) }, /did you mean socket\?/],
      [{ volumeContext: contextOf(uid, { socket: '../../x' }) }, /attribute socket is/],
    ];
    for (const [changes, message] of bad)
      await expect(publish(request(target, changes))).rejects.toEqual(refused('InvalidArgument', message));
    expect(node.mounts(join(node.kubelet, 'pods'))).toEqual([]);
    await publish(request(target, { volumeCapability: mount({ volumeMountGroup: '2000' }) }));
  });

  it('has bounds: an attribute of a megabyte, and garbage instead of a message', async () => {
    const driver = await node.start();
    const target = await node.target(uid);
    const big = request(target, { volumeContext: contextOf(uid, { hint: 'x'.repeat(1024 * 1024) }) });
    await expect(publish(big)).rejects.toEqual(refused('ResourceExhausted'));
    const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, at) => [`a${at}`, 'x']));
    const tooMany = publish(request(target, { volumeContext: contextOf(uid, many) }));
    await expect(tooMany).rejects.toEqual(refused('InvalidArgument', /^.{0,600}$/s));
    const garbage = {
      nodePublishVolume: {
        ...csiNodeService.nodePublishVolume,
        requestSerialize: () => Buffer.from('ffffffffffffffff0a', 'hex'),
      },
    };
    const sent = node.dial().client(garbage).nodePublishVolume(request(target));
    await expect(sent).rejects.toEqual(refused('Internal'));
    await publish(request(target));
    expect(driver.log.join('\n')).not.toMatch(/hunter2|x{200}/);
  });

  it('does not depend on what a client calls the server: the raw path of a socket is mended', async () => {
    await node.start();
    const target = await node.target(uid);
    await publish(request(target));
    const { driver } = csiSockets(node.kubelet);
    const info = await node.run(
      'curl',
      ...['-s', '-o', '/dev/null', '-w', '%{http_code}', '--http2-prior-knowledge', '--unix-socket', driver],
      ...['-H', 'content-type: application/grpc', '-H', `host: ${driver}`, '--data-binary', '@/dev/null'],
      'http://x/csi.v1.Identity/Probe',
    );
    expect(info).toBe('200');
  });

  it('is taken from root alone', async () => {
    await node.start();
    const { driver, registration } = csiSockets(node.kubelet);
    for (const path of [driver, registration]) {
      expect(lstatSync(path).mode & 0o777).toBe(0o600);
      // Even where the file would let it in.
      await chmod(path, 0o666);
      for (let at = dirname(path); at.startsWith(node.directory); at = dirname(at)) await chmod(at, 0o755);
      const script = `require('node:net').connect(${JSON.stringify(path)}).on('error', (e) => console.log(e.code)).on('close', () => console.log('closed')).resume()`;
      const answer = await node.run(
        'setpriv',
        '--reuid',
        '65534',
        '--clear-groups',
        process.execPath,
        '-e',
        script,
      );
      expect(answer).toBe('closed\n');
    }
    await node.dial().client(csiIdentityService).probe({});
  });
});

describe('what the driver says of itself', () => {
  it('is what the kubelet registers and asks', async () => {
    await node.start();
    const { driver, registration } = csiSockets(node.kubelet);
    const kubelet = connectUnix(registration);
    const client = kubelet.client(kubeletRegistrationService);
    expect(await client.getInfo({})).toEqual({
      type: 'CSIPlugin',
      name: 'csi.signet.dev',
      endpoint: driver,
      supportedVersions: ['1.0.0'],
    });
    expect(await client.notifyRegistrationStatus({ pluginRegistered: true, error: '' })).toEqual({});
    kubelet.close();
    const connection = node.dial();
    const identity = connection.client(csiIdentityService);
    expect(await identity.getPluginInfo({})).toEqual({ name: 'csi.signet.dev', vendorVersion: '0.0.0' });
    expect(await identity.probe({})).toEqual({ ready: true });
    const client2 = connection.client(csiNodeService);
    expect(await client2.nodeGetInfo({})).toEqual({ nodeId: 'node-1' });
    const { capabilities } = await client2.nodeGetCapabilities({});
    expect(capabilities.map(({ type }) => type?.value.type)).toEqual([6, 2, 7]);
    const target = await node.target(uid);
    await publish(request(target));
    const { usage } = await client2.nodeGetVolumeStats({ volumeId: id, volumePath: target });
    const total = 128 * 1024 * 1024;
    expect(usage[0]).toMatchObject({ unit: 1, total, used: String(servedBy(target)).length });
    expect(await client2.nodeGetVolumeHealth({ volumeId: id, volumePublishPath: target })).toEqual({
      volumeHealth: { volumeId: id, healthStatuses: [] },
    });
    const elsewhere = client2.nodeGetVolumeStats({ volumeId: id, volumePath: '/x' });
    await expect(elsewhere).rejects.toEqual(refused('NotFound'));
  });
});

describe('an agent that is killed', () => {
  it.each(['unbind', 'unbound', 'content', 'opened', 'bind', 'bound'])(
    'before %s while it publishes leaves nothing that its successor does not finish or remove',
    async (step) => {
      const target = await node.target(uid);
      const first = await node.start({ dieBefore: step });
      await expect(publish(request(target))).rejects.toEqual(refused('Unavailable'));
      expect(await first.ended).toBe('SIGKILL');
      const second = await node.start();
      // The kubelet does not know what became of it, and asks again, or takes the pod away.
      await publish(request(target));
      expect(await ask(target)).toBe(`${second.process.pid} ${uid}`);
      expect(node.mounts(target)).toHaveLength(1);
      expect(node.mounts(target)[0]?.options).toMatch(/^ro,/);
      second.kill('SIGKILL');
      await second.ended;
      await node.start();
      await unpublish(target);
      expectNothing(target);
    },
  );

  it.each(['unbind', 'unbound'])('before %s while it unpublishes leaves nothing either', async (step) => {
    const target = await node.target(uid);
    const first = await node.start();
    await publish(request(target));
    first.kill('SIGKILL');
    await first.ended;
    const second = await node.start({ dieBefore: step });
    await expect(unpublish(target)).rejects.toEqual(refused('Unavailable'));
    expect(await second.ended).toBe('SIGKILL');
    await node.start();
    await unpublish(target);
    expectNothing(target);
  });

  it('is followed by one that serves its volumes, without the pods’ mounts being touched', async () => {
    const first = await node.start();
    const target = await node.target(uid);
    await publish(request(target));
    const inode = statSync(node.inside(target)).ino;
    first.kill('SIGKILL');
    await first.ended;
    await expect(ask(target)).rejects.toThrow(/ECONNREFUSED/);
    const second = await node.start();
    expect(await ask(target)).toBe(`${second.process.pid} ${uid}`);
    expect(statSync(node.inside(target)).ino).toBe(inode);
    // A kubelet that was restarted asks for it again.
    await publish(request(target));
    expect(node.mounts(target)).toHaveLength(1);
  });
});

describe('two agents', () => {
  it('do not serve at one time: the newer has the sockets, and finds what the older published last', async () => {
    const first = await node.start({ slow: true });
    const target = await node.target(uid);
    const late = publish(request(target));
    await until('the volume is being published', () =>
      existsSync(node.inside(join(volumeDirectory(join(node.state, 'volumes'), id).path, 'volume.json'))),
    );
    const second = await node.start();
    writeFileSync(join(node.directory, 'go'), '');
    // It was begun with the older one, which either brings it to its end, or says that it cannot.
    await late.catch(async (error: unknown) => {
      expect(error).toEqual(refused('Unavailable'));
      await publish(request(target));
    });
    expect(await first.ended).toBe('0');
    await until('the newer serves it', async () => (await ask(target)) === `${second.process.pid} ${uid}`);
    expect(node.mounts(join(node.kubelet, 'pods'))).toHaveLength(1);
    expect(existsSync(csiSockets(node.kubelet).registration)).toBe(true);
    await unpublish(target);
    expectNothing(target);
  });

  it('mount one file system for volumes, even when they start at one time', async () => {
    await Promise.all([node.start(), node.start(), node.start()]);
    expect(node.mounts(join(node.state, 'volumes'))).toHaveLength(1);
  });
});

describe('the end of an agent', () => {
  it('leaves the volumes and tells the kubelet that the driver is gone', async () => {
    const driver = await node.start();
    const target = await node.target(uid);
    await publish(request(target));
    driver.kill('SIGTERM');
    expect(await driver.ended).toBe('0');
    expect(node.mounts(target)).toHaveLength(1);
    expect(existsSync(csiSockets(node.kubelet).registration)).toBe(false);
    await node.start();
    await unpublish(target);
    expectNothing(target);
  });

  it('is not the removal of its sockets: they are opened again', async () => {
    await node.start();
    const sockets = csiSockets(node.kubelet);
    for (const path of Object.values(sockets)) {
      await rm(path);
      await until('the socket is there again', () => existsSync(path));
    }
    await node.dial().client(csiIdentityService).probe({});
  });
});

describe('a volume that is being published', () => {
  it('is published once, ends with the call, and gives way to its being unpublished', async () => {
    await node.start({ slow: true });
    const target = await node.target(uid);
    const stop = new AbortController();
    const running = publish(request(target), { signal: stop.signal });
    running.catch(() => undefined);
    const record = join(volumeDirectory(join(node.state, 'volumes'), id).path, 'volume.json');
    await until('it is being published', () => existsSync(node.inside(record)));
    await expect(publish(request(target))).rejects.toEqual(refused('Aborted', /under way/));
    await expect(publish(request(target, { volumeId: 'csi-2' }))).rejects.toEqual(refused('Aborted'));
    stop.abort();
    await expect(running).rejects.toEqual(refused('Cancelled'));
    await until('it is undone', () => !existsSync(node.inside(record)));
    const limited = publish(request(target), { deadlineMs: 300 });
    await expect(limited).rejects.toEqual(refused('DeadlineExceeded'));
    await until('it is undone', () => !existsSync(node.inside(record)));
    const again = publish(request(target));
    again.catch(() => undefined);
    await until('it is being published', () => existsSync(node.inside(record)));
    await unpublish(target);
    await expect(again).rejects.toEqual(refused('Aborted', /being unpublished/));
    expectNothing(target);
  });
});
