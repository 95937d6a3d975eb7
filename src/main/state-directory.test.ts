import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStateDirectory } from './state-directory.js';

describe('a state directory', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'signet-state-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('is made so that others may pass through to the sockets, and no more', () => {
    const layout = openStateDirectory(join(folder, 'state'));
    expect(statSync(layout.root).mode & 0o777).toBe(0o711);
    expect(layout.podSocket('u')).toBe(join(folder, 'state/run/pods/u/api.sock'));
    expect(layout.podApplicationSocket('u')).toBe(join(folder, 'state/run/pods/u/authz.sock'));
    expect(layout.sharedApplicationSocket).toBe(join(folder, 'state/run/authz.sock'));
    expect(layout.adminSocket).toBe(join(folder, 'state/admin.sock'));
  });

  it.each([
    ['777', 0o777],
    ['770', 0o770],
    ['722', 0o722],
  ])('of mode %s is refused with the fix', (_, mode) => {
    const root = join(folder, 'open');
    mkdirSync(root);
    chmodSync(root, mode);
    expect(() => openStateDirectory(root)).toThrow(
      expect.objectContaining({
        code: 'StateDirectoryUnsafe',
        message: expect.stringContaining('chmod go-w'),
      }),
    );
  });

  it('is refused as a file, and as a link that another could turn', () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    expect(() => openStateDirectory(file)).toThrow(
      expect.objectContaining({ code: 'StateDirectoryUnusable' }),
    );
    mkdirSync(join(folder, 'real'));
    symlinkSync(join(folder, 'real'), join(folder, 'link'));
    expect(() => openStateDirectory(join(folder, 'link'))).toThrow(
      expect.objectContaining({ code: 'StateDirectoryUnusable' }),
    );
  });

  it('with a long path has its sockets elsewhere, and is refused when even the admin socket does not fit', () => {
    const long = join(folder, 'x'.repeat(70 - folder.length));
    const layout = openStateDirectory(long);
    expect(layout.sharedSocket).toMatch(/^\/tmp\/signet-\d+\/[0-9a-f]{12}\/api\.sock$/);
    rmSync(join(layout.sharedSocket, '..'), { recursive: true });
    expect(() => openStateDirectory(join(folder, 'x'.repeat(100)))).toThrow(/shorter --state/);
  });
});
