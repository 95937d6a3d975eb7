import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/* The kubelet's directory, when the node has no room left or its disk has failed. */

const support = join(import.meta.dirname, '../../../test/support');
const RUN = ['--disable-warning=ExperimentalWarning', '--import', join(support, 'run-typescript.mjs')];
const isPossible = spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0;

let root: string;
let source: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'signet-full-'));
  source = mkdtempSync(join(tmpdir(), 'signet-source-'));
});
afterEach(() => {
  for (const directory of [root, source]) rmSync(directory, { recursive: true, force: true });
});

(isPossible ? it : it.skip)(
  'sockets and volumes are refused with what helps, leave nothing half made, and are made once there is room',
  () => {
    const output = execFileSync(
      'unshare',
      ['--mount', process.execPath, ...RUN, join(support, 'full-kubelet.ts'), root, source],
      { encoding: 'utf8' },
    );
    const said = Object.fromEntries(
      output
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as [string, unknown]),
    ) as Record<string, unknown>;
    const refused = (reason: string, hint: string): unknown => ({
      listening: `SocketFileFailed: cannot listen at ${root}/plugins/csi.sock: ${hint}`,
      mount: `MountFailed: cannot make the volume's directory in that of its pod: ${reason}: ${hint}`,
      left: [[], [], 'absent'],
    });
    expect(said).toEqual({
      full: refused('ENOSPC', 'the file system is full: make room there'),
      'read-only': refused(
        'EROFS',
        'the file system is read-only, as after an error of its disk: see the kernel’s log, and mount it anew',
      ),
      well: { listening: 'done', mount: 'done', left: [['mount'], ['csi.sock'], ['file']] },
      after: [],
    });
  },
  30_000,
);
