import { describe, expect, it } from '@jest/globals';
import { MemoryStore } from '../../../test/support/memory-store.js';
import { createRegistrationIndex } from '../../identity/registration/registration-index.js';
import { WatchedValue } from '../../lib/watched.js';
import type { RevokedSubject } from '../../resources/revocation.js';
import type { StoredObject } from '../../store/store.js';
import { openPolicyFeed } from './feed.js';

const revocation = (name: string, subject: RevokedSubject, more: object = {}): StoredObject =>
  ({
    ...{ apiVersion: 'signet.dev/v1alpha1', kind: 'Revocation', ...more },
    metadata: { name, uid: `r-${name}`, generation: 1 },
    spec: { subject, reason: 'stolen' },
  }) as StoredObject;
const ofToken = { token: { issuer: 'https://login.test/', id: 'x' } };
const ofSvid = { spiffeID: 'spiffe://example.org/x' };

describe('what nodes are sent of Revocations', () => {
  it('is those of tokens, without their status, whatever takes the place of one under its name', () => {
    const store = new MemoryStore();
    store.put(revocation('token', ofToken), revocation('svid', ofSvid));
    const registrations = createRegistrationIndex({
      trustDomain: 'example.org',
      defaults: { x509TtlSeconds: 3600, jwtTtlSeconds: 300 },
    });
    const feed = openPolicyFeed({
      ...{ store, registrations, trustDomain: 'example.org' },
      ready: new WatchedValue(true),
      onDelta: () => () => undefined,
    });
    const source = feed.of('n1', []);
    source.subscribe(() => undefined);
    const sent = (): readonly (readonly string[])[] => {
      const { upserts = [], removed = [] } = source.take() ?? {};
      return [upserts.map(({ key }) => key), removed];
    };
    expect(sent()).toEqual([['Revocation/token'], []]);
    store.put(revocation('svid-2', ofSvid), revocation('token', ofToken, { status: { agentsTotal: 1 } }));
    expect(sent()).toEqual([[], []]);
    // A relist may show another object of the same name at once.
    store.put(revocation('token', ofSvid), revocation('svid', ofToken));
    expect(sent()).toEqual([['Revocation/svid'], ['Revocation/token']]);
    store.remove(revocation('svid', ofToken), revocation('svid-2', ofSvid));
    expect(sent()).toEqual([[], ['Revocation/svid']]);
    feed.close();
  });
});
