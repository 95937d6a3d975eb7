import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { MemoryRecord } from '../../../test/support/memory-record.js';
import { silentLogger } from '../../lib/logger.js';
import { systemRandom } from '../../lib/random.js';
import { localKeyEncryption } from '../keys/encryption.js';
import { recordKeyStore } from '../keys/record-key-store.js';
import { exportSpki, generateKeyPair } from '../pki/keys.js';
import { verifyX509Svid } from '../pki/svid.js';
import { parseSpiffeId } from '../spiffe/id.js';
import { openCertificateAuthority, type CertificateAuthority } from './certificate-authority.js';
import { recordJournal } from './record-journal.js';

/* Several processes sign with the same authorities, which live in one record: one rotates, the others follow. */

const HOUR = 3_600_000;
const web = parseSpiffeId('spiffe://example.org/ns/shop/sa/web');
const spki = exportSpki((await generateKeyPair('ec-p256')).publicKey);
const request = { spki, spiffeId: web, dnsNames: [], ttlSeconds: 600 };
const coded = (code: string): unknown => expect.objectContaining({ code });
const kek = localKeyEncryption(systemRandom.bytes(32), systemRandom);

interface Replica {
  readonly follows?: boolean;
  readonly staleness?: () => string | undefined;
  readonly evidence?: () => string | undefined;
  readonly encryption?: typeof kek;
  readonly lastSequence?: number;
  readonly distributedForMs?: (sequence: number) => number;
}

class Cluster {
  readonly clock = new FakeClock();
  readonly record = new MemoryRecord();

  open({
    follows = false,
    staleness,
    evidence = () => undefined,
    encryption = kek,
    ...others
  }: Replica = {}): Promise<CertificateAuthority> {
    const { clock, record } = this;
    return openCertificateAuthority({
      trustDomain: 'example.org',
      keys: recordKeyStore({ record, random: systemRandom, encryption }),
      journal: recordJournal({ record, name: 'Secret signet-system/signet-ca', evidence }),
      config: {},
      ...{ clock, random: systemRandom, logger: silentLogger, follows },
      ...(staleness === undefined ? {} : { staleness }),
      ...others,
    });
  }
}

const activeOf = (ca: CertificateAuthority): string | undefined =>
  ca.authorities().find(({ kind, slot }) => kind === 'x509' && slot === 'active')?.id;

/** Whether what one replica signs is trusted by those who have another's bundle. */
async function trusts(
  bundleOf: CertificateAuthority,
  signer: CertificateAuthority,
  now: number,
): Promise<boolean> {
  const { chain } = await signer.signX509(request);
  try {
    verifyX509Svid({ chain, bundles: () => bundleOf.bundle.value, now });
    return true;
  } catch {
    return false;
  }
}

describe('replicas that share their authorities', () => {
  it('sign with the same authority and publish the same bundle', async () => {
    const cluster = new Cluster();
    const leader = await cluster.open();
    const follower = await cluster.open({ follows: true });
    expect(activeOf(follower)).toBe(activeOf(leader));
    expect(follower.bundle.value).toEqual(leader.bundle.value);
    expect((await follower.signX509(request)).authorityId).toBe(activeOf(leader));
    expect(await trusts(leader, follower, cluster.clock.now())).toBe(true);
  });

  it('never trust less than what another one signs, when each follows at its own pace', async () => {
    const cluster = new Cluster();
    const leader = await cluster.open();
    const follower = await cluster.open({ follows: true });
    await leader.prepare('x509');
    // The follower has the prepared authority in its bundle before anybody signs with it.
    await follower.follow();
    await leader.activate('x509');
    expect(await trusts(follower, leader, cluster.clock.now())).toBe(true);
    expect(await trusts(leader, follower, cluster.clock.now())).toBe(true);
    expect(activeOf(follower)).not.toBe(activeOf(leader));
    await follower.follow();
    expect((await follower.signX509(request)).authorityId).toBe(activeOf(leader));
  });

  it('learn of taints and revocations', async () => {
    const cluster = new Cluster();
    const leader = await cluster.open();
    const follower = await cluster.open({ follows: true });
    const former = activeOf(leader) ?? '';
    await leader.rotate('x509');
    await leader.taint('x509', former);
    await follower.follow();
    expect(follower.taints.value.x509).toEqual([former]);
    await leader.revoke('x509', former);
    await follower.follow();
    expect(follower.bundle.value).toEqual(leader.bundle.value);
    expect(follower.bundle.value.x509Authorities).toHaveLength(1);
  });

  it('write nothing while they follow', async () => {
    const cluster = new Cluster();
    await cluster.open();
    const { updates } = cluster.record;
    const follower = await cluster.open({ follows: true });
    await follower.follow();
    await follower.signX509(request);
    expect(cluster.record.updates).toBe(updates);
  });

  it('wait for the leader to begin', async () => {
    const cluster = new Cluster();
    await expect(cluster.open({ follows: true })).rejects.toEqual(coded('JournalMissing'));
    expect(cluster.record.content).toBeUndefined();
  });

  it('rotate once they lead, from where the former leader stopped', async () => {
    const cluster = new Cluster();
    const first = await cluster.open();
    const second = await cluster.open({ follows: true });
    await first.prepare('x509');
    await first.close();
    const prepared = first.authorities().find(({ kind, slot }) => kind === 'x509' && slot === 'prepared')?.id;
    const stop = new AbortController();
    const running = second.run(stop.signal);
    await cluster.clock.armed();
    expect(second.authorities().some(({ id }) => id === prepared)).toBe(true);
    await cluster.clock.advance(20 * HOUR + 20_000);
    await cluster.clock.armed();
    stop.abort();
    await running;
    expect(activeOf(second)).toBe(prepared);
  });

  it('never both rotate: whoever is late gets a conflict and takes over what the other did', async () => {
    const cluster = new Cluster();
    const first = await cluster.open();
    const second = await cluster.open({ follows: true });
    await first.prepare('jwt');
    await expect(second.prepare('jwt')).rejects.toEqual(coded('JournalConflict'));
    expect(second.bundle.value).toEqual(first.bundle.value);
  });

  it('sign nothing while they cannot see the newest state', async () => {
    const cluster = new Cluster();
    await cluster.open();
    let stale: string | undefined;
    const follower = await cluster.open({ follows: true, staleness: () => stale });
    await follower.signX509(request);
    stale = 'the Secret has not been read for 31 s';
    await expect(follower.signX509(request)).rejects.toEqual(coded('StateStale'));
    await expect(follower.signJwt({ spiffeId: web, audience: ['db'], ttlSeconds: 60 })).rejects.toThrow(
      /31 s/,
    );
    stale = undefined;
    await follower.signX509(request);
  });

  it('let an authority sign no more when the key of its successor cannot be had', async () => {
    const cluster = new Cluster();
    const leader = await cluster.open();
    const follower = await cluster.open({ follows: true });
    await leader.rotate('x509');
    const keys = [...(cluster.record.content?.keys() ?? [])].filter((name) => name.endsWith('.key'));
    cluster.record.content = new Map(
      [...(cluster.record.content ?? [])].filter(([name]) => !keys.includes(name)),
    );
    await expect(follower.follow()).rejects.toEqual(coded('AuthorityKeyMismatch'));
    await expect(follower.signX509(request)).rejects.toEqual(coded('AuthorityUnavailable'));
  });
});

describe('a state that is lost', () => {
  it('keeps nobody from signing who holds it, and nobody makes another in its place', async () => {
    const cluster = new Cluster();
    const evidence = (): string | undefined => 'there were some';
    const leader = await cluster.open();
    const holder = await cluster.open({ follows: true, evidence });
    cluster.record.content = undefined;
    await expect(holder.follow()).rejects.toEqual(coded('JournalMissing'));
    expect(await trusts(leader, holder, cluster.clock.now())).toBe(true);
    await expect(holder.rotate('x509')).rejects.toEqual(coded('JournalMissing'));
    expect(await trusts(leader, holder, cluster.clock.now())).toBe(true);
  });
});

describe('a state that is not the next one', () => {
  it('is taken over when it was put back from a backup, whatever became of the former one', async () => {
    const cluster = new Cluster();
    const leader = await cluster.open();
    const backup = cluster.record.content;
    const follower = await cluster.open({ follows: true });
    const former = activeOf(leader);
    await leader.rotate('x509');
    await follower.follow();
    cluster.record.content = backup;
    await follower.follow();
    expect(activeOf(follower)).toBe(former);
    expect(follower.bundle.value.x509Authorities).toHaveLength(1);
    // From there it may go another way, with the same numbers.
    const other = await cluster.open();
    await other.rotate('x509');
    await leader.follow();
    expect(leader.bundle.value).toEqual(other.bundle.value);
    expect(await trusts(other, leader, cluster.clock.now())).toBe(true);
  });

  it('is taken over when it was begun anew, and goes on from the last sequence', async () => {
    const cluster = new Cluster();
    const leader = await cluster.open();
    await leader.rotate('x509');
    const last = leader.bundle.value.sequence;
    cluster.record.content = undefined;
    const anew = await cluster.open({ lastSequence: last });
    expect(anew.bundle.value.sequence).toBeGreaterThan(last);
    await leader.follow();
    expect(leader.bundle.value).toEqual(anew.bundle.value);
    expect((await leader.signX509(request)).authorityId).toBe(activeOf(anew));
  });
});

describe('a new authority', () => {
  it('does not sign on schedule before its bundle stands wherever it is published', async () => {
    const cluster = new Cluster();
    let standsForMs = 0;
    const asked: number[] = [];
    const ca = await cluster.open({
      distributedForMs(sequence) {
        asked.push(sequence);
        return standsForMs;
      },
    });
    const former = activeOf(ca);
    const stop = new AbortController();
    const running = ca.run(stop.signal);
    await cluster.clock.armed();
    await cluster.clock.advance(21 * HOUR);
    await cluster.clock.armed();
    expect(ca.authorities().some(({ kind, slot }) => kind === 'x509' && slot === 'prepared')).toBe(true);
    expect(activeOf(ca)).toBe(former);
    expect(asked.at(-1)).toBe(ca.bundle.value.sequence);
    standsForMs = 60_000;
    await cluster.clock.advance(60_000);
    await cluster.clock.armed();
    stop.abort();
    await running;
    expect(activeOf(ca)).not.toBe(former);
  });
});

describe('the shared record', () => {
  it('holds no key in clear', async () => {
    const cluster = new Cluster();
    const leader = await cluster.open();
    const text = [...(cluster.record.content?.values() ?? [])]
      .map((bytes) => Buffer.from(bytes).toString('latin1'))
      .join('\n');
    expect(text).toContain('"sealed"');
    expect(text).not.toContain('"pkcs8"');
    await leader.close();
  });

  it('opens with its own key-encryption key alone', async () => {
    const cluster = new Cluster();
    await cluster.open();
    const encryption = localKeyEncryption(systemRandom.bytes(32), systemRandom);
    await expect(cluster.open({ encryption })).rejects.toEqual(coded('KeyEncryptionWrong'));
  });

  it('refuses a key that somebody put there in clear', async () => {
    const cluster = new Cluster();
    await cluster.open();
    const content = cluster.record.content ?? new Map<string, Uint8Array>();
    const name = [...content.keys()].find((one) => one.endsWith('.key')) ?? '';
    const { privateKey } = await generateKeyPair('ec-p256');
    const pkcs8 = privateKey.export({ format: 'der', type: 'pkcs8' });
    const { createHash } = await import('node:crypto');
    const file = {
      format: 'signet-key/1',
      id: name.replace(/[.]key$/, ''),
      pkcs8: pkcs8.toString('base64'),
      sha256: createHash('sha256').update(pkcs8).digest('hex'),
    };
    cluster.record.content = new Map([...content, [name, Buffer.from(JSON.stringify(file))]]);
    await expect(cluster.open({ follows: true })).rejects.toEqual(coded('KeyDamaged'));
  });

  it.each([
    ['deleted', () => undefined],
    ['emptied', () => new Map<string, Uint8Array>()],
  ])('is never begun anew once it was %s, while anybody remembers it', async (_, change) => {
    const cluster = new Cluster();
    const leader = await cluster.open({ evidence: () => undefined });
    const evidence = (): string => 'TrustDomain example.org has status.bundleSequence 2';
    cluster.record.content = change();
    await expect(cluster.open({ evidence })).rejects.toEqual(coded('JournalMissing'));
    // A leader that runs stops to change anything, and says why.
    const remembers = await new Cluster().open();
    await remembers.close();
    await expect(leader.rotate('x509')).rejects.toEqual(coded('JournalConflict'));
    expect(cluster.record.content?.has('journal.json') ?? false).toBe(false);
  });

  it.each([
    ['cut short', (bytes: Uint8Array) => bytes.subarray(0, bytes.length - 20)],
    [
      'edited',
      (bytes: Uint8Array) =>
        Buffer.from(Buffer.from(bytes).toString().replace('"sequence":', '"sequence":9')),
    ],
  ])('says how it is restored when its journal was %s', async (_, damage) => {
    const cluster = new Cluster();
    const leader = await cluster.open();
    const content = cluster.record.content ?? new Map<string, Uint8Array>();
    const journal = content.get('journal.json') ?? new Uint8Array();
    cluster.record.content = new Map([...content, ['journal.json', damage(journal)]]);
    await expect(cluster.open()).rejects.toEqual(coded('JournalDamaged'));
    await expect(cluster.open({ follows: true })).rejects.toThrow(
      /Restore .*Secret signet-system\/signet-ca.* from a backup/,
    );
    await expect(leader.rotate('x509')).rejects.toEqual(coded('JournalDamaged'));
  });

  it('takes a change that another process made in the same moment', async () => {
    const cluster = new Cluster();
    const leader = await cluster.open();
    const { record } = cluster;
    record.meanwhile = () => {
      record.content = new Map([...(record.content ?? []), ['note', Buffer.from('hello')]]);
    };
    await leader.prepare('x509');
    expect(record.content?.has('note')).toBe(true);
    const follower = await cluster.open({ follows: true });
    expect(follower.bundle.value).toEqual(leader.bundle.value);
  });

  it('that cannot be reached is an error with its reason', async () => {
    const cluster = new Cluster();
    await cluster.open();
    cluster.record.failure = new Error('connection refused');
    await expect(cluster.open({ follows: true })).rejects.toThrow(
      /Secret signet-system\/signet-ca: connection refused/,
    );
  });
});
