import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../../../test/support/fake-clock.js';
import { MemoryStore } from '../../../../test/support/memory-store.js';
import { until } from '../../../../test/support/until.js';
import { openCertificateAuthority } from '../../../identity/ca/certificate-authority.js';
import { memoryJournal } from '../../../identity/ca/journal.js';
import { memoryKeyStore } from '../../../identity/keys/key-store.js';
import { silentLogger } from '../../../lib/logger.js';
import { systemRandom } from '../../../lib/random.js';
import type { RevocationStatus, RevokedSubject } from '../../../resources/revocation.js';
import type { StoredObject } from '../../../store/store.js';
import { createRevocationController, type RevocationControllerOptions } from './controller.js';
import type { Reach } from './reach.js';

const object = (kind: string, name: string, spec: object): StoredObject => ({
  ...{ apiVersion: 'signet.dev/v1alpha1', kind, spec },
  metadata: { name, uid: `${kind}-${name}`, generation: 1 },
});

function world(
  reach?: RevocationControllerOptions['reach'],
  clock = new FakeClock(),
  ca?: RevocationControllerOptions['ca'],
) {
  const store = new MemoryStore();
  const unused = (): never => {
    throw new Error('no authority is asked for');
  };
  const { controller, close } = createRevocationController({
    ...{ store, clock, random: systemRandom, logger: silentLogger },
    ca: ca ?? { authorities: unused, rotate: unused, taint: unused, revoke: unused },
    ...(reach === undefined ? {} : { reach }),
  });
  const stop = new AbortController();
  const running = controller.run(stop.signal);
  const trustDomain = (tokenIssuers: readonly object[]): void =>
    store.put(object('TrustDomain', 'main', { name: 'example.org', tokenIssuers }));
  return {
    ...{ clock, store, trustDomain },
    revoke: (name: string, subject: RevokedSubject, until?: string) =>
      store.put(object('Revocation', name, { subject, reason: 'stolen', until })),
    async said(name: string): Promise<string | undefined> {
      await clock.advance(1_000);
      const [ready] = (store.status('Revocation', name) as RevocationStatus).conditions ?? [];
      return `${ready?.status} ${ready?.reason}: ${ready?.message}`;
    },
    async end() {
      close();
      stop.abort();
      await running;
    },
  };
}

const issuer = 'https://login.test/';

describe('the status of a Revocation of tokens', () => {
  it.each<RevokedSubject>([
    { token: { issuer, id: 'x' } },
    { user: { issuer, subject: 'ann' } },
    { session: { issuer, id: 'x' } },
  ])('says of $# that agents enforce it, and who does not', async (subject) => {
    const { trustDomain, revoke, said, end } = world();
    trustDomain([{ issuer, audiences: ['a'] }]);
    revoke('r', subject);
    expect(await said('r')).toMatch(/^True InForce: agents refuse .* are not told/);
    await end();
  });

  it('says when no token of the issuer is taken at all, and changes with the TrustDomain', async () => {
    const { trustDomain, revoke, said, end } = world();
    revoke('iss', { user: { issuer, subject: 'ann' } });
    revoke('ours', { user: { issuer: 'spiffe://example.org', subject: 'spiffe://example.org/x' } });
    expect(await said('iss')).toContain(
      `False UnknownIssuer: the TrustDomain has no token issuer "${issuer}"`,
    );
    trustDomain([{ issuer, audiences: ['a'] }]);
    expect(await said('iss')).toContain('True InForce');
    expect(await said('ours')).toContain('False UnknownIssuer');
    trustDomain([{ trustDomain: 'example.org', audiences: ['a'] }]);
    expect(await said('iss')).toContain('False UnknownIssuer');
    expect(await said('ours')).toContain('True InForce');
    await end();
  });

  it('says that it is over at its end', async () => {
    const { clock, trustDomain, revoke, said, end } = world();
    trustDomain([{ issuer, audiences: ['a'] }]);
    revoke('r', { token: { issuer, id: 'x' } }, new Date(clock.now() + 10_000).toISOString());
    expect(await said('r')).toContain('True InForce');
    await clock.advance(9_000);
    expect(await said('r')).toContain('False Over');
    await end();
  });
});

describe('a Revocation of an authority', () => {
  it.each(['active', 'prepared'] as const)('has one that is %s sign nothing from then on', async (slot) => {
    const clock = new FakeClock();
    const ca = await openCertificateAuthority({
      ...{ trustDomain: 'example.org', keys: memoryKeyStore(), journal: memoryJournal(), config: {} },
      ...{ clock, random: systemRandom, logger: silentLogger },
    });
    await ca.prepare('x509');
    const id = ca.authorities().find((one) => one.kind === 'x509' && one.slot === slot)?.id ?? '';
    const { revoke, said, end } = world(undefined, clock, ca);
    revoke('r', { authorityID: id });
    // At the first attempt: another one would come later, and it would sign until then.
    await until('revoked', () => ca.authorities().some((one) => one.id === id && one.revoked));
    expect(ca.authorities().filter(({ kind, slot: at }) => kind === 'x509' && at === 'active')).toHaveLength(
      1,
    );
    expect(ca.authorities().find((one) => one.id === id)?.slot).toBe('old');
    expect(await said('r')).toMatch(/^True InForce/);
    await end();
    await ca.close();
  });
});

describe('the reach in the status of a Revocation', () => {
  const told = (): { readonly numbers: Reach; tell(reached: number, total?: number): void } & {
    readonly reach: NonNullable<RevocationControllerOptions['reach']>;
  } => {
    let numbers: Reach = { reached: 0, total: 3 };
    const watchers = new Set<() => void>();
    return {
      get numbers() {
        return numbers;
      },
      tell(reached, total = 3) {
        numbers = { reached, total };
        for (const watcher of watchers) watcher();
      },
      reach: {
        of: (all) => new Map(all.map(({ metadata }) => [metadata.uid, numbers])),
        watch(onChange) {
          watchers.add(onChange);
          return () => watchers.delete(onChange);
        },
      },
    };
  };
  const reached = (status: unknown): string => {
    const { agentsReached, agentsTotal } = status as RevocationStatus;
    return `${agentsReached}/${agentsTotal}`;
  };

  it('follows the agents, with a bounded number of writes and none when nothing changed', async () => {
    const { tell, reach } = told();
    const { clock, store, revoke, end } = world(reach);
    revoke('r', { serialNumber: 'a1' });
    await clock.advance(5_000);
    expect(reached(store.status('Revocation', 'r'))).toBe('0/3');
    const before = store.written.length;
    for (let at = 1; at <= 30; at++) {
      tell(at, 100);
      await clock.advance(100);
    }
    await clock.advance(4_000);
    expect(reached(store.status('Revocation', 'r'))).toBe('30/100');
    expect(store.written.length - before).toBeLessThanOrEqual(2);
    const after = store.written.length;
    tell(30, 100);
    await clock.advance(10 * 60_000);
    expect(store.written.length).toBe(after);
    await end();
    expect(clock.timers).toBe(0);
  });

  it('is not taken back by a replica that has just begun to lead, and is when it is settled', async () => {
    const { tell, reach } = told();
    const { clock, store, revoke, end } = world(reach);
    revoke('r', { serialNumber: 'a1' });
    tell(2);
    await clock.advance(5_000);
    expect(reached(store.status('Revocation', 'r'))).toBe('2/3');
    tell(0);
    await clock.advance(5_000);
    expect(reached(store.status('Revocation', 'r'))).toBe('2/3');
    await clock.advance(90_000);
    expect(reached(store.status('Revocation', 'r'))).toBe('0/3');
    await end();
  });
});
