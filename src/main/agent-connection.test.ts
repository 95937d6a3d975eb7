import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundleOf } from './agent-connection.js';

describe('the bundle by which an agent knows its server', () => {
  let folder = '';
  let file = '';

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'bundle-'));
    file = join(folder, 'bundle.json');
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('is that of the start until the file is there, and the one of the file from then on', async () => {
    expect(await bundleOf(file, 'of the start')).toBe('of the start');
    await writeFile(file, 'of the file');
    expect(await bundleOf(file, 'of the start')).toBe('of the file');
    await rm(file);
    expect(await bundleOf(file, 'of the start')).toBe('of the start');
  });

  it('is missed where there is neither', async () => {
    await expect(bundleOf(file)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('is not that of the start where the file is there and cannot be read: what it says may be newer', async () => {
    await mkdir(file);
    await expect(bundleOf(file, 'of the start')).rejects.toMatchObject({ code: 'EISDIR' });
  });
});
