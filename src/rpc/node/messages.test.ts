import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { ProcessFacts, Registration } from '../../identity/registration/registration.js';
import { spiffeId } from '../../identity/spiffe/id.js';
import {
  BundleUpdate as BundleMessage,
  JwtResult,
  ProcessFacts as ProcessFactsMessage,
  Registration as RegistrationMessage,
  X509Result,
} from '../gen/signet/node/v1/node.js';
import type { SignJwtResult, SignX509Result } from '../node-api.js';
import { bundleMessage, bundlesFrom } from './bundle-message.js';
import {
  processFactsFrom,
  processFactsMessage,
  registrationFrom,
  registrationMessage,
} from './registration-message.js';
import { jwtResultFrom, jwtResultMessage, x509ResultFrom, x509ResultMessage } from './result-message.js';

const text = fc.string({ unit: 'grapheme', maxLength: 20 });
const id = fc.nat({ max: 2 ** 32 - 1 });
const seconds = fc.nat({ max: 10 ** 9 });
/** Milliseconds since the epoch. */
const time = fc.integer({ min: 0, max: 4 * 10 ** 12 });
const strings = fc.array(text, { maxLength: 3 });
const bytes = fc.uint8Array({ maxLength: 50 });
/** Fields are left out at random, never undefined. */
const optional = { requiredKeys: [] };
const subject = fc.oneof(
  fc.record(
    { kind: fc.constant('pod' as const), namespace: text, name: text, uid: text, staticUid: text },
    { requiredKeys: ['kind', 'namespace', 'name', 'uid'] },
  ),
  fc.record({
    kind: fc.constant('process' as const),
    selector: fc.record({ uid: id, gid: id, supplementaryGid: id, path: text, sha256: text }, optional),
  }),
);
const wholePods: fc.Arbitrary<Registration> = fc.record({
  ...{ id: text, subject, nodeName: text, hint: text, revision: text },
  spiffeId: fc
    .array(fc.stringMatching(/^[a-zA-Z0-9_-]{1,8}$/), { minLength: 1, maxLength: 4 })
    .map((path) => spiffeId('example.org', `/${path.join('/')}`)),
  ...{ x509TtlSeconds: seconds, jwtTtlSeconds: seconds },
  ...{ dnsNames: strings, federatesWith: strings, audiences: strings },
  identity: fc.record({
    kind: fc.constantFrom('WorkloadIdentity' as const, 'ClusterWorkloadIdentity' as const),
    ...{ namespace: text, name: text },
  }),
});
const containers = fc.record({ ids: strings, others: strings });
const registrations: fc.Arbitrary<Registration> = fc
  .tuple(wholePods, fc.option(containers, { nil: undefined }))
  .map(([one, only]) => (only === undefined ? one : { ...one, containers: only }));
const refusal = fc.record({
  ...{ ok: fc.constant(false as const), code: text, message: text, retryable: fc.boolean() },
});

describe('the type of keys', () => {
  it('goes with a registration; one that is not known is as if unsaid', () => {
    fc.assert(
      fc.property(
        registrations,
        fc.constantFrom('ec-p384', 'rsa-4096', 'ed25519', 'later', ''),
        (one, type) => {
          const message = registrationMessage({ ...one, keyType: type as never });
          const bytes = RegistrationMessage.encode(message).finish();
          const known = type === 'later' || type === '' ? undefined : type;
          expect(registrationFrom(RegistrationMessage.decode(bytes)).keyType).toBe(known);
        },
      ),
    );
  });
});

describe('over the wire, nothing changes of', () => {
  it('a registration', () => {
    fc.assert(
      fc.property(registrations, (registration) => {
        const sent = RegistrationMessage.encode(registrationMessage(registration)).finish();
        expect(registrationFrom(RegistrationMessage.decode(sent))).toEqual(registration);
      }),
    );
  });

  it('what the kernel says of a process', () => {
    const facts: fc.Arbitrary<ProcessFacts> = fc
      .tuple(
        fc.record({ uid: id, gid: id, supplementaryGids: fc.array(id, { maxLength: 4 }) }),
        fc.record({ path: text, sha256: text }, optional),
      )
      .map(([always, more]) => ({ ...always, ...more }));
    fc.assert(
      fc.property(facts, (about) => {
        const sent = ProcessFactsMessage.encode(processFactsMessage(about)).finish();
        expect(processFactsFrom(ProcessFactsMessage.decode(sent))).toEqual(about);
      }),
    );
  });

  it('what became of a request for an X.509-SVID', () => {
    const signed = fc.record({
      ...{ ok: fc.constant(true as const), chain: fc.array(bytes, { maxLength: 3 }) },
      ...{ notBefore: time, notAfter: time, serial: text, authorityId: text },
    });
    const plain = (result: SignX509Result): object =>
      result.ok ? { ...result, chain: result.chain.map((der) => [...der]) } : result;
    fc.assert(
      fc.property(fc.oneof(signed, refusal), (result) => {
        const sent = X509Result.encode(x509ResultMessage(result)).finish();
        expect(plain(x509ResultFrom(X509Result.decode(sent)))).toEqual(plain(result));
      }),
    );
  });

  it('what became of a request for a JWT-SVID', () => {
    const signed = fc.record({
      ...{ ok: fc.constant(true as const), token: text },
      ...{ issuedAt: time, expiresAt: time, keyId: text },
    });
    fc.assert(
      fc.property(fc.oneof(signed, refusal), (result: SignJwtResult) => {
        const sent = JwtResult.encode(jwtResultMessage(result)).finish();
        expect(jwtResultFrom(JwtResult.decode(sent))).toEqual(result);
      }),
    );
  });

  it('the list of what is tainted and revoked', () => {
    const own = { trustDomain: 'example.org', x509Authorities: [], jwtAuthorities: [], sequence: 7 };
    const other = { ...own, trustDomain: 'other.test', sequence: 3 };
    fc.assert(
      fc.property(strings, strings, strings, (taintedX509, taintedJwt, revokedSerials) => {
        const update = { own, federated: [other], taintedX509, taintedJwt, revokedSerials };
        const sent = BundleMessage.encode(bundleMessage(update)).finish();
        expect(bundlesFrom(BundleMessage.decode(sent), 'example.org')).toEqual(update);
      }),
    );
  });
});

describe('what no server says', () => {
  it('is an error, not a registration of nobody or of no identity', () => {
    const empty = RegistrationMessage.decode(new Uint8Array());
    const subjectOnly = RegistrationMessage.decode(
      RegistrationMessage.encode({
        ...empty,
        ...{ spiffeId: 'spiffe://example.org/x', subject: { $case: 'process', value: {} } },
      }).finish(),
    );
    expect(() => registrationFrom({ ...empty, spiffeId: 'spiffe://example.org/x' })).toThrow(/names nobody/);
    expect(() => registrationFrom(subjectOnly)).toThrow(/comes from no identity/);
    expect(() =>
      registrationFrom({ ...subjectOnly, identity: { kind: 'Secret', namespace: '', name: '' } }),
    ).toThrow(/comes from no identity/);
    expect(() => registrationFrom({ ...subjectOnly, spiffeId: 'https://example.org/x' })).toThrow();
    expect(() => x509ResultFrom(X509Result.decode(new Uint8Array()))).toThrow(/neither/);
    expect(() => jwtResultFrom(JwtResult.decode(new Uint8Array()))).toThrow(/neither/);
  });
});
