import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { built, type Part } from './cache.js';

describe('the cache of built parts', () => {
  let home: string;
  let source: string;
  const before = process.env['SIGNET_RIG_HOME'];

  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'rig-'));
    source = join(home, 'source.txt');
    writeFileSync(source, 'one');
    process.env['SIGNET_RIG_HOME'] = join(home, 'cache');
  });
  afterEach(() => {
    if (before === undefined) delete process.env['SIGNET_RIG_HOME'];
    else process.env['SIGNET_RIG_HOME'] = before;
    rmSync(home, { recursive: true });
  });

  const part = (build: (folder: string) => Promise<void>): Part => ({
    name: 'thing',
    sources: [source],
    cost: 'nothing',
    build,
  });

  it('builds once for those who ask at the same time, and again only when a source has changed', async () => {
    let builds = 0;
    const thing = part(async (folder) => {
      builds++;
      await new Promise((resolve) => setImmediate(resolve));
      writeFileSync(join(folder, 'out'), readFileSync(source));
    });
    const [first, second] = await Promise.all([built(thing), built(thing)]);
    expect(second).toBe(first);
    expect(builds).toBe(1);
    writeFileSync(source, 'two');
    const third = await built(thing);
    expect(third).not.toBe(first);
    expect(readFileSync(join(third, 'out'), 'utf8')).toBe('two');
    expect(readFileSync(join(first, 'out'), 'utf8')).toBe('one');
    expect(await built(thing)).toBe(third);
    expect(builds).toBe(2);
  });

  it('leaves nothing of a build that failed, and builds at the next call', async () => {
    await expect(
      built(
        part(async (folder) => {
          writeFileSync(join(folder, 'half'), '');
          throw new Error('no compiler');
        }),
      ),
    ).rejects.toThrow('no compiler');
    expect(readdirSync(join(home, 'cache'))).toEqual([]);
    await expect(built(part(async () => undefined))).resolves.toContain('thing-');
  });

  it('takes the lock of a process that died', async () => {
    const folder = await built(part(async () => undefined));
    rmSync(folder, { recursive: true });
    const dead = spawnSync(process.execPath, ['-e', '']).pid;
    writeFileSync(`${folder}.lock`, String(dead));
    expect(await built(part(async () => undefined))).toBe(folder);
    expect(readdirSync(join(home, 'cache'))).toEqual([folder.split('/').at(-1)]);
  });
});
