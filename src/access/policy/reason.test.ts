import { describe, expect, it } from '@jest/globals';
import { evaluate } from './evaluate.js';
import type { ApplicationRequest } from './model.js';
import { compilePolicySet } from './policy-set.js';

const policies = compilePolicySet(
  [
    {
      kind: 'AccessPolicy',
      metadata: { namespace: 'office', name: 'documents' },
      spec: {
        target: { podSelector: {} },
        rules: [
          {
            name: 'reading',
            from: [{ anyone: true }],
            to: [{ actions: ['read'], resources: [{ type: 'document' }] }],
          },
        ],
      },
    },
  ],
  { trustDomain: 'td', identity: () => undefined, namespaces: () => [] },
);

const target = {
  namespace: 'office',
  name: 'documents',
  serviceAccount: 'documents',
  labels: {},
  namespaceLabels: {},
};

function reasonOf(application: ApplicationRequest, source?: string): string {
  return evaluate(policies, { source, target, token: null, application, time: 0 }).reason;
}

describe('why an application is told no', () => {
  const asked = { action: { name: 'write' }, resource: { type: 'document', id: '7' } };

  it('names the action, the resource and the subject', () => {
    expect(reasonOf({ ...asked, subject: { type: 'user', id: 'ann' } })).toBe(
      'no rule allows action write on document 7 in office/documents to user ann; nearest is rule "reading" of policy office/documents, but action write is not read',
    );
  });

  it('names the workload by what was verified, and nobody where nobody is named', () => {
    const mine = { ...asked, subject: { type: 'workload', id: 'whatever it says' } };
    expect(reasonOf(mine, 'spiffe://td/ns/a/sa/b')).toContain('to spiffe://td/ns/a/sa/b;');
    expect(reasonOf(asked)).toContain('to a caller without identity;');
  });

  it('is not longer than a person reads, whatever is asked about', () => {
    const long = 'x'.repeat(60_000);
    expect(
      reasonOf({
        subject: { type: long, id: long },
        action: { name: long },
        resource: { type: long, id: long },
      }).length,
    ).toBeLessThan(2500);
  });
});
