import { dnsLabel, dnsSubdomain, labelSelector, names, spiffeID, trustDomainName } from './forms.js';
import type { IdentityObjectRef, Principal, ServiceAccountRef, SimplePrincipal } from './policy.js';
import type { CelRule, Fields, Schema } from './schema.js';
import { atLeastOneOf, atMostOneOf, list, marker, objectSchema, oneOf, optional, text } from './schema.js';

/* Who calls: the entries of from. */

/** Fields that name the caller; the others narrow. */
const NAMING = [
  'spiffeIDs',
  'identities',
  'serviceAccounts',
  'namespaces',
  'namespaceSelector',
  'anyAuthenticated',
  'anyone',
];

const principalRules: readonly CelRule[] = [
  atLeastOneOf([...NAMING, 'trustDomains', 'ipBlocks']),
  { ...atMostOneOf(NAMING), fix: 'write one entry for each: the entries of from are alternatives' },
  {
    rule: '!has(self.trustDomains) || !(has(self.spiffeIDs) || has(self.identities) || has(self.namespaceSelector) || has(self.anyone))',
    message:
      'trustDomains goes with serviceAccounts, namespaces, anyAuthenticated or alone: the others name the trust domain themselves',
    fix: 'remove trustDomains',
  },
];

/** In a policy of the whole cluster there is no namespace that a name could be looked up in. */
type Scope = 'Namespaced' | 'Cluster';

function namespaceRules(scope: Scope, rule: CelRule['rule']): readonly CelRule[] {
  return scope === 'Namespaced'
    ? []
    : [{ rule, message: 'in a ClusterAccessPolicy the namespace must be written' }];
}

const principalFields = (scope: Scope): Fields<SimplePrincipal> => ({
  spiffeIDs: optional(names('Exact SPIFFE IDs.', spiffeID('A SPIFFE ID.'), 128)),
  identities: optional(
    list(
      'Identities by the resource that declares them: whoever holds a SPIFFE ID that it gives.',
      objectSchema<IdentityObjectRef>(
        'An identity.',
        {
          kind: optional(
            oneOf<NonNullable<IdentityObjectRef['kind']>>(
              'Which kind declares it; WorkloadIdentity unless said.',
              {
                WorkloadIdentity: true,
                ClusterWorkloadIdentity: true,
              },
            ),
          ),
          namespace: optional(dnsLabel("Its namespace; the policy's own unless said.")),
          name: dnsSubdomain('Its name.'),
        },
        {
          rules: [
            {
              rule: "!has(self.__namespace__) || !has(self.kind) || self.kind == 'WorkloadIdentity'",
              message: 'a ClusterWorkloadIdentity has no namespace',
              fix: 'remove namespace',
            },
            ...namespaceRules(
              scope,
              "has(self.__namespace__) || (has(self.kind) && self.kind == 'ClusterWorkloadIdentity')",
            ),
          ],
        },
      ),
      { minItems: 1, maxItems: 32 },
    ),
  ),
  serviceAccounts: optional(
    list(
      'Service accounts, of trustDomains or else of the own trust domain: SPIFFE IDs /ns/<namespace>/sa/<name>.',
      objectSchema<ServiceAccountRef>(
        'A service account.',
        {
          namespace: optional(dnsLabel("Its namespace; the policy's own unless said.")),
          name: dnsSubdomain('Its name.'),
        },
        { rules: namespaceRules(scope, 'has(self.__namespace__)') },
      ),
      { minItems: 1, maxItems: 32 },
    ),
  ),
  namespaces: optional(
    names(
      'Namespaces by name, of trustDomains or else of the own trust domain: SPIFFE IDs under /ns/<name>/.',
      dnsLabel('A namespace.'),
    ),
  ),
  namespaceSelector: optional(labelSelector('Namespaces of this cluster, by label.')),
  anyAuthenticated: optional(
    marker('Any caller whose SVID was validated, of trustDomains or else of every trusted trust domain.'),
  ),
  anyone: optional(marker('Any caller, with an identity or without.')),
  trustDomains: optional(
    names('Trust domains. Alone: every identity of these.', trustDomainName('A trust domain.'), 32),
  ),
  ipBlocks: optional(
    names(
      'Blocks in which the peer address of the connection lies; never a forwarded header.',
      text('A CIDR block.', {
        maxLength: 49,
        pattern: '^[0-9A-Fa-f:.]+/[0-9]{1,3}$',
        form: 'write an address and the length of its prefix: "10.0.0.0/8", "2001:db8::/32"',
      }),
    ),
  ),
});

/** A list of callers: never empty, so that nothing opens when a program drops an empty list. */
export function principals(description: string, scope: Scope = 'Namespaced'): Schema<readonly Principal[]> {
  const fields = principalFields(scope);
  const simple = objectSchema<SimplePrincipal>('Callers to leave out.', fields, { rules: principalRules });
  const except = list('Callers that this entry is not for, though the fields above match them.', simple, {
    minItems: 1,
    maxItems: 8,
  });
  const principal = objectSchema<Principal>(
    'A caller; all fields must hold.',
    { ...fields, except: optional(except) },
    { rules: principalRules },
  );
  return list(description, principal, { minItems: 1, maxItems: 32 });
}
