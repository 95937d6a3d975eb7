import type { Random } from '../../lib/random.js';
import { Encoders } from './encoders.js';
import { checkNames } from './plan.js';
import { type FilesParts, type FilesRequest, FollowedVolume, type VolumeFiles } from './volume-files.js';

/** Writes an identity's files into a volume and keeps them in step with it. */
export type OpenFiles = (request: FilesRequest) => VolumeFiles;

/**
 * What writes the files of volumes, for all volumes of an agent.
 *
 * The returned function throws SignetError `VolumeNameTaken` when two files would have one name, and the file system's
 * error when the directory cannot be read; all else is told by {@link VolumeFiles.written}. Close what it returns.
 */
export function createOpenFiles(options: { readonly parts: FilesParts; readonly random: Random }): OpenFiles {
  const { parts, random } = options;
  const encoders = new Encoders(random);
  return (request) => {
    checkNames(request.settings);
    return new FollowedVolume(parts, request, { encoders, random });
  };
}
