import { describe, expect, it } from '@jest/globals';
import { formatPath } from './problem.js';
import type { AnyObject } from './validate-together.js';
import { validateTogether } from './validate-together.js';

function object(kind: string, name: string, spec: unknown, namespace?: string): AnyObject {
  return { kind, metadata: { name, ...(namespace === undefined ? {} : { namespace }) }, spec };
}

function said(...objects: AnyObject[]): string[] {
  return validateTogether(objects).map(({ object: { kind, metadata }, problem }) => {
    const { severity, path, message, fix } = problem;
    return `${severity} ${kind} ${metadata.name} ${formatPath(path)}: ${message}${fix === undefined ? '' : `; ${fix}`}`;
  });
}

const trustDomain = object('TrustDomain', 'td', { name: 'example.org' });
const anyone = [{ anyone: true }];

describe('validateTogether', () => {
  it('has nothing to say of what fits', () => {
    expect(
      said(
        trustDomain,
        object('FederatedTrustDomain', 'p', { trustDomain: 'partner.example' }),
        object('WorkloadIdentity', 'web', { x509TTL: '24h', federatesWith: ['partner.example'] }, 'a'),
        object('ClusterWorkloadIdentity', 'ops', { spiffeIDTemplate: 'spiffe://example.org/ops' }),
        object('AccessRole', 'viewer', { permissions: [] }),
        object('AccessRole', 'editor', { includes: ['viewer'] }),
        object(
          'AccessPolicy',
          'p',
          {
            rules: [
              {
                name: 'r',
                from: [{ identities: [{ name: 'web' }, { kind: 'ClusterWorkloadIdentity', name: 'ops' }] }],
                roles: [{ name: 'editor' }],
              },
            ],
          },
          'a',
        ),
      ),
    ).toEqual([]);
  });

  it('knows one trust domain, the first by name', () => {
    expect(
      said(object('TrustDomain', 'b', { name: 'b' }), object('TrustDomain', 'a', { name: 'a' })),
    ).toEqual([
      'error TrustDomain b metadata.name: there is one TrustDomain in an installation, and "a" is there already; remove one of them',
    ]);
  });

  it('lets no lifetime be longer than that of an authority', () => {
    const web = object('WorkloadIdentity', 'web', { x509TTL: '25h', jwtTTL: '2h' }, 'a');
    expect(said(web)).toHaveLength(1);
    expect(said(trustDomain, web)).toEqual([
      'error WorkloadIdentity web spec.x509TTL: "25h" is longer than the 24h that an authority lives (spec.ttls.authority of the TrustDomain); write at most 24h, or make the authority\'s lifetime longer',
    ]);
    expect(said(object('TrustDomain', 'td', { name: 'x', ttls: { authority: '1h' } }), web)).toHaveLength(2);
    expect(said(object('TrustDomain', 'td', { name: 'x', ttls: { authority: '48h' } }), web)).toEqual([]);
  });

  it('finds IDs of a trust domain that is another', () => {
    expect(
      said(
        trustDomain,
        object('ClusterWorkloadIdentity', 'x', { spiffeIDTemplate: 'spiffe://exmple.org/a' }),
      ),
    ).toEqual([
      'error ClusterWorkloadIdentity x spec.spiffeIDTemplate: the trust domain here is "example.org"; nobody can sign for "exmple.org"; begin with "spiffe://{{ .TrustDomain }}/" or with "/"',
    ]);
  });

  it('warns of a bundle that nobody brings', () => {
    expect(
      said(
        object('FederatedTrustDomain', 'p', { trustDomain: 'partner.example' }),
        object('WorkloadIdentity', 'web', { federatesWith: ['partner.exmple', 'zzz'] }, 'a'),
      ),
    ).toEqual([
      'warning WorkloadIdentity web spec.federatesWith[0]: no FederatedTrustDomain describes "partner.exmple": no bundle is given; did you mean partner.example?',
      'warning WorkloadIdentity web spec.federatesWith[1]: no FederatedTrustDomain describes "zzz": no bundle is given; add a FederatedTrustDomain',
    ]);
  });

  it('describes each foreign trust domain once, and the own one never', () => {
    expect(
      said(
        trustDomain,
        object('FederatedTrustDomain', 'b', { trustDomain: 'p' }),
        object('FederatedTrustDomain', 'a', { trustDomain: 'p' }),
        object('FederatedTrustDomain', 'c', { trustDomain: 'example.org' }),
      ),
    ).toEqual([
      'error FederatedTrustDomain b spec.trustDomain: "p" is described by FederatedTrustDomain a already; remove one of the two',
      'error FederatedTrustDomain c spec.trustDomain: "example.org" is the own trust domain and not a foreign one',
    ]);
  });

  it('finds roles that include each other, and says the way round', () => {
    expect(
      said(
        object('AccessRole', 'a', { includes: ['b'] }),
        object('AccessRole', 'b', { includes: ['c'] }),
        object('AccessRole', 'c', { includes: ['a', 'd'] }),
        object('AccessRole', 'self', { includes: ['self'] }),
      ),
    ).toEqual([
      'error AccessRole a spec.includes[0]: the roles include each other in a circle: a → b → c → a; remove one of these',
      'error AccessRole b spec.includes[0]: the roles include each other in a circle: b → c → a → b; remove one of these',
      'error AccessRole c spec.includes[0]: the roles include each other in a circle: c → a → b → c; remove one of these',
      'warning AccessRole c spec.includes[1]: there is no AccessRole "d": it grants nothing; add it, or remove this',
      'error AccessRole self spec.includes[0]: the roles include each other in a circle: self → self; remove one of these',
    ]);
  });

  it('warns of callers and roles that there are not, with what was meant', () => {
    const rule = {
      name: 'r',
      from: [
        { identities: [{ name: 'wbe' }, { namespace: 'b', name: 'web' }] },
        {
          anyAuthenticated: true,
          except: [{ identities: [{ kind: 'ClusterWorkloadIdentity', name: 'opps' }] }],
        },
      ],
      roles: [{ name: 'editr' }],
    };
    const known = [
      object('WorkloadIdentity', 'web', {}, 'a'),
      object('ClusterWorkloadIdentity', 'ops', {}),
      object('AccessRole', 'editor', {}),
    ];
    expect(said(...known, object('AccessPolicy', 'p', { rules: [rule] }, 'a'))).toEqual([
      'warning AccessPolicy p spec.rules[0].from[0].identities[0].name: there is no WorkloadIdentity "wbe" in namespace "a": nobody can be this caller; did you mean web?',
      'warning AccessPolicy p spec.rules[0].from[0].identities[1].name: there is no WorkloadIdentity "web" in namespace "b": nobody can be this caller',
      'warning AccessPolicy p spec.rules[0].from[1].except[0].identities[0].name: there is no ClusterWorkloadIdentity "opps": nobody can be this caller; did you mean ops?',
      'warning AccessPolicy p spec.rules[0].roles[0].name: there is no AccessRole "editr": it grants nothing; did you mean editor?',
    ]);
    expect(said(object('AccessRequest', 'q', { from: anyone, roles: [{ name: 'x' }] }, 'a'))).toEqual([
      'warning AccessRequest q spec.roles[0].name: there is no AccessRole "x": it grants nothing; add it, or remove this',
    ]);
  });
});
