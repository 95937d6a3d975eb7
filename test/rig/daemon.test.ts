import { describe, expect, it } from '@jest/globals';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from '../support/until.js';
import { startDaemon } from './daemon.js';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

describe('a program that runs beside the tests', () => {
  it('is killed with the process that started it, even when both are stopped at that time', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'daemon-'));
    const log = join(folder, 'log');
    const script = `
      await import(${JSON.stringify(here('../support/run-typescript.mjs'))});
      const { startDaemon } = await import(${JSON.stringify(here('daemon.ts'))});
      const daemon = startDaemon('sh', ['-c', 'echo up; exec sleep 600'], ${JSON.stringify(log)});
      while (await daemon.log() === '') await new Promise(setImmediate);
      daemon.signal('SIGSTOP');
      console.log(daemon.pid);
      setInterval(() => {}, 1000);`;
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      let out = '';
      parent.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
      const pid = Number(await until('its pid', () => out.includes('\n') && out));
      expect(runs(pid)).toBe(true);
      parent.kill('SIGSTOP');
      parent.kill('SIGKILL');
      await until('its end', () => !runs(pid));
    } finally {
      parent.kill('SIGKILL');
      rmSync(folder, { recursive: true });
    }
  });

  it('says how it ended, and what it said', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'daemon-'));
    try {
      const log = join(folder, 'log');
      const failing = startDaemon('sh', ['-c', 'echo no such thing >&2; exit 3'], log);
      expect(await until('its end', () => failing.ended())).toBe('3');
      expect(await failing.log()).toBe('no such thing\n');
      const missing = startDaemon('/nowhere/at-all', [], log);
      expect(await until('its end', () => missing.ended())).toBe('127');
      expect(await missing.log()).toContain('/nowhere/at-all');
      const stopped = startDaemon('sleep', ['600'], log);
      stopped.signal('SIGSTOP');
      await stopped.stop('SIGTERM');
      expect(stopped.ended()).toBe('SIGTERM');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

/** A zombie, which nobody has waited for yet, does not run. */
function runs(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}
