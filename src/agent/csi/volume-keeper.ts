import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { LogFields, Logger } from '../../lib/logger.js';
import type { Mounts, MountPlace } from '../../rpc/mount/mounts.js';
import { callLogger } from '../../rpc/request-id.js';
import { StatusError, type CallContext } from '../../rpc/service.js';
import { Exclusive } from './exclusive.js';
import type { RequestedVolume } from './publish-request.js';
import { volumeStatus } from './status.js';
import { parseTarget } from './target.js';
import {
  makeVolumeDirectory,
  readVolume,
  removeVolumeDirectory,
  volumeDirectories,
  volumeDirectory,
  writeVolume,
  type VolumeDirectory,
} from './volume-directory.js';
import type { OpenContent, Volume, VolumeContent } from './volumes.js';

export interface VolumeLimits {
  /** Volumes on this node. */
  readonly maxVolumes: number;
  /** Operations at one time. */
  readonly maxOperations: number;
  /** Volumes that are opened again at one time after a restart. */
  readonly restoring: number;
  /** Size of the file system in memory that all volumes share. */
  readonly bytes: number;
  readonly files: number;
  /** How long a directory that belongs to no volume is left alone: another agent may be about to publish it. Milliseconds. */
  readonly strayMs: number;
}

export const defaultVolumeLimits: VolumeLimits = {
  maxVolumes: 1_000,
  maxOperations: 512,
  restoring: 32,
  bytes: 128 * 1024 * 1024,
  files: 128 * 1024,
  strayMs: 60_000,
};

export interface VolumesOptions {
  /** Of the agent; the volumes are in a file system in memory at `volumes` in it. */
  readonly stateDirectory: string;
  /** The kubelet's `--root-dir`. */
  readonly kubeletDirectory: string;
  readonly mounts: Mounts;
  readonly openContent: OpenContent;
  /** Which pod the server says has this UID, if it said so yet. */
  readonly registrationOf: (uid: string) => { readonly namespace: string; readonly name: string } | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits?: Partial<VolumeLimits>;
}

interface Published extends RequestedVolume {
  readonly directory: VolumeDirectory;
  readonly content: VolumeContent;
}

/** A volume as it is looked at from outside. */
export interface ShownVolume {
  readonly volume: Volume;
  readonly dataDirectory: string;
  /** What the pod lacks at the moment. */
  readonly problem: string | undefined;
}

/** That an operation holds: the volume's ID, its target path and its directory. */
const NAMES = 3;

const closing = new StatusError('Unavailable', 'this agent is stopping: another one will be asked');

/**
 * The volumes of this node. What there is, is told by directories and mounts and not by this process: an agent that comes
 * after it, or beside it, finds them. Of one volume, one thing is done at a time.
 */
export class VolumeKeeper {
  readonly #options: VolumesOptions;
  readonly #logger: Logger;
  readonly #limits: VolumeLimits;
  readonly #volumes: string;
  readonly #published = new Map<string, Published>();
  readonly #exclusive = new Exclusive();
  /** Directories of no volume, since when they were seen (monotonic), and whether that was told. */
  readonly #strays = new Map<string, { readonly since: number; told: boolean }>();
  readonly #closing = new AbortController();

  constructor(options: VolumesOptions) {
    this.#options = options;
    this.#logger = options.logger.child({ component: 'csi' });
    this.#limits = { ...defaultVolumeLimits, ...options.limits };
    this.#volumes = join(options.stateDirectory, 'volumes');
  }

  get size(): number {
    return this.#published.size;
  }

  get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** A volume by its ID, if it is published. */
  volume(id: string): ShownVolume | undefined {
    const found = this.#published.get(id);
    if (found === undefined) return undefined;
    const { volume, directory, content } = found;
    return { volume, dataDirectory: directory.data, problem: content.problem?.() };
  }

  /** Publishes a volume; does nothing when it is published as requested. Rejects with StatusError. */
  async publish(requested: RequestedVolume, call: Pick<CallContext, 'signal' | 'requestId'>): Promise<void> {
    const { volume } = requested;
    this.#admit();
    this.#checkPod(volume);
    const logger = callLogger(this.#logger, call);
    await this.#run(volume, { signal: call.signal, logger }, async (until) => {
      const before = this.#published.get(volume.id);
      if (before !== undefined) {
        if (!same(before, requested)) throw published(volume.id);
        if (this.#look(before) === 'source') return;
        // Somebody has unmounted it behind our back.
        await this.#forget(before);
      }
      for (const other of this.#published.values())
        if (other.volume.targetPath === volume.targetPath) throw published(other.volume.id);
      if (this.#published.size >= this.#limits.maxVolumes)
        throw new StatusError(
          'ResourceExhausted',
          `this node has ${this.#limits.maxVolumes} volumes already`,
        );
      await this.#make(requested, until);
      logger.info('a volume is published', fieldsOf(volume));
    });
  }

  /** Takes a volume away, whether this process knows it or not; ends its publishing first. Rejects with StatusError. */
  async unpublish(id: string, targetPath: string, call: Pick<CallContext, 'requestId'>): Promise<void> {
    this.#admit();
    const { place, podUid } = parseTarget(this.#options.kubeletDirectory, targetPath);
    const gone = new StatusError('Aborted', 'the volume is being unpublished');
    await this.#exclusive.end(this.#namesOf(id, targetPath), gone);
    const logger = callLogger(this.#logger, call);
    await this.#run({ id, targetPath }, { signal: this.#closing.signal, logger }, async () => {
      const known = this.#published.get(id);
      if (known?.volume.targetPath === targetPath) await this.#forget(known);
      this.#options.mounts.unbind(place);
      if (this.#published.has(id)) return;
      const directory = volumeDirectory(this.#volumes, id);
      const record = await readVolume(directory, this.#options.kubeletDirectory).catch(() => undefined);
      if (record === undefined || record.volume.targetPath === targetPath)
        await removeVolumeDirectory(directory);
      logger.info('a volume is unpublished', { volume: id, pod: podUid });
    });
  }

  /**
   * Finds the volumes that other agents have published, and opens their content here. Called again, it finds what came
   * since, tries again what failed, and removes what belongs to no volume.
   */
  async restore(): Promise<void> {
    await mkdir(this.#options.stateDirectory, { recursive: true, mode: 0o755 });
    const { bytes, files } = this.#limits;
    if (this.#options.mounts.ensureMemory(this.#volumes, { bytes, files }))
      this.#logger.info('the file system for volumes is mounted', { directory: this.#volumes });
    const known = new Set([...this.#published.values()].map(({ directory }) => directory.name));
    const found = (await volumeDirectories(this.#volumes)).filter(({ name }) => !known.has(name));
    const names = new Set(found.map(({ name }) => name));
    for (const name of this.#strays.keys()) if (!names.has(name)) this.#strays.delete(name);
    const next = found.values();
    const work = async (): Promise<void> => {
      for (const directory of next) if (!this.closed) await this.#adopt(directory);
    };
    await Promise.all(Array.from({ length: this.#limits.restoring }, work));
  }

  /**
   * Ends all operations and closes what was opened. Directories and mounts stay as they are, half-done ones too: they are
   * the next agent's from now on, which may be at work already. May be called twice.
   */
  async close(): Promise<void> {
    this.#closing.abort(closing);
    await this.#exclusive.endAll(closing);
    const contents = [...this.#published.values()].map(({ content }) => content);
    this.#published.clear();
    await Promise.all(contents.map((content) => content.close()));
  }

  #admit(): void {
    if (this.closed) throw closing;
    if (this.#exclusive.size >= NAMES * this.#limits.maxOperations)
      throw new StatusError('ResourceExhausted', 'too many operations on volumes are under way: try again');
  }

  #run(
    { id, targetPath }: Pick<Volume, 'id' | 'targetPath'>,
    { signal, logger }: { readonly signal: AbortSignal; readonly logger: Logger },
    act: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    return this.#exclusive
      .run(this.#namesOf(id, targetPath), AbortSignal.any([signal, this.#closing.signal]), act)
      .catch((thrown: unknown) => {
        const status = volumeStatus(thrown);
        if (status.status !== 'Aborted')
          logger.warn('a volume cannot be served', {
            ...{ volume: id, code: status.code, reason: status.message },
            ...(status.status === 'Internal' ? { cause: String(thrown) } : {}),
          });
        throw status;
      });
  }

  #namesOf(id: string, targetPath: string): readonly string[] {
    return [id, targetPath, volumeDirectory(this.#volumes, id).path];
  }

  /** A pod that the server knows by another name is not the one that the kubelet means. */
  #checkPod({ podUid, namespace, podName }: Volume): void {
    const known = this.#options.registrationOf(podUid);
    if (known === undefined || (known.namespace === namespace && known.name === podName)) return;
    throw new StatusError(
      'PermissionDenied',
      `the pod ${podUid} is ${known.namespace}/${known.name} to the server, not ${namespace}/${podName}`,
    );
  }

  /** Makes directory, content and mount, or leaves nothing of them. */
  async #make(requested: RequestedVolume, signal: AbortSignal): Promise<void> {
    const { volume } = requested;
    const { mounts, openContent } = this.#options;
    const directory = volumeDirectory(this.#volumes, volume.id);
    const place = this.#placeOf(volume);
    let content: VolumeContent | undefined;
    // An agent before us has published it, and the pod may use it: nothing of it is taken away.
    const inUse = mounts.look(directory.data, place) === 'source';
    try {
      if (inUse) {
        const record = await readVolume(directory, this.#options.kubeletDirectory).catch(() => undefined);
        if (record !== undefined && !same(record, requested)) throw published(volume.id);
        await writeVolume(directory, requested);
      } else {
        mounts.unbind(place);
        await makeVolumeDirectory(directory, requested);
      }
      signal.throwIfAborted();
      content = await openContent(volume, directory.data, signal);
      signal.throwIfAborted();
      mounts.bind(directory.data, place);
      this.#published.set(volume.id, { ...requested, directory, content });
    } catch (error) {
      await content?.close();
      // When closed, it is the next agent's.
      if (!this.closed && !inUse) await this.#remove(directory, place);
      throw error;
    }
  }

  async #remove(directory: VolumeDirectory, place: MountPlace): Promise<void> {
    try {
      this.#options.mounts.unbind(place);
    } catch (error) {
      // The directory goes in any case; unpublishing will try the mount again.
      this.#logger.warn('a mount could not be undone', { reason: SignetError.from(error).message });
    }
    await removeVolumeDirectory(directory);
  }

  async #adopt(directory: VolumeDirectory): Promise<void> {
    // It is being made or removed here: half of it may be there.
    if (this.#exclusive.holds(directory.path)) {
      this.#strays.delete(directory.name);
      return;
    }
    let requested: RequestedVolume;
    try {
      requested = await readVolume(directory, this.#options.kubeletDirectory);
      this.#checkPod(requested.volume);
    } catch (error) {
      await this.#stray(directory, undefined, SignetError.from(error).message);
      return;
    }
    const { volume } = requested;
    if (this.#exclusive.holds(volume.id) || this.#exclusive.holds(volume.targetPath)) return;
    const run = { signal: this.#closing.signal, logger: this.#logger };
    await this.#run(volume, run, async (signal) => {
      if (this.#published.has(volume.id)) return;
      const place = this.#placeOf(volume);
      if (this.#options.mounts.look(directory.data, place) !== 'source') {
        await this.#stray(directory, place, 'it is not mounted');
        return;
      }
      this.#strays.delete(directory.name);
      this.#options.mounts.bind(directory.data, place);
      const content = await this.#options.openContent(volume, directory.data, signal);
      if (signal.aborted) {
        await content.close();
        signal.throwIfAborted();
      }
      this.#published.set(volume.id, { ...requested, directory, content });
      this.#logger.info('a volume is served again', fieldsOf(volume));
    }).catch(() => undefined); // told by #run, and tried again with the next call
  }

  /** Removes what belongs to no volume, once it has been so for long enough that nobody is about to publish it. */
  async #stray(directory: VolumeDirectory, place: MountPlace | undefined, reason: string): Promise<void> {
    const { clock } = this.#options;
    const seen = this.#strays.get(directory.name);
    if (seen === undefined) {
      // Most likely it is being made this moment, here or by another agent.
      this.#strays.set(directory.name, { since: clock.monotonic(), told: false });
      return;
    }
    if (!seen.told)
      this.#logger.warn('a directory is no published volume', { directory: directory.name, reason });
    seen.told = true;
    if (clock.monotonic() - seen.since < this.#limits.strayMs) return;
    if (place === undefined) await removeVolumeDirectory(directory);
    else await this.#remove(directory, place);
    this.#strays.delete(directory.name);
  }

  async #forget(known: Published): Promise<void> {
    this.#published.delete(known.volume.id);
    await known.content.close();
  }

  #look({ directory, volume }: Published): ReturnType<Mounts['look']> {
    return this.#options.mounts.look(directory.data, this.#placeOf(volume));
  }

  #placeOf({ targetPath }: Volume): MountPlace {
    return parseTarget(this.#options.kubeletDirectory, targetPath).place;
  }
}

function published(id: string): StatusError {
  return new StatusError(
    'AlreadyExists',
    `volume ${id} is published at this path already, with other attributes or for another pod: unpublish it first`,
  );
}

/** By everything that was asked: settings are read from the attributes. */
function same(one: RequestedVolume, other: RequestedVolume): boolean {
  return canonical(one) === canonical(other);
}

function canonical({ volume, attributes }: RequestedVolume): string {
  const { id, podUid, namespace, podName, serviceAccount, targetPath, group } = volume;
  const sorted = Object.entries(attributes).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([id, podUid, namespace, podName, serviceAccount, targetPath, group ?? null, sorted]);
}

function fieldsOf({ id, namespace, podName, podUid }: Volume): LogFields {
  return { volume: id, pod: podUid, namespace, name: podName };
}
