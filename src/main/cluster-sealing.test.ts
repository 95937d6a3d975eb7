import { beforeEach, describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../test/support/fake-clock.js';
import { MemoryRecord } from '../../test/support/memory-record.js';
import { recordingLogger } from '../../test/support/recording-logger.js';
import { seededRandom } from '../../test/support/seeded-random.js';
import { trustDomainSettings, type TrustDomainSettings } from '../cluster/trust-domain.js';
import { localKeyEncryption, withPrevious, type KeyEncryption } from '../identity/keys/encryption.js';
import { recordKeyStore } from '../identity/keys/record-key-store.js';
import { requireOpens } from '../identity/keys/reseal.js';
import type { TrustDomainSpec } from '../resources/identity.js';
import { SignetError } from '../lib/errors.js';
import { WatchedValue } from '../lib/watched.js';
import { ClusterSealing } from './cluster-sealing.js';

const HOUR = 3_600_000;
const random = seededRandom(3);
const none = (): undefined => undefined;

/** A KEK whose own key may be rotated, as that of a KMS, and that counts what is asked of it. */
class Kek implements KeyEncryption {
  asked = 0;
  isRotated = false;
  isDown = false;
  readonly #local = localKeyEncryption(random.bytes(32), random);
  readonly id = this.#local.id;

  readonly isFresh = (): Promise<boolean> => this.#answer(() => Promise.resolve(!this.isRotated));
  readonly seal = (plain: Uint8Array, context: Uint8Array): Promise<Uint8Array> => {
    this.isRotated = false;
    return this.#answer(() => this.#local.seal(plain, context));
  };
  readonly open = (sealed: Uint8Array, context: Uint8Array): Promise<Uint8Array> =>
    this.#answer(() => this.#local.open(sealed, context));

  #answer<T>(act: () => Promise<T>): Promise<T> {
    this.asked += 1;
    return this.isDown ? Promise.reject(new SignetError('KeyEncryptionUnavailable', 'it is down')) : act();
  }
}

const settingsOf = (keyEncryption: NonNullable<TrustDomainSpec['keyEncryption']>): TrustDomainSettings =>
  trustDomainSettings({
    resource: {
      ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'TrustDomain' },
      metadata: { name: 'main', uid: 'main', generation: 1 },
      spec: { name: 'example.org', keyEncryption },
    },
  });

describe('the sealing of shared authorities', () => {
  const clock = new FakeClock();
  const place = (keyFile: string): { local: { keyFile: string } } => ({ local: { keyFile } });
  let keks: { readonly one: Kek; readonly two: Kek };
  let record: MemoryRecord;
  let settings: WatchedValue<TrustDomainSettings>;
  let leading: WatchedValue<boolean>;
  let log: ReturnType<typeof recordingLogger>;
  let sealing: ClusterSealing;

  beforeEach(async () => {
    keks = { one: new Kek(), two: new Kek() };
    record = new MemoryRecord();
    settings = new WatchedValue(settingsOf(place('one')));
    leading = new WatchedValue(true);
    log = recordingLogger();
    const kekOf = (source: TrustDomainSettings['keyEncryption']): KeyEncryption =>
      source !== undefined && 'keyFile' in source && source.keyFile === 'one' ? keks.one : keks.two;
    let isOpen = false;
    sealing = new ClusterSealing({
      ...{ record, settings, leading, clock, random, logger: log },
      seen: () => record.content,
      isOpen: () => isOpen,
      encryption: ({ keyEncryption, previousKeyEncryption: former }) => {
        const present = kekOf(keyEncryption);
        if (former === undefined) return Promise.resolve(present);
        return Promise.resolve(withPrevious(present, () => Promise.resolve(kekOf(former))));
      },
    });
    const encryption = await sealing.take(none);
    await recordKeyStore({ record, random, encryption }).generate('one', 'ec-p256');
    isOpen = true;
    await sealing.look(none);
    expect(sealing.state.value).toEqual({ refused: undefined, unsealed: undefined });
  });

  it('asks nothing while nothing changes, and once an hour whether the key of the KMS is another', async () => {
    const { one } = keks;
    const before = one.asked;
    for (let look = 0; look < 10; look++) await sealing.look(none);
    await clock.advance(HOUR - 1);
    one.isRotated = true;
    const { content } = record;
    await sealing.look(none);
    expect(one.asked).toBe(before);
    expect(record.content).toBe(content);
    await clock.advance(1);
    await sealing.look(none);
    expect(record.content).not.toBe(content);
    await requireOpens(record.content, one);
    const after = one.asked;
    await sealing.look(none);
    expect(one.asked).toBe(after);
  });

  it('is changed by the leader alone; the others open with both at once', async () => {
    const { two } = keks;
    leading.set(false);
    settings.set(settingsOf({ ...place('two'), previous: place('one') }));
    const { content } = record;
    await sealing.look(none);
    expect(record.content).toBe(content);
    const keys = recordKeyStore({ record, random, encryption: sealing.current });
    expect(await keys.load('one')).toBeDefined();
    await keys.generate('new', 'ec-p256');
    await expect(requireOpens(record.content, two)).rejects.toThrow();
    leading.set(true);
    await sealing.look(none);
    await requireOpens(record.content, two);
    expect(await keys.load('one')).toBeDefined();
    expect(log.lines).toEqual([]);
  });

  it('is not known from a change on until it is carried out, and looked at when this replica begins to lead', async () => {
    let looks = 0;
    sealing.watch(() => (looks += 1));
    settings.set({ ...settings.value, defaultAction: 'Allow' });
    expect([looks, sealing.state.value]).toEqual([0, { refused: undefined, unsealed: undefined }]);
    settings.set(settingsOf({ ...place('two'), previous: place('one') }));
    expect([looks, sealing.state.value]).toEqual([1, undefined]);
    await sealing.look(none);
    leading.set(false);
    expect(looks).toBe(1);
    leading.set(true);
    expect([looks, sealing.state.value]).toEqual([2, undefined]);
  });

  it('goes on as it was where the new key opens nothing or is not there, and changes as soon as it can', async () => {
    const { one, two } = keks;
    settings.set(settingsOf(place('two')));
    await sealing.look(none);
    expect(sealing.state.value?.refused?.code).toBe('KeyEncryptionWrong');
    expect(sealing.current.id).toBe(one.id);
    two.isDown = true;
    settings.set(settingsOf({ ...place('two'), previous: place('one') }));
    await sealing.look(none);
    await sealing.look(none);
    expect(sealing.state.value?.refused?.code).toBe('KeyEncryptionUnavailable');
    expect(sealing.current.id).toBe(one.id);
    expect(log.lines).toHaveLength(2);
    // Asked for by a replica that opens the state anew: what is in force opens it.
    expect((await sealing.take(none)).id).toBe(one.id);
    two.isDown = false;
    await sealing.look(none);
    expect(sealing.state.value).toEqual({ refused: undefined, unsealed: undefined });
    expect(sealing.current.id).toBe(two.id);
    await requireOpens(record.content, two);
  });

  it('tells of a failure half-way, when all opens with both, and goes on from there', async () => {
    const { one, two } = keks;
    settings.set(settingsOf({ ...place('two'), previous: place('one') }));
    record.meanwhile = () => (record.failure = new Error('the API server is gone'));
    await sealing.look(none);
    expect(sealing.state.value?.unsealed?.message).toMatch(/API server is gone/);
    expect(sealing.state.value?.refused).toBeUndefined();
    record.failure = undefined;
    await requireOpens(
      record.content,
      withPrevious(two, () => Promise.resolve(one)),
    );
    await sealing.look(none);
    expect(sealing.state.value).toEqual({ refused: undefined, unsealed: undefined });
    await requireOpens(record.content, two);
  });
});
