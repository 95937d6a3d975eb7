import {
  conditions,
  count,
  dnsSubdomain,
  duration,
  filePath,
  labelSelector,
  line,
  names,
  spiffeID,
  trustDomainName,
  writtenTime,
} from './forms.js';
import type {
  AuthorityRequestStatus,
  AuthorityStatus,
  ClusterWorkloadIdentitySpec,
  FederatedTrustDomainSpec,
  FederatedTrustDomainStatus,
  IdentityRequirements,
  IdentityStatus,
  IdentityTemplate,
  KeyTypeName,
  TrustDomainSpec,
  TrustDomainStatus,
  WorkloadIdentitySpec,
} from './identity.js';
import { keyEncryption } from './key-encryption-schema.js';
import { meshOptions } from './mesh-options-schema.js';
import type { CelRule, Fields, Schema } from './schema.js';
import { atLeastOneOf, flag, list, objectSchema, oneOf, optional, text } from './schema.js';
import { containerSelector, processSelector } from './workload-selector-schema.js';
import { tokenIssuer } from './token-issuer-schema.js';

/* TrustDomain, WorkloadIdentity, ClusterWorkloadIdentity and FederatedTrustDomain. */

const anyKeyType: Readonly<Record<KeyTypeName, true>> = {
  'ec-p256': true,
  'ec-p384': true,
  'rsa-2048': true,
  'rsa-4096': true,
  ed25519: true,
};
const jwtKeyType: Readonly<Record<Exclude<KeyTypeName, 'ed25519'>, true>> = {
  'ec-p256': true,
  'ec-p384': true,
  'rsa-2048': true,
  'rsa-4096': true,
};

function notLongerThanAuthority(field: 'x509Svid' | 'jwtSvid'): CelRule {
  return {
    rule: `!has(self.${field}) || !has(self.authority) || duration(self.${field}) <= duration(self.authority)`,
    message: `${field} is longer than authority: no SVID outlives the authority that signed it`,
    fix: `make authority longer or ${field} shorter`,
  };
}

const ttls = objectSchema<NonNullable<TrustDomainSpec['ttls']>>(
  'Lifetimes.',
  {
    authority: optional(duration('Lifetime of an authority.', { default: '24h' })),
    x509Svid: optional(
      duration(
        'Lifetime of an X.509-SVID that its identity says nothing of; 1h, or a sixth of authority if less.',
      ),
    ),
    jwtSvid: optional(
      duration(
        'Lifetime of a JWT-SVID that its identity says nothing of; 5m, or a sixth of authority if less.',
      ),
    ),
  },
  { rules: [notLongerThanAuthority('x509Svid'), notLongerThanAuthority('jwtSvid')] },
);

export const trustDomainSpec = objectSchema<TrustDomainSpec>(
  'The trust domain of this installation.',
  {
    name: trustDomainName('Name of the trust domain, the first part of every SPIFFE ID.'),
    keyTypes: optional(
      objectSchema<NonNullable<TrustDomainSpec['keyTypes']>>('Key types.', {
        x509Authority: optional(oneOf<KeyTypeName>('Of authorities that sign X.509-SVIDs.', anyKeyType)),
        jwtAuthority: optional(
          oneOf<Exclude<KeyTypeName, 'ed25519'>>('Of authorities that sign JWT-SVIDs.', jwtKeyType),
        ),
        workload: optional(oneOf<KeyTypeName>('Of the keys that agents make for workloads.', anyKeyType)),
      }),
    ),
    ttls: optional(ttls),
    jwtIssuer: optional(
      text('Issuer (iss) of JWT-SVIDs; an https URL where OIDC discovery is to work.', {
        minLength: 1,
        maxLength: 2048,
        pattern: '^[^\\s]+$',
        form: 'write a URL such as "https://oidc.example.org"',
      }),
    ),
    upstreamAuthority: optional(
      objectSchema<NonNullable<TrustDomainSpec['upstreamAuthority']>>(
        'Who signs our X.509 authorities; they sign themselves unless said.',
        {
          disk: optional(
            objectSchema<NonNullable<NonNullable<TrustDomainSpec['upstreamAuthority']>['disk']>>(
              'A root or intermediate authority in PEM files.',
              {
                certificateFile: filePath('The certificate, with its chain.'),
                keyFile: filePath('Its private key.'),
                rootsFile: optional(filePath('The roots to publish; the last of the chain unless said.')),
              },
            ),
          ),
        },
        { rules: [atLeastOneOf(['disk'])] },
      ),
    ),
    keyEncryption: optional(keyEncryption),
    defaultAction: optional(
      oneOf<'Allow' | 'Deny'>(
        'What a request gets that no policy speaks of.',
        { Allow: true, Deny: true },
        { default: 'Deny' },
      ),
    ),
    tokenIssuers: optional(
      list('Issuers of end-user tokens; no condition on a token holds without.', tokenIssuer, {
        minItems: 1,
        maxItems: 16,
      }),
    ),
    meshes: optional(
      names('Meshes to render policies for; those that the cluster has unless said.', mesh(), 16),
    ),
    meshOptions: optional(meshOptions),
  },
  {
    rules: [
      {
        rule: 'self.name == oldSelf.name',
        message: 'the name of a trust domain cannot be changed: every SPIFFE ID holds it',
        fix: 'delete this TrustDomain and make another',
      },
    ],
  },
);

function mesh(): Schema<string> {
  return text('A mesh.', {
    minLength: 1,
    maxLength: 63,
    pattern: '^[a-z][a-z0-9-]*$',
    form: 'write a name such as "istio", "envoy", "linkerd", "cilium", "kuma", "networkpolicy"',
  });
}

const authority = objectSchema<AuthorityStatus>('An authority.', {
  id: text('Its subject key id or key id.', { maxLength: 256 }),
  kind: oneOf<AuthorityStatus['kind']>('What it signs.', { X509: true, JWT: true }),
  slot: oneOf<AuthorityStatus['slot']>('Its place in the rotation.', {
    Prepared: true,
    Active: true,
    Old: true,
  }),
  notBefore: writtenTime('Since when it is valid.'),
  notAfter: writtenTime('Until when it is valid.'),
  tainted: flag('Nothing new is signed by it, and what it signed is replaced.'),
  revoked: flag('It is out of the bundle.'),
});

export const trustDomainStatus = objectSchema<TrustDomainStatus>('What has become of it.', {
  conditions: optional(conditions),
  authorities: optional(list('The authorities.', authority, { maxItems: 64 })),
  bundleSequence: optional(count('Sequence number of the published bundle.')),
  request: optional(
    objectSchema<AuthorityRequestStatus>('The last request by annotation signet.dev/ca-request.', {
      nonce: line('Its nonce.', 64),
      action: line('What was asked.', 32),
      outcome: oneOf<AuthorityRequestStatus['outcome']>('What has become of it.', {
        ...{ Running: true, Succeeded: true, Failed: true },
      }),
      message: line('What was done, or why not.', 1024),
      time: writtenTime('When.'),
    }),
  ),
  servedBy: optional(line('The installation that owns the cluster: its Lease, namespace/name.', 320)),
  contender: optional(line('Another one, that asks whether the owner is there.', 320)),
});

export const requirements = objectSchema<IdentityRequirements>('What a pod must be like.', {
  imageDigests: optional(flag('Every image must be named by digest.')),
  allowedImages: optional(
    names(
      'Every image must start with one of these, up to a "/", ":" or "@".',
      line('An image or registry.', 512),
    ),
  ),
  noPrivileged: optional(flag('No container may be privileged.')),
});

const identityFields: Fields<IdentityTemplate> = {
  spiffeIDTemplate: optional(
    text(
      'The SPIFFE ID, as a template over the pod, or its path alone; /ns/<namespace>/sa/<service account> unless said.',
      {
        minLength: 1,
        maxLength: 2048,
        pattern: '^(spiffe://|/)',
        form: 'begin with "spiffe://" or "/"',
      },
    ),
  ),
  x509TTL: optional(duration('Lifetime of the X.509-SVIDs; that of the trust domain unless said.')),
  jwtTTL: optional(duration('Lifetime of the JWT-SVIDs; that of the trust domain unless said.')),
  dnsNameTemplates: optional(
    names(
      'DNS names in the X.509-SVID, as templates like the SPIFFE ID; the first is its common name too. Those of a WorkloadIdentity end in .<its namespace>.svc or .<its namespace>.svc.cluster.local.',
      line('A DNS name, or a template for one.', 512),
      32,
    ),
  ),
  hint: optional(line("The operator's name for this identity; unique for each workload.", 256)),
  federatesWith: optional(
    names('Foreign trust domains whose bundles the workload gets.', trustDomainName('A trust domain.')),
  ),
  audiences: optional(
    names('Audiences of JWT-SVIDs that may be asked for; any unless said.', line('An audience.', 512)),
  ),
  containerSelector: optional(containerSelector),
  requirements: optional(requirements),
  secrets: optional(
    list(
      'Secrets delivered to whoever holds the identity.',
      objectSchema<NonNullable<IdentityTemplate['secrets']>[number]>('A secret.', {
        name: dnsSubdomain('The name under which the workload gets it.'),
        secretRef: objectSchema<{ readonly name: string }>('The Secret of the same namespace.', {
          name: dnsSubdomain('Its name.'),
        }),
      }),
      { minItems: 1, maxItems: 32, unique: { key: 'name' } },
    ),
  ),
};

const serviceAccountNames = names(
  'Names of service accounts; every one unless said.',
  dnsSubdomain('The name of a service account.'),
);

export const workloadIdentitySpec = objectSchema<WorkloadIdentitySpec>(
  'Which pods of this namespace get which SPIFFE ID.',
  {
    podSelector: optional(labelSelector('Which pods, by label; every pod of the namespace unless said.')),
    serviceAccountNames: optional(serviceAccountNames),
    ...identityFields,
  },
);

export const clusterWorkloadIdentitySpec = objectSchema<ClusterWorkloadIdentitySpec>(
  'Which pods of the cluster, or which processes outside it, get which SPIFFE ID.',
  {
    namespaceSelector: optional(labelSelector('Which namespaces, by label; every one unless said.')),
    podSelector: optional(labelSelector('Which pods, by label; every one unless said.')),
    serviceAccountNames: optional(serviceAccountNames),
    fallback: optional(flag('Only for pods that no other identity selects.', { default: false })),
    staticPods: optional(
      flag(
        'Static pods, and no others: those that a node runs from its own files. Given on the shared socket of the node alone.',
        { default: false },
      ),
    ),
    processSelector: optional(processSelector),
    ...identityFields,
  },
  {
    rules: [
      {
        rule: '!has(self.processSelector) || !(has(self.namespaceSelector) || has(self.podSelector) || has(self.containerSelector) || has(self.serviceAccountNames) || (has(self.fallback) && self.fallback) || (has(self.staticPods) && self.staticPods))',
        message: 'processSelector is for processes outside Kubernetes and goes with no selector of pods',
        fix: 'write two ClusterWorkloadIdentities',
      },
      {
        rule: '!has(self.processSelector) || has(self.spiffeIDTemplate)',
        message: 'a process has no namespace or service account to make a SPIFFE ID of',
        fix: 'write spiffeIDTemplate, such as "/host/backup"',
      },
      {
        rule: '!has(self.staticPods) || !self.staticPods || (has(self.spiffeIDTemplate) && !has(self.serviceAccountNames))',
        message: 'a static pod has no service account to be selected by or to make a SPIFFE ID of',
        fix: 'write spiffeIDTemplate, such as "/node/{{ .NodeName }}/etcd", and no serviceAccountNames',
      },
    ],
  },
);

export const identityStatus = objectSchema<IdentityStatus>('What has become of it.', {
  conditions: optional(conditions),
  podsSelected: optional(count('How many pods or processes it selects.')),
  svidsIssued: optional(count('How many of them have an SVID.')),
  nextExpiry: optional(writtenTime('When the first of these SVIDs ends, unless it is renewed.')),
  failures: optional(
    list(
      'Pods that have no identity by it, and why.',
      objectSchema<NonNullable<IdentityStatus['failures']>[number]>('A failure.', {
        pod: text('The pod.', { maxLength: 512 }),
        reason: text('Why, in one word.', { maxLength: 256 }),
        message: text('Why, for people.', { maxLength: 4096 }),
      }),
      { maxItems: 100 },
    ),
  ),
});

export const federatedTrustDomainSpec = objectSchema<FederatedTrustDomainSpec>(
  'A foreign trust domain that is trusted to name its own workloads.',
  {
    trustDomain: trustDomainName('Its name.'),
    bundleEndpoint: optional(
      objectSchema<NonNullable<FederatedTrustDomainSpec['bundleEndpoint']>>(
        'Where its bundle is fetched from.',
        {
          url: text('https URL of the bundle.', {
            maxLength: 2048,
            pattern: '^https://[^\\s@/?#]+(/[^\\s]*)?$',
            form: 'write an https URL without user info: "https://spiffe.partner.example/bundle"',
          }),
          profile: oneOf<'https_web' | 'https_spiffe'>(
            'How the endpoint proves who it is (SPIFFE federation).',
            {
              https_web: true,
              https_spiffe: true,
            },
          ),
          endpointSPIFFEID: optional(spiffeID('The SPIFFE ID of the endpoint, for https_spiffe.')),
        },
        {
          rules: [
            {
              rule: "has(self.endpointSPIFFEID) == (self.profile == 'https_spiffe')",
              message: 'endpointSPIFFEID is needed for https_spiffe and goes with nothing else',
            },
          ],
        },
      ),
    ),
    bundle: optional(
      text('A SPIFFE bundle document (JWKS): the first bundle, or the only one where there is no endpoint.', {
        minLength: 2,
        maxLength: 1_048_576,
      }),
    ),
  },
  {
    rules: [
      atLeastOneOf(['bundleEndpoint', 'bundle']),
      {
        rule: "!has(self.bundleEndpoint) || self.bundleEndpoint.profile != 'https_spiffe' || has(self.bundle) || !self.bundleEndpoint.endpointSPIFFEID.startsWith('spiffe://' + self.trustDomain + '/')",
        message:
          'an https_spiffe endpoint inside its own trust domain needs a first bundle to be checked with',
        fix: 'write bundle',
      },
    ],
  },
);

export const federatedTrustDomainStatus = objectSchema<FederatedTrustDomainStatus>('What has become of it.', {
  conditions: optional(conditions),
  lastRefresh: optional(writtenTime('When the bundle was last fetched.')),
  sequence: optional(count('Sequence number of the bundle that is in use.')),
});
