import { beforeAll, describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../test/support/fake-clock.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import { openCertificateAuthority } from '../identity/ca/certificate-authority.js';
import { memoryJournal } from '../identity/ca/journal.js';
import { memoryKeyStore } from '../identity/keys/key-store.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { systemRandom } from '../lib/random.js';
import { LostAuthorities } from './lost-authorities.js';

/** Of authorities of their own. */
interface Made {
  readonly bundle: TrustBundle;
  readonly x509: string;
  readonly jwt: string;
}

async function made(): Promise<Made> {
  const parts = { clock: new FakeClock(), random: systemRandom, logger: recordingLogger() };
  const ca = await openCertificateAuthority({
    ...{ trustDomain: 'example.org', keys: memoryKeyStore(), journal: memoryJournal(), config: {}, ...parts },
  });
  const idOf = (kind: string): string => ca.authorities().find((one) => one.kind === kind)?.id ?? '';
  const answer = { bundle: ca.bundle.value, x509: idOf('x509'), jwt: idOf('jwt') };
  await ca.close();
  return answer;
}

const both = (one: TrustBundle, other: TrustBundle): TrustBundle => ({
  ...one,
  x509Authorities: [...one.x509Authorities, ...other.x509Authorities],
  jwtAuthorities: [...one.jwtAuthorities, ...other.jwtAuthorities],
});

describe('authorities that are lost', () => {
  let a: Made;
  let b: Made;
  beforeAll(async () => {
    [a, b] = [await made(), await made()];
  });

  it('are those that were in the bundle and are in it no more, until they are back', () => {
    const lost = new LostAuthorities();
    expect(lost.asOf(a.bundle)).toEqual({ x509: [], jwt: [] });
    expect(lost.asOf(both(a.bundle, b.bundle))).toEqual({ x509: [], jwt: [] });
    expect(lost.asOf(b.bundle)).toEqual({ x509: [a.x509], jwt: [a.jwt] });
    // Remembered, whatever comes after.
    expect(lost.asOf(b.bundle)).toEqual({ x509: [a.x509], jwt: [a.jwt] });
    expect(lost.asOf(a.bundle)).toEqual({ x509: [b.x509], jwt: [b.jwt] });
  });

  it('are forgotten, the oldest first, when there are very many', () => {
    const lost = new LostAuthorities();
    const key = (id: number): TrustBundle => ({
      ...{ ...a.bundle, x509Authorities: [] },
      jwtAuthorities: [{ keyId: `k${id}`, jwk: {} }],
    });
    for (let id = 0; id < 200; id++) lost.asOf(key(id));
    const { jwt } = lost.asOf(key(200));
    expect([jwt.length, jwt.at(0), jwt.at(-1)]).toEqual([64, 'k136', 'k199']);
  });
});
