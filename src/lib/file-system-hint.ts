const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: 'the file system is full: make room there',
  EDQUOT: 'the quota of the file system is used up: make room there',
  EROFS:
    'the file system is read-only, as after an error of its disk: see the kernel’s log, and mount it anew',
};

/** What a file system lacks, and what helps, when that is why a call failed; by the error's code, whatever realm it is from. */
export function fileSystemHint(error: unknown): string | undefined {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? HINTS[code] : undefined;
}
