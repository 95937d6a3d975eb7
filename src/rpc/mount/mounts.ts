import { SignetError } from '../../lib/errors.js';

/**
 * A mount that cannot be made or taken away. Codes: MountUnsupported (not Linux, or no FFI), MountPathRefused (a component
 * of the path is a link or no directory), MountFailed (the kernel says no; the message has its reason).
 */
export class MountError extends SignetError {}

/** A place for a mount, below a directory that is trusted. */
export interface MountPlace {
  /** Absolute. Links on the way to it are followed: it is our own configuration. */
  readonly root: string;
  /** Relative to it, without empty, `.` and `..` components. No component may be a link. */
  readonly path: string;
}

/** What is at a place: nothing, `source` itself, or another thing. */
export type MountState = 'absent' | 'source' | 'other';

/** The space of a file system, in bytes. */
export interface MountSpace {
  readonly total: number;
  readonly available: number;
}

/**
 * Mounts as a CSI driver needs them. No path is looked up a second time after it was checked, so nobody who may write
 * to a directory on the way can have another thing mounted, covered or removed. All throw {@link MountError}.
 */
export interface Mounts {
  /**
   * Makes sure that a directory is a file system in memory of its own: private, of a bounded size, and without programs
   * or devices. Leaves it as it is when it is one. True when it was made.
   */
  ensureMemory(directory: string, limits: { readonly bytes: number; readonly files: number }): boolean;
  /**
   * Shows the directory `source` at a place, for reading only. The last component is made; those before must be there. What
   * is shown there already is made read-only, should that be missing. Nothing is left when it fails.
   */
  bind(source: string, place: MountPlace): void;
  /** Takes away whatever is mounted at a place, busy or not, and its directory. Does nothing where there is none. */
  unbind(place: MountPlace): void;
  /** What is at a place. */
  look(source: string, place: MountPlace): MountState;
  /** Of the file system that a directory is in. */
  space(directory: string): MountSpace;
}
