import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  MountError,
  type MountPlace,
  type Mounts,
  type MountSpace,
  type MountState,
} from '../../src/rpc/mount/mounts.js';

/** Mounts that are only remembered, over real directories. One memory may serve several agents, as a kernel does. */
export class MemoryMounts implements Mounts {
  /** What is shown where, by absolute path. */
  readonly at = new Map<string, string>();
  /** Called before each step with its name; what it throws, the step fails with. */
  before: (step: 'bind' | 'unbind' | 'look', path: string) => void = () => undefined;

  ensureMemory(directory: string): boolean {
    if (existsSync(directory)) return false;
    mkdirSync(directory, { recursive: true });
    return true;
  }

  bind(source: string, place: MountPlace): void {
    const path = pathOf(place);
    this.before('bind', path);
    if (!existsSync(dirname(path))) throw new MountError('MountFailed', 'the parent directory is not there');
    mkdirSync(path, { recursive: true });
    this.at.set(path, source);
  }

  unbind(place: MountPlace): void {
    const path = pathOf(place);
    this.before('unbind', path);
    this.at.delete(path);
    rmSync(path, { recursive: true, force: true });
  }

  look(source: string, place: MountPlace): MountState {
    const path = pathOf(place);
    this.before('look', path);
    const shown = this.at.get(path);
    if (shown === undefined) return existsSync(path) ? 'other' : 'absent';
    return shown === source && existsSync(source) ? 'source' : 'other';
  }

  space(): MountSpace {
    return { total: 1024, available: 512 };
  }
}

function pathOf({ root, path }: MountPlace): string {
  return join(root, path);
}
