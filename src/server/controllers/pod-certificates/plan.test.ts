import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { PodFacts, Registration } from '../../../identity/registration/registration.js';
import { parseSpiffeId } from '../../../identity/spiffe/id.js';
import { planPodCertificate, type PodCertificatePlan, type PodKnowledge } from './plan.js';
import type { PodCertificateRequest } from './request.js';

const NOW = Date.UTC(2026, 0, 1);

const pod: PodFacts = {
  ...{ namespace: 'shop', name: 'web', uid: 'u1', serviceAccount: 'app', nodeName: 'n1' },
  ...{ labels: {}, annotations: {}, images: [], privileged: false },
};

const registration = (hint: string, x509TtlSeconds = 3600): Registration => ({
  ...{ id: `u1/shop/${hint}`, nodeName: 'n1', hint, revision: '1' },
  subject: { kind: 'pod', namespace: 'shop', name: 'web', uid: 'u1' },
  spiffeId: parseSpiffeId('spiffe://example.org/ns/shop/sa/app'),
  ...{ x509TtlSeconds, jwtTtlSeconds: 300, dnsNames: [], federatesWith: [], audiences: [] },
  identity: { kind: 'WorkloadIdentity', namespace: 'shop', name: 'web' },
});

const request: PodCertificateRequest = {
  ...{
    namespace: 'shop',
    name: 'r',
    uid: 'r1',
    signerName: 'signet.dev/workload',
    podName: 'web',
    podUid: 'u1',
  },
  ...{ serviceAccountName: 'app', nodeName: 'n1', maxExpirationSeconds: 86_400, csr: new Uint8Array() },
  ...{ annotations: {}, createdAt: NOW - 60_000, answered: false },
};

const known: PodKnowledge = { pod, registrations: [registration('one')], explanation: 'nothing selects it' };

const plan = (
  change: Partial<PodCertificateRequest> = {},
  knowledge: Partial<PodKnowledge> = {},
  now = NOW,
): PodCertificatePlan =>
  planPodCertificate(
    { ...request, ...change },
    { ...known, ...knowledge },
    { signerName: 'signet.dev/workload', backdateSeconds: 10, now },
  );

describe('what is done about the request for the certificate of a pod', () => {
  it('is nothing when another signs, or when it is answered', () => {
    expect(plan({ signerName: 'signet.dev/workload2' })).toEqual({ do: 'nothing' });
    expect(plan({ answered: true })).toEqual({ do: 'nothing' });
  });

  it('is to sign for the first identity, or for the one with the hint', () => {
    const registrations = [registration('one'), registration('two')];
    expect(plan({}, { registrations })).toMatchObject({ do: 'sign', registration: registrations[0] });
    expect(plan({ annotations: { 'signet.dev/hint': 'two' } }, { registrations })).toMatchObject({
      do: 'sign',
      registration: registrations[1],
    });
  });

  it('is never one that is for single containers: a volume tells none apart', () => {
    const ofOne = { ...registration('one'), containers: { ids: ['a'.repeat(64)], others: [] } };
    expect(plan({}, { registrations: [ofOne, registration('two')] })).toMatchObject({
      ...{ do: 'sign', registration: { hint: 'two' } },
    });
    const asked = { annotations: { 'signet.dev/hint': 'one' } };
    expect(plan(asked, { registrations: [ofOne] })).not.toHaveProperty('registration');
  });

  it('is to wait a while for what may come, and then to deny', () => {
    const cases: [Partial<PodCertificateRequest>, Partial<PodKnowledge>, string][] = [
      [{}, { pod: undefined }, 'PodUnknown'],
      [{}, { registrations: [] }, 'NoIdentity'],
      [{ nodeName: 'n2' }, {}, 'PodMismatch'],
      [{ serviceAccountName: 'admin' }, {}, 'PodMismatch'],
      [{ podName: 'other' }, {}, 'PodMismatch'],
      [{ namespace: 'other' }, {}, 'PodMismatch'],
      [{ annotations: { 'signet.dev/hint': 'none' } }, {}, 'InvalidUnverifiedUserAnnotations'],
    ];
    for (const [change, knowledge, reason] of cases) {
      expect(plan({ ...change, createdAt: NOW - 1000 }, knowledge)).toMatchObject({ do: 'wait' });
      expect(plan(change, knowledge)).toMatchObject({ do: 'deny', reason });
      // A clock that was set back waits no longer.
      expect(plan({ ...change, createdAt: NOW + 3_600_000 }, knowledge)).toMatchObject({ do: 'deny' });
    }
  });

  it('is to deny at once what no time will mend', () => {
    expect(plan({ annotations: { 'a.example/b': 'c' }, createdAt: NOW })).toMatchObject({
      do: 'deny',
      reason: 'InvalidUnverifiedUserAnnotations',
    });
    expect(plan({}, { registrations: [registration('one', 3589)] })).toMatchObject({
      reason: 'LifetimeTooShort',
    });
  });

  it('keeps every bound on the lifetime, the time before now counted', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 3600, max: 91 * 86_400 }),
        fc.integer({ min: 1, max: 365 * 86_400 }),
        (maxExpirationSeconds, ttl) => {
          const decided = plan({ maxExpirationSeconds }, { registrations: [registration('one', ttl)] });
          if (decided.do !== 'sign') return ttl < 3590;
          const whole = decided.ttlSeconds + 10;
          return whole >= 3600 && whole <= maxExpirationSeconds && decided.ttlSeconds <= ttl;
        },
      ),
    );
  });
});
