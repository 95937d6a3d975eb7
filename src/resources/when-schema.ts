import { dnsSubdomain, duration, labelSelector, line, names } from './forms.js';
import { requirements } from './identity-schema.js';
import type {
  AttributeMatch,
  AttributeOperator,
  ClaimMatch,
  RoleGrant,
  TimeWindow,
  TokenMatch,
  Weekday,
  When,
} from './policy.js';
import type { Schema } from './schema.js';
import { atLeastOneOf, list, objectSchema, oneOf, optional, text } from './schema.js';
import { valueOperators, valuesRule } from './value-operators.js';

/* Further conditions of a rule, and the roles that it grants. */

function claimName(description: string): Schema<string> {
  return line(
    `${description} A name as it is, or a JSON pointer into nested claims ("/realm_access/roles").`,
    512,
  );
}

export const roleGrants = list(
  'AccessRoles whose permissions the rule is for, besides those of to.',
  objectSchema<RoleGrant>(
    'A role.',
    {
      name: dnsSubdomain('Name of the AccessRole.'),
      claim: optional(claimName('Only callers with a validated token that carries the role in this claim.')),
      value: optional(line('What the claim calls the role; its name unless said.', 512)),
    },
    {
      rules: [
        {
          rule: '!has(self.value) || has(self.claim)',
          message: 'value says what a claim calls the role and needs claim',
        },
      ],
    },
  ),
  { minItems: 1, maxItems: 32 },
);

const claim = objectSchema<ClaimMatch>(
  'A claim.',
  {
    claim: claimName('The claim.'),
    operator: optional(
      oneOf<NonNullable<ClaimMatch['operator']>>(
        'In unless said. A list is In when one of its items is, ContainsAll when it holds every value.',
        { ...valueOperators, ContainsAll: true },
      ),
    ),
    values: optional(
      names(
        'Values; numbers and booleans compare by their JSON text.',
        text('A value.', { maxLength: 1024 }),
        32,
      ),
    ),
  },
  { rules: [valuesRule] },
);

const token = objectSchema<TokenMatch>('The validated end-user token (JWT) that a request must carry.', {
  issuers: optional(
    names('Issuers (iss); any that the trust domain accepts unless said.', line('An issuer.', 1024), 16),
  ),
  audiences: optional(names('Audiences (aud), one of which it must hold.', line('An audience.', 1024), 16)),
  subjects: optional(names('Subjects (sub), exact.', line('A subject.', 1024))),
  claims: optional(list('Claims, all of which must hold.', claim, { minItems: 1, maxItems: 16 })),
  amr: optional(
    names('Authentication methods (RFC 8176), all of which the user has passed.', line('A method.', 64), 16),
  ),
  acr: optional(names('Authentication context classes, one of which it has.', line('A class.', 256), 16)),
  maxAuthAge: optional(duration('How long ago the user may have logged in (auth_time).')),
});

const day = oneOf<Weekday>('A day.', {
  Mon: true,
  Tue: true,
  Wed: true,
  Thu: true,
  Fri: true,
  Sat: true,
  Sun: true,
});

const timeWindow = objectSchema<TimeWindow>('Hours of the week.', {
  days: optional(
    list('Days on which it opens; every day unless said.', day, { minItems: 1, maxItems: 7, unique: 'set' }),
  ),
  from: text('When it opens, included.', {
    maxLength: 5,
    pattern: '^([01][0-9]|2[0-3]):[0-5][0-9]$',
    form: 'write hours and minutes: "09:00"',
  }),
  until: text('When it closes, not included; on the next day when it is not after from.', {
    maxLength: 5,
    pattern: '^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$',
    form: 'write hours and minutes: "17:00", "24:00"',
  }),
  timeZone: text('IANA time zone.', {
    maxLength: 64,
    pattern: '^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$',
    form: 'write an IANA name: "Europe/Berlin", "UTC"',
  }),
});

function timeWindows(description: string): Schema<readonly TimeWindow[]> {
  return list(description, timeWindow, { minItems: 1, maxItems: 16 });
}

function attributeName(description: string): Schema<string> {
  return text(description, {
    maxLength: 256,
    pattern: '^(subject|resource|action|environment)(\\.[A-Za-z_][A-Za-z0-9_-]*)+$',
    form: 'write "subject.", "resource.", "action." or "environment." and a name: "resource.owner"',
  });
}

const attribute = objectSchema<AttributeMatch>(
  'An attribute of the decision; a missing one never matches.',
  {
    attribute: attributeName('The attribute; dots go into nested objects.'),
    operator: optional(
      oneOf<AttributeOperator>('How it is compared; In unless said.', {
        ...valueOperators,
        Equals: true,
        NotEquals: true,
        GreaterThan: true,
        AtLeast: true,
        LessThan: true,
        AtMost: true,
      }),
    ),
    values: optional(
      names(
        'What it is compared with; one value unless for In and NotIn.',
        text('A value.', { maxLength: 1024 }),
        32,
      ),
    ),
    other: optional(attributeName('Another attribute to compare with, in place of values.')),
  },
  {
    rules: [
      {
        rule: "has(self.operator) && self.operator in ['Exists', 'DoesNotExist'] ? !has(self.values) && !has(self.other) : [has(self.values), has(self.other)].exists_one(x, x)",
        message:
          'Exists and DoesNotExist compare with nothing, every other operator with exactly one of values and other',
      },
      {
        rule: "!has(self.other) || (has(self.operator) && !(self.operator in ['In', 'NotIn']))",
        message: 'In and NotIn compare with values',
        fix: 'write operator: Equals to compare with another attribute',
      },
      {
        rule: "!has(self.values) || !has(self.operator) || self.operator in ['In', 'NotIn'] || self.values.size() == 1",
        message: 'only In and NotIn compare with more than one value',
      },
    ],
  },
);

export const when = objectSchema<When>(
  'Further conditions, all of which must hold.',
  {
    token: optional(token),
    during: optional(timeWindows('One of these windows is open.')),
    outside: optional(timeWindows('None of these windows is open.')),
    sourceLabels: optional(labelSelector('Labels of the calling pod, of this cluster.')),
    targetLabels: optional(labelSelector('Labels of the called pod, besides those of the target.')),
    sourcePosture: optional(requirements),
    attributes: optional(
      list('Attributes of the decision, all of which must hold.', attribute, { minItems: 1, maxItems: 32 }),
    ),
    cel: optional(
      text('A CEL expression over subject, resource, action and environment that must be true.', {
        minLength: 1,
        maxLength: 4096,
      }),
    ),
  },
  {
    rules: [
      atLeastOneOf([
        'token',
        'during',
        'outside',
        'sourceLabels',
        'targetLabels',
        'sourcePosture',
        'attributes',
        'cel',
      ]),
    ],
  },
);
