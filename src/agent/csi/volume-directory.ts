import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SignetError } from '../../lib/errors.js';
import { parseVolumeSettings } from './settings.js';
import { isPodUid, parseTarget } from './target.js';
import type { RequestedVolume } from './publish-request.js';

/** Attributes have bounds of their own; the rest is small. */
const LARGEST_RECORD = 512 * 1024;
const VERSION = 1;

/** The directory of one volume, in the agent's file system in memory: `volume.json`, and what the pod sees in `data`. */
export interface VolumeDirectory {
  readonly name: string;
  readonly path: string;
  readonly data: string;
}

/** By a digest of its ID: an ID may be longer than a socket's path bears, and hold anything. */
export function volumeDirectory(volumes: string, id: string): VolumeDirectory {
  return named(volumes, createHash('sha256').update(id).digest('hex').slice(0, 24));
}

function named(volumes: string, name: string): VolumeDirectory {
  const path = join(volumes, name);
  return { name, path, data: join(path, 'data') };
}

/** All directories that are named as a volume's. */
export async function volumeDirectories(volumes: string): Promise<readonly VolumeDirectory[]> {
  const entries = await readdir(volumes, { withFileTypes: true });
  return entries
    .filter((entry) => entry.isDirectory() && /^[0-9a-f]{24}$/.test(entry.name))
    .map(({ name }) => named(volumes, name));
}

/** Makes it anew, with its record. */
export async function makeVolumeDirectory(
  directory: VolumeDirectory,
  requested: RequestedVolume,
): Promise<void> {
  await rm(directory.path, { recursive: true, force: true });
  await mkdir(directory.path, { mode: 0o700 });
  await mkdir(directory.data);
  // Whatever the umask: the pod's processes are any user, and must get to the sockets.
  await chmod(directory.data, 0o755);
  await writeVolume(directory, requested);
}

/** Writes the record, whole or not at all. */
export async function writeVolume(
  directory: VolumeDirectory,
  { volume, attributes }: RequestedVolume,
): Promise<void> {
  const { id, podUid, namespace, podName, serviceAccount, targetPath, group } = volume;
  const record = JSON.stringify({
    version: VERSION,
    ...{ id, podUid, namespace, podName, serviceAccount, targetPath, group, attributes },
  });
  const temporary = join(directory.path, '.volume.json');
  await writeFile(temporary, record, { mode: 0o600 });
  await rename(temporary, join(directory.path, 'volume.json'));
}

export async function removeVolumeDirectory(directory: VolumeDirectory): Promise<void> {
  await rm(directory.path, { recursive: true, force: true });
}

/**
 * Reads what a volume was published as. Trusted no more than a request: whatever is wrong with it is an error.
 *
 * @throws SignetError `VolumeRecordInvalid`
 */
export async function readVolume(
  directory: VolumeDirectory,
  kubeletDirectory: string,
): Promise<RequestedVolume> {
  try {
    const record: unknown = JSON.parse(await readBounded(join(directory.path, 'volume.json')));
    const volume = readRecord(record, kubeletDirectory);
    if (volumeDirectory('', volume.volume.id).name !== directory.name) throw wrong('id');
    return volume;
  } catch (error) {
    const { message } = SignetError.from(asError(error));
    throw new SignetError('VolumeRecordInvalid', `volume.json cannot be used: ${message}`, { cause: error });
  }
}

function asError(error: unknown): unknown {
  return error instanceof SignetError ? error : new SignetError('VolumeRecordInvalid', String(error));
}

async function readBounded(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const { size } = await file.stat();
    if (size > LARGEST_RECORD) throw wrong('size');
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size), 0, size, 0);
    return buffer.subarray(0, bytesRead).toString('utf8');
  } finally {
    await file.close();
  }
}

function readRecord(record: unknown, kubeletDirectory: string): RequestedVolume {
  if (!isRecord(record) || record['version'] !== VERSION) throw wrong('version');
  const text = (name: string): string => {
    const value = record[name];
    if (typeof value !== 'string' || value === '' || value.length > 4_096) throw wrong(name);
    return value;
  };
  const { group, attributes } = record;
  if (group !== undefined && (typeof group !== 'number' || !Number.isSafeInteger(group) || group < 0))
    throw wrong('group');
  if (!isRecord(attributes)) throw wrong('attributes');
  const own: Record<string, string> = {};
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value !== 'string') throw wrong(`attributes.${name}`);
    own[name] = value;
  }
  const podUid = text('podUid');
  const targetPath = text('targetPath');
  if (!isPodUid(podUid) || parseTarget(kubeletDirectory, targetPath).podUid !== podUid)
    throw wrong('targetPath');
  const volume = {
    id: text('id'),
    podUid,
    namespace: text('namespace'),
    podName: text('podName'),
    serviceAccount: text('serviceAccount'),
    targetPath,
    ...(group === undefined ? {} : { group }),
    settings: parseVolumeSettings(own),
  };
  return { volume, attributes: own };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function wrong(field: string): SignetError {
  return new SignetError('VolumeRecordInvalid', `${field} is not what was written`);
}
