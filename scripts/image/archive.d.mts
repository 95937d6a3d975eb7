/** One thing in an image's root file system. `path` has no leading slash; a folder has neither content, source nor target. */
export interface ImageEntry {
  readonly path: string;
  readonly mode: number;
  readonly content?: Uint8Array;
  /** A file to copy. */
  readonly source?: string;
  /** What a symbolic link says. */
  readonly target?: string;
}

export interface ImageDescription {
  /** With a tag, e.g. `rig.local/x:test`. */
  readonly name: string;
  readonly architecture: string;
  /** `config` of an OCI image configuration: Entrypoint, Cmd, User, Env … */
  readonly config: Readonly<Record<string, unknown>>;
  readonly entries: readonly ImageEntry[];
}

export function writeImage(
  file: string,
  image: ImageDescription,
): { readonly digest: string; readonly size: number };
export function withFolders(entries: readonly ImageEntry[]): readonly ImageEntry[];
