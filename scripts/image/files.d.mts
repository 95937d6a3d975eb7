import type { ImageEntry } from './archive.mjs';

export const buildSources: readonly string[];
export const settings: {
  readonly User: string;
  readonly Entrypoint: readonly string[];
  readonly WorkingDir: string;
};
export const HOME: string;
export const NODE: string;
export const cpus: Readonly<Record<string, string>>;
export function labels(about: {
  readonly description: string;
  readonly license: string;
  readonly version: string;
}): Readonly<Record<string, string>>;
export function applicationEntries(root: string, architecture: string): readonly ImageEntry[];
