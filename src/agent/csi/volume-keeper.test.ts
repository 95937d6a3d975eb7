import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { MemoryMounts } from '../../../test/support/memory-mounts.js';
import { recordingLogger, type RecordingLogger } from '../../../test/support/recording-logger.js';
import { SignetError } from '../../lib/errors.js';
import type { RequestedVolume } from './publish-request.js';
import { parseVolumeSettings } from './settings.js';
import { volumeDirectory } from './volume-directory.js';
import { VolumeKeeper, type VolumesOptions } from './volume-keeper.js';
import type { OpenContent } from './volumes.js';

let directory: string;
let mounts: MemoryMounts;
let clock: FakeClock;
let logger: RecordingLogger;
/** Volumes whose content is open now, each as often as it is. */
let open: string[];
const never = { signal: new AbortController().signal, requestId: 'r1' };

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'keeper-'));
  mounts = new MemoryMounts();
  clock = new FakeClock();
  logger = recordingLogger();
  open = [];
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const openContent: OpenContent = async ({ id }) => {
  open.push(id);
  return {
    close: async () => {
      open.splice(open.indexOf(id), 1);
    },
  };
};

async function keeper(options: Partial<VolumesOptions> = {}): Promise<VolumeKeeper> {
  const made = new VolumeKeeper({
    stateDirectory: join(directory, 'state'),
    kubeletDirectory: join(directory, 'kubelet'),
    ...{ mounts, openContent, clock, logger },
    registrationOf: () => undefined,
    ...options,
  });
  await made.restore();
  return made;
}

async function asked(name: string, attributes: Record<string, string> = {}): Promise<RequestedVolume> {
  const podUid = `pod-${name}`;
  const parent = join(directory, 'kubelet/pods', podUid, 'volumes/kubernetes.io~csi/identity');
  await mkdir(parent, { recursive: true });
  const volume = {
    ...{ id: `csi-${name}`, podUid, namespace: 'shop', podName: name, serviceAccount: 'web' },
    targetPath: join(parent, 'mount'),
    settings: parseVolumeSettings(attributes),
  };
  return { volume, attributes };
}

const recordOf = (requested: RequestedVolume): string =>
  join(volumeDirectory(join(directory, 'state/volumes'), requested.volume.id).path, 'volume.json');
const directories = (): readonly string[] => readdirSync(join(directory, 'state/volumes'));
const status = (name: string, message = /./): unknown =>
  expect.objectContaining({ status: name, message: expect.stringMatching(message) });

describe('the keeper of volumes', () => {
  it('publishes nothing for a pod that the server knows by another name', async () => {
    const volumes = await keeper({ registrationOf: () => ({ namespace: 'shop', name: 'other' }) });
    await expect(volumes.publish(await asked('web'), never)).rejects.toEqual(
      status('PermissionDenied', /is shop\/other to the server, not shop\/web/),
    );
    expect(directories()).toEqual([]);
    const same = await keeper({ registrationOf: () => ({ namespace: 'shop', name: 'web' }) });
    await same.publish(await asked('web'), never);
    expect(open).toEqual(['csi-web']);
  });

  it('has a bound, and room again when a volume goes', async () => {
    const volumes = await keeper({ limits: { maxVolumes: 2 } });
    const [first, second, third] = [await asked('a'), await asked('b'), await asked('c')];
    await volumes.publish(first, never);
    await volumes.publish(second, never);
    await expect(volumes.publish(third, never)).rejects.toEqual(
      status('ResourceExhausted', /2 volumes already/),
    );
    await volumes.unpublish(first.volume.id, first.volume.targetPath, never);
    await volumes.publish(third, never);
    expect(open).toEqual(['csi-b', 'csi-c']);
  });

  it('leaves nothing of what failed, and says why to the pod', async () => {
    const requested = await asked('web');
    const say =
      (thrown: Error): OpenContent =>
      () =>
        Promise.reject(thrown);
    const failures: readonly (readonly [Error, unknown])[] = [
      [
        new SignetError('IdentityMissing', 'no WorkloadIdentity selects the pod: make one'),
        status('FailedPrecondition', /make one/),
      ],
      [
        Object.assign(new Error('ENOSPC: /secret/path'), { code: 'ENOSPC' }),
        status('ResourceExhausted', /is full/),
      ],
      [new Error('/secret/path'), status('Internal', /^the agent's log says why$/)],
    ];
    for (const [thrown, expected] of failures) {
      const volumes = await keeper({ openContent: say(thrown) });
      await expect(volumes.publish(requested, never)).rejects.toEqual(expected);
    }
    const volumes = await keeper();
    mounts.before = (step) => {
      if (step === 'bind') throw new Error('no');
    };
    await expect(volumes.publish(requested, never)).rejects.toEqual(status('Internal'));
    expect([directories(), [...mounts.at], open, existsSync(requested.volume.targetPath)]).toEqual([
      [],
      [],
      [],
      false,
    ]);
  });

  it('opens again what an earlier agent published, once, and tries again what failed', async () => {
    const first = await keeper();
    const requested = await asked('web', { socket: 'spire-agent.sock' });
    await first.publish(requested, never);
    await first.close();
    expect(open).toEqual([]);
    let fail = true;
    const seen: unknown[] = [];
    const second = await keeper({
      openContent: (volume, data, signal) => {
        seen.push(volume);
        return fail
          ? Promise.reject(new SignetError('NotYet', 'not yet'))
          : openContent(volume, data, signal);
      },
    });
    expect([open, second.size, mounts.at.size]).toEqual([[], 0, 1]);
    fail = false;
    await second.restore();
    await second.restore();
    expect(open).toEqual(['csi-web']);
    expect(seen).toEqual([requested.volume, requested.volume]);
    await second.publish(requested, never);
    expect(open).toEqual(['csi-web']);
  });

  it('publishes what is mounted already, when nobody has found it yet, without unmounting it', async () => {
    const first = await keeper();
    const requested = await asked('web');
    const second = await keeper();
    await first.publish(requested, never);
    await first.close();
    mounts.before = (step) => {
      if (step === 'unbind') throw new Error('the pod uses it');
    };
    const other = { ...requested, attributes: { socket: 'x' } };
    await expect(second.publish(other, never)).rejects.toEqual(status('AlreadyExists'));
    const failing = await keeper({ openContent: () => Promise.reject(new SignetError('NotYet', 'not yet')) });
    await expect(failing.publish(requested, never)).rejects.toEqual(status('FailedPrecondition'));
    await second.publish(requested, never);
    expect([open, mounts.at.size]).toEqual([['csi-web'], 1]);
  });

  it('serves no record that was damaged or made up, and removes it after a while', async () => {
    const first = await keeper();
    const damage: Record<string, (path: string) => Promise<void>> = {
      half: async (path) => truncate(path, 20),
      empty: (path) => writeFile(path, ''),
      gone: (path) => rm(path),
      large: (path) => writeFile(path, `{"x":"${'x'.repeat(600_000)}"}`),
      link: async (path) => {
        await rm(path);
        await symlink('/etc/passwd', path);
      },
      list: (path) => writeFile(path, '[]'),
      types: (path) => change(path, { podUid: 5 }),
      group: (path) => change(path, { group: -1 }),
      target: (path) => change(path, { targetPath: '/etc' }),
      uid: (path) => change(path, { podUid: 'pod-half' }),
      id: (path) => change(path, { id: 'csi-half' }),
      attributes: (path) => change(path, { attributes: { sokcet: 'x' } }),
      version: (path) => change(path, { version: 2 }),
    };
    const change = async (path: string, changes: object): Promise<void> =>
      writeFile(
        path,
        JSON.stringify({ ...(JSON.parse(await readFile(path, 'utf8')) as object), ...changes }),
      );
    const good = await asked('good');
    await first.publish(good, never);
    for (const [name, act] of Object.entries(damage)) {
      const requested = await asked(name);
      await first.publish(requested, never);
      await act(recordOf(requested));
    }
    await first.close();
    const second = await keeper();
    expect([open, logger.lines]).toEqual([['csi-good'], []]);
    await second.restore();
    const warnings = logger.lines.filter((line) => line === 'warn a directory is no published volume');
    expect(warnings).toHaveLength(Object.keys(damage).length);
    expect(directories()).toHaveLength(Object.keys(damage).length + 1);
    await clock.advance(60_000);
    await second.restore();
    expect(directories()).toHaveLength(1);
    // The kubelet takes the pods away in the end, and there is nothing that it cannot.
    for (const name of Object.keys(damage)) {
      const { volume } = await asked(name);
      await second.unpublish(volume.id, volume.targetPath, never);
    }
    expect([...mounts.at.keys()]).toEqual([good.volume.targetPath]);
  });

  it('removes a directory whose volume is not mounted, but not before another agent could have mounted it', async () => {
    const first = await keeper();
    const requested = await asked('web');
    await first.publish(requested, never);
    await first.close();
    mounts.at.clear();
    const second = await keeper();
    await clock.advance(59_000);
    await second.restore();
    expect(directories()).toHaveLength(1);
    await clock.advance(1_000);
    await second.restore();
    expect(directories()).toEqual([]);
    expect(existsSync(requested.volume.targetPath)).toBe(false);
    expect(existsSync(dirname(requested.volume.targetPath))).toBe(true);
  });

  it('takes what it is making itself for no stray, however long that lasts', async () => {
    const volumes = await keeper({
      openContent: async (volume, data, signal) => {
        await rm(recordOf(requested));
        for (let look = 0; look < 3; look++) {
          await clock.advance(60_000);
          await volumes.restore();
        }
        return openContent(volume, data, signal);
      },
    });
    const requested = await asked('web');
    await volumes.publish(requested, never);
    expect(directories()).toHaveLength(1);
    expect(logger.lines).toEqual([]);
  });

  it('changes nothing once it is closed: another agent may be at work', async () => {
    const opened = Promise.withResolvers<undefined>();
    const volumes = await keeper({
      openContent: async (volume, data, signal) => {
        opened.resolve(undefined);
        await new Promise((_, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason as Error)),
        );
        return openContent(volume, data, signal);
      },
    });
    const requested = await asked('web');
    const running = volumes.publish(requested, never);
    running.catch(() => undefined);
    await opened.promise;
    await volumes.close();
    await expect(running).rejects.toEqual(status('Unavailable', /stopping/));
    expect(existsSync(recordOf(requested))).toBe(true);
    await expect(volumes.publish(requested, never)).rejects.toEqual(status('Unavailable'));
    await expect(volumes.unpublish(requested.volume.id, requested.volume.targetPath, never)).rejects.toEqual(
      status('Unavailable'),
    );
    await (await keeper()).publish(requested, never);
    expect(open).toEqual(['csi-web']);
  });
});
