import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as rig from '../rig/rig.js';
import { client, sharedGoClient, type Line } from './support/clients.js';
import { start, type StartOptions } from './support/process.js';
import { clusterIdentity, identity, namespace, pod, writeResources } from './support/resources.js';
import { newScope } from './support/scope.js';
import { startSignet, type Signet } from './support/signet.js';

jest.setTimeout(60_000);

const uid = process.getuid?.() ?? 0;
const isRoot = uid === 0;
const other = 54_321;

(rig.isSkipped('go') ? describe.skip : describe)('processes outside pods, on the shared socket', () => {
  const scope = newScope();
  let server: Signet;
  let program: string;
  let byHash: string;

  beforeAll(async () => {
    const folder = scope.folder();
    chmodSync(folder, 0o755);
    program = await sharedGoClient(folder);
    byHash = join(folder, 'by-hash');
    copyFileSync(program, byHash);
    const sha256 = createHash('sha256').update(readFileSync(program)).digest('hex');
    const resources = scope.folder();
    writeResources(resources, 'hosts.yaml', [
      namespace('shop'),
      ...pod('order'),
      identity('order'),
      clusterIdentity('mine', {
        spiffeIDTemplate: '/host/mine',
        processSelector: { uid, path: program },
        hint: 'mine',
      }),
      clusterIdentity('theirs', {
        spiffeIDTemplate: '/host/theirs',
        processSelector: { uid: other },
        hint: 'theirs',
      }),
      clusterIdentity('group', {
        spiffeIDTemplate: '/host/group',
        processSelector: { gid: other + 1 },
        hint: 'group',
      }),
      clusterIdentity('hash', {
        spiffeIDTemplate: '/host/hash',
        processSelector: { uid, path: byHash, sha256 },
        hint: 'hash',
      }),
      clusterIdentity('never', {
        spiffeIDTemplate: '/host/never',
        processSelector: { uid, path: program, sha256: '0'.repeat(64) },
      }),
    ]);
    // Made by the server, so that others may pass through it to the socket.
    server = await startSignet(scope, { resources, state: join(folder, 'state'), trustDomain: 'shop.test' });
  }, rig.rigTimeout);
  afterAll(() => scope.end());

  const fetch = async (file: string, options: StartOptions = {}): Promise<Line> =>
    client(
      start(scope, [file, 'x509', 'fetch', '-socket', server.ready.sharedSocket, '-timeout', '30s'], options),
    ).next(() => true, { limitMs: 35_000 });

  it('get the identities whose every selector the kernel vouches for', async () => {
    expect((await fetch(program)).svids).toMatchObject([
      { id: 'spiffe://shop.test/host/mine', hint: 'mine', verified: true },
    ]);
    expect((await fetch(byHash)).svids).toMatchObject([
      { id: 'spiffe://shop.test/host/hash', hint: 'hash', verified: true },
    ]);
  });

  (isRoot ? it : it.skip)('are told apart by user and group', async () => {
    expect((await fetch(program, { uid: other, gid: other })).svids).toMatchObject([
      { id: 'spiffe://shop.test/host/theirs' },
    ]);
    expect((await fetch(program, { uid: other, gid: other + 1 })).svids?.map(({ id }) => id).sort()).toEqual([
      'spiffe://shop.test/host/group',
      'spiffe://shop.test/host/theirs',
    ]);
  });

  (isRoot ? it : it.skip)('are refused when nothing fits, and told what was seen of them', async () => {
    expect(await fetch(program, { uid: other + 7, gid: other + 7 })).toMatchObject({
      code: 'PermissionDenied',
      error: expect.stringContaining(String(other + 7)),
    });
  });
});
