import { afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { AuthorityKind } from '../../src/rpc/gen/signet/admin/v1/admin.js';
import * as rig from '../rig/rig.js';
import { until } from '../support/until.js';
import { runGo, startGo, type Line } from './support/clients.js';
import { identity, namespace, pod, writeResources } from './support/resources.js';
import { newScope, type Scope } from './support/scope.js';
import {
  activeAuthority,
  replaceAuthority,
  signet,
  spawnSignet,
  startSignet,
  type Signet,
} from './support/signet.js';

jest.setTimeout(90_000);

const order = 'spiffe://shop.test/ns/shop/sa/order';

(rig.isSkipped('go') ? describe.skip : describe)('the life of signet dev', () => {
  let scope: Scope;
  let resources: string;
  let state: string;

  beforeAll(() => rig.spiffeClient().then(() => undefined), rig.rigTimeout);
  beforeEach(() => {
    scope = newScope();
    resources = scope.folder();
    state = scope.folder();
    writeResources(resources, 'shop.yaml', [namespace('shop'), ...pod('order'), identity('order')]);
  });
  afterEach(() => scope.end());

  const begin = (): Promise<Signet> => startSignet(scope, { resources, state, trustDomain: 'shop.test' });
  const spawn = (): ReturnType<typeof spawnSignet> =>
    spawnSignet(scope, { resources, state, trustDomain: 'shop.test' });
  const authoritiesOf = async (server: Signet): Promise<string[]> =>
    (await server.admin.listAuthorities({})).authorities.map(({ id }) => id).sort();
  const fetch = (server: Signet): Promise<Line> =>
    runGo(scope, ['x509', 'fetch', '-socket', server.socket('order')]);

  it('ends on SIGTERM with exit 0, its sockets gone and its streams ended', async () => {
    const server = await begin();
    const socket = server.socket('order');
    const watcher = await startGo(scope, ['x509', 'watch', '-socket', socket]);
    await watcher.next(({ svids }) => svids !== undefined);
    expect(await server.stop()).toEqual({ code: 0, signal: null });
    expect(statSync(socket, { throwIfNoEntry: false })).toBeUndefined();
    await watcher.next(({ watchError }) => watchError?.code === 'Unavailable');
    // stdout was one line for programs; everything else went to the log.
    expect(server.process.lines.filter((line) => line !== '')).toHaveLength(1);
  });

  it('keeps its authorities over a restart, and a watcher finds it again by itself', async () => {
    const server = await begin();
    const watcher = await startGo(scope, ['x509', 'watch', '-socket', server.socket('order')]);
    await watcher.next(({ svids }) => svids !== undefined);
    await server.admin.rotateAuthority({ kind: AuthorityKind.AUTHORITY_KIND_UNSPECIFIED });
    const before = await authoritiesOf(server);
    const active = await activeAuthority(server);
    await server.stop();
    const from = watcher.mark();
    const again = await begin();
    expect(await authoritiesOf(again)).toEqual(before);
    expect((await fetch(again)).svids).toMatchObject([{ id: order, authority: active, verified: true }]);
    expect(await watcher.next(({ svids }) => svids !== undefined, { from })).toMatchObject({
      svids: [{ verified: true }],
    });
  });

  it('starts again after kill -9, with the same authorities and no socket in the way', async () => {
    const server = await begin();
    const before = await authoritiesOf(server);
    await server.process.kill('SIGKILL');
    const again = await begin();
    expect(await authoritiesOf(again)).toEqual(before);
    expect((await fetch(again)).svids).toMatchObject([{ id: order, verified: true }]);
  });

  it('refuses a state directory that another one uses, which goes on undisturbed', async () => {
    const server = await begin();
    const second = spawn();
    const exit = await second.exited;
    expect(exit.code).toBeGreaterThan(0);
    expect(second.stderr()).toContain(state);
    expect(second.stderr()).toContain(String(server.process.pid));
    expect(second.lines.join('')).not.toContain('"ready":true');
    expect((await fetch(server)).svids).toMatchObject([{ id: order, verified: true }]);
  });

  it('refuses a state directory that others can write to, and says how to mend it', async () => {
    for (const mode of [0o777, 0o730]) {
      chmodSync(state, mode);
      const refused = spawn();
      expect((await refused.exited).code).toBeGreaterThan(0);
      expect(refused.stderr()).toContain(`has mode ${mode.toString(8)}`);
      expect(refused.stderr()).toContain(`chmod go-w ${state}`);
    }
    chmodSync(state, 0o700);
    expect(await (await begin()).stop()).toEqual({ code: 0, signal: null });
  });

  it('refuses the state of another trust domain, and changes nothing in it', async () => {
    const server = await begin();
    const before = await authoritiesOf(server);
    await server.stop();
    const refused = spawnSignet(scope, { resources, state, trustDomain: 'bank.test' });
    expect((await refused.exited).code).toBeGreaterThan(0);
    expect(refused.stderr()).toMatch(/shop\.test/);
    expect(await authoritiesOf(await begin())).toEqual(before);
  });

  it('leaves no key of an authority readable by others, and none in its log', async () => {
    const server = await begin();
    for (const entry of readdirSync(state, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      if (!entry.isFile() || path === server.ready.bundleFile) continue;
      expect(`${path} ${(statSync(path).mode & 0o077).toString(8)}`).toBe(`${path} 0`);
    }
    expect(server.process.stderr()).not.toMatch(/PRIVATE KEY|eyJ/);
  });

  it('refuses a broken journal rather than starting a new trust domain over it', async () => {
    const server = await begin();
    await server.stop();
    const damaged = readdirSync(state, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /journal/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name));
    expect(damaged).not.toEqual([]);
    for (const file of damaged) {
      const whole = readFileSync(file);
      writeFileSync(file, whole.subarray(0, Math.floor(whole.length / 2)));
    }
    const refused = spawn();
    expect((await refused.exited).code).toBeGreaterThan(0);
    expect(refused.stderr()).toMatch(/journal/i);
  });

  (canMount() ? it : it.skip)(
    'refuses a rotation on a full disk, goes on with what it has, and rotates once there is room',
    async () => {
      // A disk of its own: a tmpfs that only this server sees, reached from here through its root.
      const mount = 'mount -t tmpfs -o size=512k,mode=700 none "$0" && exec "$@"';
      const server = await startSignet(scope, {
        ...{ resources, state, trustDomain: 'shop.test' },
        under: ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', mount, state],
      });
      const inside = (path: string): string => `/proc/${server.process.pid}/root${path}`;
      const socket = inside(server.socket('order'));
      const rotate = (): ReturnType<typeof signet> =>
        signet(scope, ['ca', 'rotate', '--state', inside(state)]);
      const before = await runGo(scope, ['x509', 'bundles', '-socket', socket]);
      const filler = inside(join(state, 'filler'));
      expect(() => writeFileSync(filler, Buffer.alloc(1024 * 1024))).toThrow(/ENOSPC/);
      const refused = await rotate();
      expect(refused.exit.code).toBeGreaterThan(0);
      expect(refused.stderr).toMatch(/ENOSPC|no space/i);
      // Nothing of the rotation that failed is published, and what was there still signs.
      expect((await runGo(scope, ['x509', 'bundles', '-socket', socket])).bundles).toEqual(before.bundles);
      expect(await runGo(scope, ['jwt', 'fetch', '-socket', socket, '-audience', 'bank'])).not.toHaveProperty(
        'error',
      );
      rmSync(filler);
      expect((await rotate()).exit.code).toBe(0);
      const after = await runGo(scope, ['x509', 'bundles', '-socket', socket]);
      expect(after.bundles?.['shop.test']).toHaveLength(2);
    },
  );

  it('keeps the last good resources when an edit breaks the YAML, says where, and takes the mended file', async () => {
    const server = await begin();
    const watcher = await startGo(scope, ['x509', 'watch', '-socket', server.socket('order')]);
    await watcher.next(({ svids }) => svids?.length === 1);
    const file = join(resources, 'shop.yaml');
    const good = readFileSync(file, 'utf8');
    writeFileSync(file, `${good}\n---\nkind: [unclosed\n`);
    await until('the log names the file', () => /shop\.yaml:\d+/.test(server.process.stderr()));
    expect((await fetch(server)).svids).toMatchObject([{ id: order, verified: true }]);
    const extra = identity(
      'order-batch',
      { spiffeIDTemplate: '/ns/shop/batch', hint: 'batch' },
      'shop',
      'order',
    );
    writeResources(resources, 'shop.yaml', [
      namespace('shop'),
      ...pod('order'),
      identity('order', { hint: 'main' }),
      extra,
    ]);
    await watcher.next(({ svids }) => svids?.length === 2);
    // Nothing was taken away meanwhile.
    expect(watcher.program.lines.join('\n')).not.toMatch(/watchError|"svids":\[\]/);
  });

  it('loses nothing when it is killed at any moment of a rotation, and never signs with what it has not published', async () => {
    const signers = new Set<string>();
    for (const delayMs of [0, 3, 7, 15, 30, 60, 120, 250]) {
      const server = await begin();
      const seen = await fetch(server);
      expect(seen.svids).toMatchObject([{ id: order, verified: true }]);
      const published = seen.bundles?.['shop.test'] ?? [];
      // Whatever signed before the kill is trusted after it: others still hold such SVIDs.
      expect(published).toEqual(expect.arrayContaining([...signers]));
      const watcher = await startGo(scope, ['x509', 'watch', '-socket', server.socket('order')]);
      await watcher.next(({ svids }) => svids !== undefined);
      const rotation = replaceAuthority(server).catch(() => undefined);
      await wait(delayMs); // not a wait for a fact: the moment of the kill is what varies
      await server.process.kill('SIGKILL');
      await rotation;
      await watcher.program.kill();
      for (const line of watcher.program.lines.map((text) => JSON.parse(text) as Line)) {
        for (const svid of line.svids ?? []) {
          expect(svid.verified).toBe(true);
          signers.add(svid.authority);
        }
      }
    }
    expect(signers.size).toBeGreaterThan(1);
  });

  it('tells its version, and refuses what it does not know', async () => {
    expect((await signet(scope, ['--version'])).lines[0]).toMatch(/^\d+\.\d+\.\d+/);
    const refused = await signet(scope, ['dev', resources, '--sate', state]);
    expect(refused.exit.code).toBe(2);
    expect(refused.stderr).toMatch(/--sate/);
  });
});

/** A mount namespace takes root, and not every container allows it even then. */
function canMount(): boolean {
  return spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0;
}
