import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../test/support/fake-clock.js';
import { FakeNodeApi, podRegistration } from '../../test/support/fake-node-api.js';
import type { SignedX509 } from '../rpc/node-api.js';
import { makeKey, type MadeKey } from './key-maker.js';
import { ByteSharing, chainOf, keyOf, leafOf, packSvid, svidProblem } from './svid.js';

const clock = new FakeClock();

async function signed(path: string): Promise<{ key: MadeKey; answer: SignedX509; spiffeId: string }> {
  const api = await FakeNodeApi.create(clock);
  const registration = podRegistration('order', { path });
  api.registrations.set('r', registration);
  const key = await makeKey('ec-p256');
  const [answer] = await api.signX509([{ registrationId: 'r', csr: key.csr }]);
  if (answer?.ok !== true) throw new Error('not signed');
  return { key, answer, spiffeId: registration.spiffeId.uri };
}

describe('svidProblem', () => {
  it('finds none in an answer that fits, whatever the length of the name', async () => {
    for (const path of ['/a', `/${'b'.repeat(150)}`, `/${'c'.repeat(400)}`]) {
      const { key, answer, spiffeId } = await signed(path);
      expect(svidProblem(answer, { spki: key.spki, spiffeId }, clock.now())).toBeUndefined();
    }
  });

  it('sees another key', async () => {
    const { answer, spiffeId } = await signed('/a');
    const { spki } = await makeKey('ec-p256');
    expect(svidProblem(answer, { spki, spiffeId }, clock.now())).toMatchObject({
      code: 'SvidInvalid',
      message: expect.stringContaining('another key'),
    });
  });

  it('sees another name, also one that only goes on longer', async () => {
    const { key, answer, spiffeId } = await signed('/ns/shop');
    for (const other of [`${spiffeId}/x`, spiffeId.slice(0, -1), 'spiffe://other.org/ns/shop'])
      expect(svidProblem(answer, { spki: key.spki, spiffeId: other }, clock.now())).toMatchObject({
        code: 'SvidInvalid',
        message: expect.stringContaining(other),
      });
  });

  it('sees one that is over already, that is never valid, and that is none at all', async () => {
    const { key, answer, spiffeId } = await signed('/a');
    const wanted = { spki: key.spki, spiffeId };
    expect(svidProblem(answer, wanted, answer.notAfter)).toMatchObject({ code: 'SvidExpired' });
    expect(svidProblem({ ...answer, notAfter: Number.NaN }, wanted, 0)).toMatchObject({
      code: 'SvidInvalid',
    });
    expect(svidProblem({ ...answer, chain: [] }, wanted, 0)).toMatchObject({ code: 'SvidInvalid' });
  });
});

describe('packSvid', () => {
  it('keeps leaf, key and chain, and shares the intermediates', async () => {
    const { key, answer, spiffeId } = await signed('/a');
    const intermediates = [Uint8Array.of(0x30, 1, 1), Uint8Array.of(0x30, 1, 2)];
    const sharing = new ByteSharing();
    const pack = (): ReturnType<typeof packSvid> =>
      packSvid(
        { ...answer, chain: [...answer.chain, ...intermediates.map((der) => Uint8Array.from(der))] },
        { spiffeId, revision: '1', pkcs8: key.pkcs8 },
        { now: clock.now(), monotonic: clock.monotonic(), fraction: 0.5, sharing },
      );
    const svid = pack();
    expect(Buffer.from(leafOf(svid)).equals(answer.chain[0] ?? Buffer.alloc(0))).toBe(true);
    expect(Buffer.from(keyOf(svid)).equals(key.pkcs8)).toBe(true);
    expect([...chainOf(svid).subarray(-6)]).toEqual([0x30, 1, 1, 0x30, 1, 2]);
    expect(pack().intermediates).toBe(svid.intermediates);
    // Memory of its own, not a view of something larger that it would keep alive.
    expect(svid.material.buffer.byteLength).toBe(svid.material.length);
  });
});
