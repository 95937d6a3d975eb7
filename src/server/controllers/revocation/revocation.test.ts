import fc from 'fast-check';
import { describe, expect, it } from '@jest/globals';
import { FakeClock } from '../../../../test/support/fake-clock.js';
import { MemoryStore } from '../../../../test/support/memory-store.js';
import { toHex } from '../../../identity/pki/bytes.js';
import type { Registration } from '../../../identity/registration/registration.js';
import { parseSpiffeId } from '../../../identity/spiffe/id.js';
import { WatchedValue } from '../../../lib/watched.js';
import type { Revocation, RevokedSubject } from '../../../resources/revocation.js';
import type { NodeChange, RegistrationView } from '../../registrations.js';
import { openRevocationBook } from './book.js';
import { trustedRegistrations } from './trusted-registrations.js';

const ID = 'spiffe://example.org/ns/shop/sa/app';

const registration = (name: string, uid = `uid-${name}`, id = ID): Registration => ({
  ...{ id: `${uid}/shop/id`, nodeName: 'n1', hint: '', revision: '1' },
  subject: { kind: 'pod', namespace: 'shop', name, uid },
  spiffeId: parseSpiffeId(id),
  ...{ x509TtlSeconds: 3600, jwtTtlSeconds: 300, dnsNames: [], federatesWith: [], audiences: [] },
  identity: { kind: 'WorkloadIdentity', namespace: 'shop', name: 'id' },
});

const revocation = (name: string, subject: RevokedSubject, until?: string): Revocation => ({
  apiVersion: 'signet.dev/v1alpha1',
  kind: 'Revocation',
  metadata: { name, uid: `r-${name}`, generation: 1 },
  spec: { subject, reason: 'stolen', ...(until === undefined ? {} : { until }) },
});

/** All registrations, and a way to change them. */
class Registrations implements RegistrationView {
  readonly ready = new WatchedValue(true);
  readonly all = new Map<string, Registration>();
  readonly #watchers = new Set<(change: NodeChange) => void>();

  get(id: string): Registration | undefined {
    return this.all.get(id);
  }
  forNode(): readonly Registration[] {
    return [...this.all.values()];
  }
  watch(_: string, onChange: (change: NodeChange) => void): () => void {
    this.#watchers.add(onChange);
    return () => this.#watchers.delete(onChange);
  }
  explainPod(uid: string): string {
    return `explained ${uid}`;
  }
  explainProcess(): string {
    return '';
  }
  put(...registrations: readonly Registration[]): void {
    for (const one of registrations) this.all.set(one.id, one);
    for (const watcher of this.#watchers) watcher({ changed: registrations, removed: [] });
  }
}

interface World {
  readonly clock: FakeClock;
  readonly store: MemoryStore;
  readonly all: Registrations;
  readonly view: RegistrationView;
  /** What an agent of the node holds, having followed every change. */
  readonly held: Set<string>;
}

function world(...registrations: readonly Registration[]): World {
  const clock = new FakeClock();
  const store = new MemoryStore();
  const all = new Registrations();
  all.put(...registrations);
  const book = openRevocationBook(store, clock);
  const ofPod = (uid: string): readonly Registration[] =>
    all.forNode().filter(({ subject }) => subject.kind === 'pod' && subject.uid === uid);
  const view = trustedRegistrations(all, book.inForce, ofPod);
  const held = new Set(view.forNode('n1').map(({ id }) => id));
  view.watch('n1', ({ changed, removed }) => {
    for (const id of removed) held.delete(id);
    for (const { id } of changed) held.add(id);
  });
  return { clock, store, all, view, held };
}

describe('what is revoked', () => {
  const web = registration('web');
  const other = registration('other', 'uid-other', 'spiffe://example.org/ns/shop/sa/other');

  it('is gone for its agent and for signing at once, and comes back when the Revocation is deleted', () => {
    const { store, view, held } = world(web, other);
    const revoked = revocation('one', { spiffeID: ID });
    store.put(revoked);
    expect([...held]).toEqual([other.id]);
    expect(view.get(web.id)).toBeUndefined();
    expect(view.forNode('n1')).toEqual([other]);
    expect(view.explainPod('uid-web')).toBe(`${ID}: it is revoked by Revocation one: stolen`);
    expect(view.explainPod('uid-other')).toBe('explained uid-other');
    store.remove(revoked);
    expect(held.has(web.id)).toBe(true);
    expect(view.get(web.id)).toBe(web);
  });

  it('ends at its time, also when the clock jumps there', async () => {
    const { clock, store, held } = world(web, other);
    store.put(
      revocation('soon', { spiffeID: ID }, new Date(clock.now() + 5_000).toISOString()),
      revocation(
        'later',
        { pod: { namespace: 'shop', name: 'other' } },
        new Date(clock.now() + 9 * 3_600_000).toISOString(),
      ),
    );
    expect([...held]).toEqual([]);
    await clock.advance(4_999);
    expect([...held]).toEqual([]);
    await clock.advance(1);
    expect([...held]).toEqual([web.id]);
    clock.jump(9 * 3_600_000);
    await clock.advance(30_000);
    expect(held.has(other.id)).toBe(true);
  });

  it('does not end at a time that nobody can read, though the API server took it', async () => {
    const { clock, store, held } = world(web);
    store.put(revocation('odd', { spiffeID: ID }, '2000-01-01T00:00:00+24:00'));
    expect([...held]).toEqual([]);
    await clock.advance(60_000);
    expect([...held]).toEqual([]);
    expect(clock.timers).toBe(0);
  });

  it('is one pod and not the next one of its name, where a uid is said', () => {
    const { store, all, held } = world(web);
    store.put(revocation('pod', { pod: { namespace: 'shop', name: 'web', uid: 'uid-web' } }));
    expect([...held]).toEqual([]);
    const next = registration('web', 'uid-next');
    all.put(next);
    expect([...held]).toEqual([next.id]);
    store.put(revocation('name', { pod: { namespace: 'shop', name: 'web' } }));
    expect([...held]).toEqual([]);
  });

  it('stays gone when it changes, and when one of two Revocations ends', () => {
    const { store, all, held } = world(web);
    const first = revocation('a', { spiffeID: ID });
    store.put(first, revocation('b', { pod: { namespace: 'shop', name: 'web' } }));
    all.put({ ...web, revision: '2' });
    expect([...held]).toEqual([]);
    store.remove(first);
    expect([...held]).toEqual([]);
  });

  it('is known by serial number as certificates have it, however many zeros it is written with', () => {
    const store = new MemoryStore();
    const book = openRevocationBook(store, new FakeClock());
    store.put(revocation('x', { serialNumber: '000a1b' }), revocation('y', { serialNumber: '0' }));
    const before = book.serials.value;
    store.put(revocation('z', { spiffeID: ID }));
    expect(book.serials.value).toBe(before);
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 20 }), fc.nat(3), (bytes, zeros) => {
        const [first = 0, ...rest] = bytes;
        const serial = Uint8Array.of(Math.max(first, 1), ...rest);
        const written = toHex(serial).replace(/^0*/, '0'.repeat(zeros));
        store.put(revocation('x', { serialNumber: written }));
        expect(book.serials.value).toContain(toHex(serial));
      }),
    );
  });
});
