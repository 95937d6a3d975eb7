import { conditions, count, dateTime, dnsLabel, dnsSubdomain, line, spiffeID, writtenTime } from './forms.js';
import type { RevocationSpec, RevocationStatus, RevokedSubject } from './revocation.js';
import type { Schema } from './schema.js';
import { exactlyOneOf, objectSchema, optional, text } from './schema.js';

function issuer(): Schema<string> {
  return line('The issuer (iss).', 1024);
}

const subject = objectSchema<RevokedSubject>(
  'What is revoked.',
  {
    spiffeID: optional(spiffeID('Every SVID of this SPIFFE ID.')),
    pod: optional(
      objectSchema<NonNullable<RevokedSubject['pod']>>('Every SVID of this pod.', {
        namespace: dnsLabel('Its namespace.'),
        name: dnsSubdomain('Its name.'),
        uid: optional(line('Its uid: a later pod of the same name is another one.', 64)),
      }),
    ),
    serialNumber: optional(
      text('One X.509-SVID, by its serial number.', {
        maxLength: 40,
        pattern: '^[0-9a-f]+$',
        form: 'write it in lower-case hex without ":"',
      }),
    ),
    authorityID: optional(line('All that this authority has signed.', 256)),
    token: optional(
      objectSchema<NonNullable<RevokedSubject['token']>>('One token.', {
        issuer: issuer(),
        id: line('Its id (jti).', 1024),
      }),
    ),
    user: optional(
      objectSchema<NonNullable<RevokedSubject['user']>>('Every token of this end user.', {
        issuer: issuer(),
        subject: line('The subject (sub).', 1024),
      }),
    ),
    session: optional(
      objectSchema<NonNullable<RevokedSubject['session']>>('Every token of this login session.', {
        issuer: issuer(),
        id: line('Its id (sid).', 1024),
      }),
    ),
  },
  { rules: [exactlyOneOf(['spiffeID', 'pod', 'serialNumber', 'authorityID', 'token', 'user', 'session'])] },
);

export const revocationSpec = objectSchema<RevocationSpec>(
  'Takes trust away before it runs out, at once and everywhere.',
  {
    subject,
    reason: line('Why, for the audit log.', 1024),
    until: optional(dateTime('When the revocation ends; for good unless said.')),
  },
  {
    rules: [
      {
        rule: 'self.subject == oldSelf.subject',
        message: 'what is revoked cannot be changed',
        fix: 'delete this Revocation, which gives trust back, and make another',
      },
    ],
  },
);

export const revocationStatus = objectSchema<RevocationStatus>('What has become of it.', {
  conditions: optional(conditions),
  effectiveFrom: optional(writtenTime('Since when it holds.')),
  agentsReached: optional(count('How many agents have dropped what is revoked, and said so.')),
  agentsTotal: optional(
    count('How many agents may hold it; for pods and SPIFFE IDs those of their nodes, else all.'),
  ),
});
