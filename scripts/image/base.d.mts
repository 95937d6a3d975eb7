import type { ImageEntry } from './archive.mjs';

export function baseEntries(): readonly ImageEntry[];
export function libraryEntries(programs: readonly string[]): readonly ImageEntry[];
