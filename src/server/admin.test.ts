import { beforeEach, describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../test/support/fake-clock.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import type { CertificateAuthority } from '../identity/ca/certificate-authority.js';
import { openCertificateAuthority } from '../identity/ca/certificate-authority.js';
import { memoryJournal } from '../identity/ca/journal.js';
import { KeyStoreError } from '../identity/keys/errors.js';
import { memoryKeyStore } from '../identity/keys/key-store.js';
import { systemRandom } from '../lib/random.js';
import type { Authority } from '../rpc/gen/signet/admin/v1/admin.js';
import { AuthorityKind, AuthoritySlot, ListAuthoritiesResponse } from '../rpc/gen/signet/admin/v1/admin.js';
import type { CallContext } from '../rpc/service.js';
import type { AdminHandlers } from './admin.js';
import { adminHandlers } from './admin.js';

const X509 = AuthorityKind.AUTHORITY_KIND_X509;
const JWT = AuthorityKind.AUTHORITY_KIND_JWT;
const context: CallContext = {
  peer: {
    listener: 'admin',
    connectionId: 'c1',
    credentials: { pid: 42, uid: 7, gid: 7, isAlive: () => true },
  },
  signal: new AbortController().signal,
  requestId: 'r1',
  metadata: () => undefined,
};

let log = recordingLogger();
let ca: CertificateAuthority;
let admin: AdminHandlers;
beforeEach(async () => {
  log = recordingLogger();
  ca = await openCertificateAuthority({
    trustDomain: 'example.org',
    keys: memoryKeyStore(),
    journal: memoryJournal(),
    clock: new FakeClock(),
    random: systemRandom,
    logger: log,
    config: {},
  });
  admin = adminHandlers({ ca, logger: log });
});
async function list(): Promise<Authority[]> {
  const response = await admin.listAuthorities({}, context);
  if (response instanceof Uint8Array) throw new Error('encoded');
  return response.authorities;
}
const status = (name: string, code: string, message: RegExp): unknown =>
  expect.objectContaining({ status: name, code, message: expect.stringMatching(message) });

describe('the Admin service', () => {
  it('lists authorities as the wire has them', async () => {
    const response = await admin.listAuthorities({}, context);
    if (response instanceof Uint8Array) throw new Error('encoded');
    const decoded = ListAuthoritiesResponse.decode(ListAuthoritiesResponse.encode(response).finish());
    expect(decoded).toEqual(response);
    expect(decoded).toMatchObject({ trustDomain: 'example.org', bundleSequence: 2 });
    const [x509, jwt] = decoded.authorities;
    const [info] = ca.authorities();
    expect(x509).toEqual({
      kind: X509,
      id: info?.id,
      slot: AuthoritySlot.AUTHORITY_SLOT_ACTIVE,
      tainted: false,
      revoked: false,
      notBefore: info?.notBefore,
      notAfter: info?.notAfter,
      keyType: 'ec-p256',
      subject: info?.subject,
    });
    expect(jwt?.kind).toBe(JWT);
  });

  it('rotates one kind or both', async () => {
    await admin.rotateAuthority({ kind: JWT }, context);
    expect((await list()).map(({ kind }) => kind)).toEqual([X509, JWT, JWT]);
    await admin.rotateAuthority({ kind: AuthorityKind.AUTHORITY_KIND_UNSPECIFIED }, context);
    expect((await list()).map(({ kind }) => kind).sort()).toEqual([X509, X509, JWT, JWT, JWT]);
  });

  it('taints and revokes, in that order, old ones alone', async () => {
    const id = (await list())[0]?.id ?? '';
    await expect(admin.taintAuthority({ kind: X509, id }, context)).rejects.toEqual(
      status('FailedPrecondition', 'AuthorityInUse', /rotate first/),
    );
    await admin.rotateAuthority({ kind: X509 }, context);
    await expect(admin.revokeAuthority({ kind: X509, id }, context)).rejects.toEqual(
      status('FailedPrecondition', 'AuthorityNotTainted', /taint it first/),
    );
    await expect(admin.taintAuthority({ kind: X509, id }, context)).resolves.toMatchObject({
      authority: { id, tainted: true, revoked: false, slot: AuthoritySlot.AUTHORITY_SLOT_OLD },
    });
    await expect(admin.revokeAuthority({ kind: X509, id }, context)).resolves.toMatchObject({
      authority: { id, tainted: true, revoked: true },
    });
    expect(ca.bundle.value.x509Authorities).toHaveLength(1);
  });

  it('answers what is malformed or unknown with a status and the reason', async () => {
    const kind = AuthorityKind.AUTHORITY_KIND_UNSPECIFIED;
    const [id, long] = ['ab', 'a'.repeat(1000)];
    await expect(admin.taintAuthority({ kind, id }, context)).rejects.toEqual(
      status('InvalidArgument', 'InvalidArgument', /kind must be X509 or JWT/),
    );
    await expect(admin.rotateAuthority({ kind: 9 as never }, context)).rejects.toMatchObject({
      status: 'InvalidArgument',
    });
    for (const wrong of ['', long])
      await expect(admin.revokeAuthority({ kind: X509, id: wrong }, context)).rejects.toEqual(
        status('InvalidArgument', 'InvalidArgument', /signet ca show/),
      );
    await expect(admin.taintAuthority({ kind: X509, id }, context)).rejects.toEqual(
      status('NotFound', 'AuthorityNotFound', /known are/),
    );
  });

  it('logs who did what, and what was refused', async () => {
    await admin.rotateAuthority({ kind: X509 }, context);
    expect(log.all.join('\n')).toMatch(
      /admin: rotate authority .*"callerPid":42,"callerUid":7.*"requestId":"r1"/,
    );
    await admin.taintAuthority({ kind: X509, id: 'ab' }, context).catch(() => undefined);
    expect(log.lines.at(-1)).toBe('warn admin: taint authority refused');
  });

  it('tells a full disk, and keeps what it does not know to the log', async () => {
    const full = new KeyStoreError('StateIo', 'cannot write key: the disk is full (ENOSPC)');
    for (const [thrown, expected] of [
      [full, status('Unavailable', 'StateIo', /disk is full/)],
      [new Error('inner works'), status('Internal', 'Internal', /its log says why/)],
    ] as const) {
      const broken = adminHandlers({ ca: { ...ca, rotate: () => Promise.reject(thrown) }, logger: log });
      await expect(broken.rotateAuthority({ kind: JWT }, context)).rejects.toEqual(expected);
    }
    expect(log.all.join()).toContain('inner works');
  });
});
