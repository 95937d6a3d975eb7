import { didYouMean } from '../lib/did-you-mean.js';
import { formatDuration, parseDuration } from '../lib/duration.js';
import type { FederatedTrustDomainSpec, IdentityTemplate, TrustDomainSpec } from './identity.js';
import { error, quote, warning } from './names.js';
import { policyReferenceProblems, roleProblems } from './policy-references.js';
import type { Problem } from './problem.js';

/** An object as far as rules between objects need it. */
export interface AnyObject {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec?: unknown;
}

/** A problem of one object that others are part of. */
export interface ObjectProblem {
  readonly object: AnyObject;
  readonly problem: Problem;
}

const DEFAULT_AUTHORITY_TTL = '24h';

/**
 * What is wrong between objects that are each right by themselves, such as a lifetime longer than its authority's. They
 * stay in force: which of two is wrong is the reader's to say, and everything that depends on it fails closed.
 */
export function validateTogether(objects: readonly AnyObject[]): ObjectProblem[] {
  const byKind = Map.groupBy(objects, ({ kind }) => kind);
  const of = (kind: string): readonly AnyObject[] => byKind.get(kind) ?? [];
  const trustDomains = [...of('TrustDomain')].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const trustDomain = trustDomains[0]?.spec as TrustDomainSpec | undefined;
  const identities = [...of('WorkloadIdentity'), ...of('ClusterWorkloadIdentity')];
  return [
    ...secondTrustDomains(trustDomains),
    ...federationProblems(of('FederatedTrustDomain'), trustDomain),
    ...identities.flatMap((object) => identityProblems(object, trustDomain, of('FederatedTrustDomain'))),
    ...roleProblems(of('AccessRole')),
    ...policyReferenceProblems(
      [...of('AccessPolicy'), ...of('ClusterAccessPolicy'), ...of('AccessRequest')],
      identities,
      of('AccessRole'),
    ),
  ];
}

function secondTrustDomains([first, ...others]: readonly AnyObject[]): ObjectProblem[] {
  if (first === undefined) return [];
  const message = `there is one TrustDomain in an installation, and "${first.metadata.name}" is there already`;
  return others.map((object) => ({
    object,
    problem: error(['metadata', 'name'], message, 'remove one of them'),
  }));
}

function federationProblems(
  federated: readonly AnyObject[],
  own: TrustDomainSpec | undefined,
): ObjectProblem[] {
  const owners = new Map<string, string>();
  const path = ['spec', 'trustDomain'];
  return [...federated]
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    .flatMap((object) => {
      const { trustDomain } = object.spec as FederatedTrustDomainSpec;
      if (trustDomain === own?.name) {
        return [
          {
            object,
            problem: error(path, `${quote(trustDomain)} is the own trust domain and not a foreign one`),
          },
        ];
      }
      const owner = owners.get(trustDomain);
      if (owner !== undefined) {
        const message = `${quote(trustDomain)} is described by FederatedTrustDomain ${owner} already`;
        return [{ object, problem: error(path, message, 'remove one of the two') }];
      }
      owners.set(trustDomain, object.metadata.name);
      return [];
    });
}

function identityProblems(
  object: AnyObject,
  trustDomain: TrustDomainSpec | undefined,
  federated: readonly AnyObject[],
): ObjectProblem[] {
  const spec = object.spec as IdentityTemplate;
  const problems = [
    ...ttlProblems('x509TTL', spec.x509TTL, trustDomain),
    ...ttlProblems('jwtTTL', spec.jwtTTL, trustDomain),
    ...foreignIdProblems(spec.spiffeIDTemplate, trustDomain),
    ...federatesWithProblems(spec.federatesWith ?? [], federated),
  ];
  return problems.map((problem) => ({ object, problem }));
}

function ttlProblems(
  field: 'x509TTL' | 'jwtTTL',
  ttl: string | undefined,
  trustDomain: TrustDomainSpec | undefined,
): Problem[] {
  if (ttl === undefined) return [];
  const longest = parseDuration(trustDomain?.ttls?.authority ?? DEFAULT_AUTHORITY_TTL);
  if (parseDuration(ttl) <= longest) return [];
  const text = formatDuration(longest);
  const message = `${quote(ttl)} is longer than the ${text} that an authority lives (spec.ttls.authority of the TrustDomain)`;
  return [error(['spec', field], message, `write at most ${text}, or make the authority's lifetime longer`)];
}

/** A template that names another trust domain in so many letters can never be signed. */
function foreignIdProblems(
  template: string | undefined,
  trustDomain: TrustDomainSpec | undefined,
): Problem[] {
  const written = /^spiffe:\/\/([a-z0-9._-]+)(?:\/|$)/.exec(template ?? '')?.[1];
  if (written === undefined || trustDomain === undefined || written === trustDomain.name) return [];
  return [
    error(
      ['spec', 'spiffeIDTemplate'],
      `the trust domain here is ${quote(trustDomain.name)}; nobody can sign for ${quote(written)}`,
      'begin with "spiffe://{{ .TrustDomain }}/" or with "/"',
    ),
  ];
}

function federatesWithProblems(names: readonly string[], federated: readonly AnyObject[]): Problem[] {
  const known = new Set(federated.map(({ spec }) => (spec as FederatedTrustDomainSpec).trustDomain));
  return names.flatMap((name, index) => {
    if (known.has(name)) return [];
    const near = didYouMean(name, known);
    const fix = near === undefined ? 'add a FederatedTrustDomain' : `did you mean ${near}?`;
    return [
      warning(
        ['spec', 'federatesWith', index],
        `no FederatedTrustDomain describes ${quote(name)}: no bundle is given`,
        fix,
      ),
    ];
  });
}
