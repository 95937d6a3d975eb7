import {
  conditions,
  count,
  dateTime,
  dnsLabel,
  dnsSubdomain,
  duration,
  labelSelector,
  line,
  names,
  ports,
  writtenTime,
} from './forms.js';
import { operations } from './operation-schema.js';
import { principals } from './principal-schema.js';
import { roleGrants, when } from './when-schema.js';
import type {
  AccessDecision,
  AccessPolicySpec,
  AccessPolicyStatus,
  AccessRequestSpec,
  AccessRequestStatus,
  AccessRoleSpec,
  AccessRoleStatus,
  AccessRule,
  AccessTarget,
  ClusterAccessPolicySpec,
  ClusterAccessTarget,
  RenderingStatus,
  Validity,
} from './policy.js';
import type { Fields, Schema } from './schema.js';
import { atLeastOneOf, list, objectSchema, oneOf, optional, text } from './schema.js';

/* AccessPolicy, ClusterAccessPolicy, AccessRole and AccessRequest. */

/** Also bounds what the API server allows rules inside of them to cost. */
const MAX_RULES = 64;

const targetFields: Fields<AccessTarget> = {
  podSelector: optional(labelSelector('Which pods, by label; every one unless said.')),
  serviceAccountNames: optional(
    names(
      'Names of service accounts; every one unless said.',
      dnsSubdomain('The name of a service account.'),
    ),
  ),
  ports: optional(ports('Ports of the pods; every one unless said.')),
};

const target = objectSchema<AccessTarget>(
  'Which workloads of the namespace the policy protects.',
  targetFields,
);

const clusterTarget = objectSchema<ClusterAccessTarget>(
  'Which workloads of the cluster the policy protects.',
  {
    namespaces: optional(names('Namespaces by name; every one unless said.', dnsLabel('A namespace.'))),
    namespaceSelector: optional(labelSelector('Namespaces by label; every one unless said.')),
    ...targetFields,
  },
);

function rules(scope: 'Namespaced' | 'Cluster'): Schema<readonly AccessRule[]> {
  const rule = objectSchema<AccessRule>('Who may, or may not, do what, and when.', {
    name: dnsLabel('Unique in the policy: names the rule in decisions, logs and status.'),
    effect: optional(
      oneOf<'Allow' | 'Deny'>(
        'Whether the rule lets in or keeps out.',
        { Allow: true, Deny: true },
        { default: 'Allow' },
      ),
    ),
    from: principals('Who calls; the entries are alternatives. Anyone is written "- anyone: true".', scope),
    to: optional(
      operations('What is called; the entries are alternatives. Everything unless said here or in roles.'),
    ),
    roles: optional(roleGrants),
    when: optional(when),
  });
  return list('The rules. An empty list allows nobody.', rule, {
    maxItems: MAX_RULES,
    unique: { key: 'name' },
  });
}

const mode = oneOf<'Enforce' | 'Audit'>(
  'Audit never changes an answer: what the policy would have said is reported only.',
  { Enforce: true, Audit: true },
  { default: 'Enforce' },
);

const validity = objectSchema<Validity>(
  'When the policy holds; always unless said.',
  {
    from: optional(dateTime('From this instant on, included.')),
    until: optional(dateTime('Up to this instant, not included.')),
  },
  {
    rules: [
      atLeastOneOf(['from', 'until']),
      {
        rule: '!has(self.from) || !has(self.until) || timestamp(self.from) < timestamp(self.until)',
        message: 'from must be before until',
      },
    ],
  },
);

export const accessPolicySpec = objectSchema<AccessPolicySpec>(
  'Who may call the pods of a namespace. An enforcing policy with an Allow rule, or without any rule, closes its target for whatever no rule allows.',
  { target, rules: rules('Namespaced'), mode: optional(mode), validity: optional(validity) },
);

export const clusterAccessPolicySpec = objectSchema<ClusterAccessPolicySpec>(
  'Who may call the pods of many namespaces.',
  {
    tier: oneOf<'Admin' | 'Baseline'>(
      'Admin is decided first and cannot be overridden; Baseline holds where no namespaced policy speaks.',
      { Admin: true, Baseline: true },
    ),
    target: clusterTarget,
    rules: rules('Cluster'),
    mode: optional(mode),
    validity: optional(validity),
  },
);

const rendering = objectSchema<RenderingStatus>("How a mesh's own rules say the policy.", {
  mesh: text('The mesh.', { maxLength: 63 }),
  fidelity: oneOf<RenderingStatus['fidelity']>('How faithfully; never wider than the policy.', {
    Exact: true,
    Narrower: true,
    Unsupported: true,
  }),
  reasons: optional(
    list("What cannot be said exactly, with the rule's name.", text('A reason.', { maxLength: 1024 }), {
      maxItems: 128,
    }),
  ),
  objects: optional(count('How many objects it became.')),
});

export const accessPolicyStatus = objectSchema<AccessPolicyStatus>('What has become of it.', {
  conditions: optional(conditions),
  renderings: optional(list('For each mesh.', rendering, { maxItems: 16, unique: { key: 'mesh' } })),
  podsProtected: optional(count('How many pods it protects.')),
  unheldPrincipals: optional(
    list('Principals that no identity can be issued for.', text('A principal.', { maxLength: 2048 }), {
      maxItems: 100,
    }),
  ),
});

export const accessRoleSpec = objectSchema<AccessRoleSpec>(
  'A named set of permissions, which rules grant.',
  {
    description: optional(line('What the role is for.', 1024)),
    permissions: optional(operations('What it permits; the entries are alternatives.')),
    includes: optional(
      names('Other AccessRoles whose permissions it has too.', dnsSubdomain('The name of an AccessRole.')),
    ),
  },
  { rules: [atLeastOneOf(['permissions', 'includes'])] },
);

export const accessRoleStatus = objectSchema<AccessRoleStatus>('What has become of it.', {
  conditions: optional(conditions),
  permissions: optional(count('How many permissions it has, with those of included roles.')),
  policies: optional(count('How many policies grant it, by themselves or through another role.')),
});

const decision = objectSchema<AccessDecision>('Who said yes or no.', {
  verdict: oneOf<AccessDecision['verdict']>('The answer.', { Approved: true, Denied: true }),
  by: optional(line("The approver's user name, as admission has seen it.", 512)),
  message: optional(line('Why, for whoever asked.', 1024)),
});

const asked = ['target', 'from', 'to', 'roles', 'when', 'duration', 'notBefore', 'reason'];

export const accessRequestSpec = objectSchema<AccessRequestSpec>(
  'Access asked for a while. Once approved it becomes an AccessPolicy that ends by itself.',
  {
    target,
    from: principals('Who is to get access.'),
    to: optional(operations('What is to be called; everything unless said here or in roles.')),
    roles: optional(roleGrants),
    when: optional(when),
    duration: duration('How long, from the approval or from notBefore.'),
    notBefore: optional(dateTime('From when; at once unless said.')),
    reason: line('Why, for the approver and the audit log.', 1024),
    decision: optional(decision),
  },
  {
    rules: [
      {
        rule: asked
          .map((field) =>
            ['target', 'from', 'duration', 'reason'].includes(field)
              ? `self.${field} == oldSelf.${field}`
              : `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || self.${field} == oldSelf.${field})`,
          )
          .join(' && '),
        message: 'what is asked for cannot be changed afterwards: the approver has read it',
        fix: 'make another AccessRequest',
      },
      {
        rule: '!has(oldSelf.decision) || (has(self.decision) && self.decision == oldSelf.decision)',
        message: 'a decision is final',
        fix: 'make another AccessRequest',
      },
      {
        rule: "duration(self.duration) > duration('0s')",
        message: 'duration must be longer than nothing',
      },
    ],
  },
);

export const accessRequestStatus = objectSchema<AccessRequestStatus>('What has become of it.', {
  conditions: optional(conditions),
  phase: optional(
    oneOf<NonNullable<AccessRequestStatus['phase']>>('Where it stands.', {
      Pending: true,
      Denied: true,
      Waiting: true,
      Active: true,
      Expired: true,
    }),
  ),
  policyName: optional(text('Name of the AccessPolicy that it became.', { maxLength: 253 })),
  validFrom: optional(writtenTime('Since when the access holds.')),
  validUntil: optional(writtenTime('When the access ends.')),
});
