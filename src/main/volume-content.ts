import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { APPLICATION_SOCKET } from '../agent/csi/settings.js';
import type { OpenContent, VolumeContent } from '../agent/csi/volumes.js';
import type { OpenFiles } from '../agent/files/open-files.js';
import type { FilesState, VolumeFiles } from '../agent/files/volume-files.js';
import { POD_LISTENER_PREFIX } from '../agent/session.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Metrics } from '../operate/metrics/metrics.js';
import { closeAll } from './open-sockets.js';
import type { WorkloadServices } from './workload-services.js';

/** What volumes are filled with. */
export interface VolumeContentParts {
  readonly services: Pick<WorkloadServices, 'workloads' | 'applications'>;
  readonly openFiles: OpenFiles;
  readonly clock: Clock;
  readonly metrics: Pick<Metrics, 'count' | 'read'>;
}

/** How long a pod's start waits for its files, in milliseconds. The kubelet tries again. */
const FILES_MS = 20_000;
/** The volume is in this pod alone, whose containers may run as anybody: who can reach the socket is the pod. */
const SOCKET_MODE = 0o666;

/**
 * Opens the sockets of a pod in its volume, and writes its files. A pod that starts waits for its files; of one that runs
 * already the sockets are served whatever its files are like.
 */
export function volumeContent(parts: VolumeContentParts): OpenContent {
  const { metrics } = parts;
  const served = new Set<VolumeContent>();
  metrics.read('volumes', () => {
    const lacking = [...served].filter((content) => content.problem?.() !== undefined).length;
    return [
      { labels: { state: 'served' }, value: served.size - lacking },
      { labels: { state: 'lacking' }, value: lacking },
    ];
  });
  return async (volume, directory, signal) => {
    // An agent before this one has filled it: its pod runs.
    const runs = await exists(join(directory, volume.settings.socket));
    const occasion = runs ? 'restore' : 'publish';
    try {
      const opened = await open(parts, { volume, directory, waits: !runs }, signal);
      const content: VolumeContent = {
        problem: () => opened.problem(),
        async close() {
          served.delete(content);
          await opened.close();
        },
      };
      served.add(content);
      metrics.count('volumesOpened', { occasion, result: 'success' });
      return content;
    } catch (thrown) {
      metrics.count('volumesOpened', { occasion, result: SignetError.from(thrown).code });
      throw thrown;
    }
  };
}

interface Opening {
  readonly volume: Parameters<OpenContent>[0];
  readonly directory: string;
  /** Whether it waits for the files. */
  readonly waits: boolean;
}

async function open(
  { services, openFiles, clock }: VolumeContentParts,
  { volume, directory, waits }: Opening,
  signal: AbortSignal,
): Promise<Required<VolumeContent>> {
  const { podUid, settings, group } = volume;
  const socket = {
    ...{ mode: SOCKET_MODE, name: `${POD_LISTENER_PREFIX}${podUid}` },
    ...{ peerCredentials: false, takeOver: true },
  };
  const opened: { close(): Promise<void> }[] = [];
  const limit = new AbortController();
  const timer = clock.after(FILES_MS, () =>
    limit.abort(new SignetError('FilesLate', `the files were not written within ${FILES_MS / 1000} s`)),
  );
  try {
    opened.push(
      await services.workloads.listenUnix({ ...socket, path: join(directory, settings.socket) }),
      await services.applications.listenUnix({ ...socket, path: join(directory, APPLICATION_SOCKET) }),
    );
    let files: VolumeFiles | undefined;
    if (settings.files.length > 0 || settings.jwtAudiences.length > 0) {
      const { signal: late } = limit;
      files = openFiles({
        ...{ podUid, settings, directory, signal: AbortSignal.any([signal, late]) },
        ...(group === undefined ? {} : { group }),
      });
      opened.push(files);
      // Of a pod that runs, the state tells.
      if (waits) await files.written;
      else files.written.catch(() => undefined);
    }
    return {
      problem: () => problemOf(files?.state.value),
      close: () => closeAll(opened),
    };
  } catch (error) {
    await closeAll(opened);
    throw error;
  } finally {
    timer.cancel();
  }
}

function problemOf(state: FilesState | undefined): string | undefined {
  return state === undefined || state.kind === 'current' ? undefined : state.reason;
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
