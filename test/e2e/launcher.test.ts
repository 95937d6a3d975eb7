import { afterAll, describe, expect, it } from '@jest/globals';
import { chmodSync, cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './support/process.js';
import { newScope } from './support/scope.js';

const bin = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bin');

/** A copy of bin/ alone, and a module that makes this Node call itself another version. */
function installation(folder: string, version: string): readonly [string, ...string[]] {
  cpSync(bin, join(folder, 'bin'), { recursive: true });
  const pretend = join(folder, 'pretend.cjs');
  const versions = `{ ...process.versions, node: ${JSON.stringify(version)} }`;
  writeFileSync(pretend, `Object.defineProperty(process, 'versions', { value: ${versions} });\n`);
  return [process.execPath, '--require', pretend, join(folder, 'bin', 'signet')];
}

describe('the launcher', () => {
  const scope = newScope();
  afterAll(() => scope.end());

  it.each(['18.20.0', '22.18.0'])(
    'says in one sentence that Node %s is too old, and exits 78',
    async (version) => {
      const { exit, stderr } = await run(scope, [...installation(scope.folder(), version), '--version']);
      expect(exit.code).toBe(78);
      expect(stderr).toBe(`signet: needs Node 22.19 or newer, this is ${version}; install a newer Node\n`);
    },
  );

  it('runs itself with the Node of node_modules where there is one, with its arguments and its exit code', async () => {
    const folder = scope.folder();
    const command = installation(folder, '20.11.0');
    const node = join(folder, 'node_modules', 'node', 'bin', 'node');
    mkdirSync(dirname(node), { recursive: true });
    writeFileSync(node, '#!/bin/sh\necho "$0 $*"\nexit 7\n');
    chmodSync(node, 0o755);
    const { exit, lines } = await run(scope, [...command, 'svid', 'fetch']);
    expect(exit.code).toBe(7);
    expect(lines[0]).toBe(`${node} ${join(folder, 'bin', 'signet')} svid fetch`);
  });

  it('says how to build what is not built, and exits 78', async () => {
    const { exit, stderr } = await run(scope, [...installation(scope.folder(), '22.19.0'), '--version']);
    expect(exit.code).toBe(78);
    expect(stderr).toContain('npm run build');
  });
});
