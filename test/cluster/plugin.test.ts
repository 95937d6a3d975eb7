import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { newScope } from '../e2e/support/scope.js';
import { startControlPlane, type ControlPlane } from '../rig/control-plane.js';
import * as rig from '../rig/rig.js';
import { prepareCluster } from '../support/cluster-server.js';

/* The plugin as krew would unpack and link it, called by a real kubectl. */

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');

interface PluginManifest {
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly version: string;
    readonly platforms: readonly {
      readonly uri: string;
      readonly sha256: string;
      readonly bin: string;
      readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
    }[];
  };
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('kubectl signet', () => {
  const scope = newScope();
  let plane: ControlPlane;
  let folder: string;

  beforeAll(async () => {
    folder = scope.folder();
    const build = ['scripts/plugin.mjs', '--out', folder, '--url', 'https://downloads.example.org/v1/'];
    const [made, started] = await Promise.all([
      run(process.execPath, build, { cwd: root }),
      startControlPlane(),
    ]);
    expect(made.stdout).toContain('.tar.gz');
    plane = started;
    await prepareCluster(plane, 'plugin.test');
  }, rig.rigTimeout);
  afterAll(async () => {
    await plane?.close();
    await scope.end();
  });

  it('is what its manifest names', async () => {
    const manifest = parse(await readFile(join(folder, 'signet.yaml'), 'utf8')) as PluginManifest;
    const [platform, ...others] = manifest.spec.platforms;
    expect(others).toEqual([]);
    expect(manifest.metadata.name).toBe('signet');
    expect(manifest.spec.version).toMatch(/^v\d+\.\d+\.\d+/);
    const archive = `kubectl-signet_linux_${process.arch === 'x64' ? 'amd64' : 'arm64'}.tar.gz`;
    expect(platform?.uri).toBe(`https://downloads.example.org/v1/${archive}`);
    expect(platform?.bin).toBe('kubectl-signet');
    const bytes = await readFile(join(folder, archive));
    expect(platform?.sha256).toBe(createHash('sha256').update(bytes).digest('hex'));
  });

  it('asks the cluster that kubectl is set to, with nothing else installed', async () => {
    const manifest = parse(await readFile(join(folder, 'signet.yaml'), 'utf8')) as PluginManifest;
    const archive = join(folder, manifest.spec.platforms[0]?.uri.split('/').at(-1) ?? '');
    const [store, bin] = [join(folder, 'store'), join(folder, 'bin')];
    await mkdir(store);
    await mkdir(bin);
    await run('tar', ['-xzf', archive, '-C', store]);
    await symlink(join(store, 'kubectl-signet'), join(bin, 'kubectl-signet'));
    const kubectl = await rig.kubernetes('kubectl');
    const env = { PATH: `${bin}:/usr/bin:/bin`, HOME: folder, KUBECONFIG: plane.kubeconfig };
    const version = await run(kubectl, ['signet', '--version'], { env });
    expect(`v${version.stdout.trim()}`).toBe(manifest.spec.version);
    // Without a state directory the plugin means the cluster; nobody has looked at its TrustDomain.
    const shown = await run(kubectl, ['signet', 'ca', 'show', '-o', 'json'], { env });
    expect(JSON.parse(shown.stdout)).toMatchObject({ trustDomain: 'plugin.test', authorities: [] });
    const status = await run(kubectl, ['signet', 'status'], { env }).catch((thrown: unknown) => thrown);
    expect(status).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('trust domain plugin.test') as unknown,
    });
    const graph = await run(kubectl, ['signet', 'graph'], { env });
    expect(graph.stderr).toBe('');
  }, 60_000);
});
