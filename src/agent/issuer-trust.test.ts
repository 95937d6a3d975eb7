import { beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { TestAuthority } from '../../test/support/test-authority.js';
import { parseCertificate, splitCertificates } from '../identity/pki/certificate.js';
import { isTrustedBy } from '../identity/pki/svid.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { IssuerTrust, type IssuedBy } from './issuer-trust.js';
import { ByteSharing } from './svid.js';

/** An SVID as the agent keeps it, and whole. */
interface Issued extends IssuedBy {
  readonly chain: readonly Uint8Array[];
}

const sharing = new ByteSharing();
async function issuedBy(authority: TestAuthority): Promise<Issued> {
  const chain = splitCertificates((await authority.issue('spiffe://td/ns/a/sa/b')).chain);
  const [leaf = new Uint8Array(), ...rest] = chain;
  return {
    chain,
    authorityId: parseCertificate(leaf).authorityKeyId ?? '',
    intermediates: sharing.concat(rest),
  };
}

const bundleOf = (roots: readonly TestAuthority[]): TrustBundle => ({
  trustDomain: 'td',
  x509Authorities: roots.map(({ certificate }) => certificate),
  jwtAuthorities: [],
  sequence: 1,
});

describe('who trusts what an authority signed', () => {
  let roots: readonly TestAuthority[];
  /** By each root, by two authorities below it, and by one below one of these. */
  let issued: readonly Issued[];
  beforeAll(async () => {
    const made = await Promise.all(
      [1, 2, 3].map(async () => {
        const root = await TestAuthority.create('td');
        const below = await Promise.all([1, 2].map(() => TestAuthority.create('td', root)));
        const deeper = await TestAuthority.create('td', below[0]);
        return { root, all: [root, ...below, deeper] };
      }),
    );
    roots = made.map(({ root }) => root);
    issued = await Promise.all(made.flatMap(({ all }) => all).map(issuedBy));
  });

  it('is whoever verifies its chain, with an upstream authority and without, whatever was asked before', () => {
    const now = Date.now();
    fc.assert(
      fc.property(
        fc.array(fc.nat(2), { maxLength: 3 }),
        fc.array(fc.nat(11), { minLength: 1, maxLength: 24 }),
        (kept, asked) => {
          const bundle = bundleOf(kept.flatMap((at) => roots[at] ?? []));
          const trust = new IssuerTrust(bundle);
          for (const at of asked) {
            const one = issued[at];
            if (one === undefined) throw new Error('no such SVID');
            expect(trust.trusts(one, now)).toBe(isTrustedBy(bundle, one.chain, now));
          }
        },
      ),
    );
  });

  it('is verified once for all that the same authority signed', () => {
    const [root] = roots;
    const below = issued[1];
    if (root === undefined || below === undefined) throw new Error('nothing was made');
    const [now, afterItsEnd] = [Date.now(), Date.now() + 1000 * 3_600_000];
    expect(new IssuerTrust(bundleOf([root])).trusts(below, afterItsEnd)).toBe(false);
    const trust = new IssuerTrust(bundleOf([root]));
    expect(trust.trusts(below, now)).toBe(true);
    // What it said first it says again, so it has not looked at any certificate.
    for (let at = 0; at < 100_000; at++)
      if (!trust.trusts({ ...below }, afterItsEnd)) throw new Error('it was verified again');
  });

  it('is nobody where the chain is not that of the authority which the server names', () => {
    const [root] = roots;
    const [, below, other] = issued;
    if (root === undefined || below === undefined || other === undefined) throw new Error('nothing was made');
    const trust = new IssuerTrust(bundleOf([root]));
    expect(trust.trusts({ ...below, authorityId: other.authorityId }, Date.now())).toBe(false);
    expect(trust.trusts({ ...below, intermediates: Uint8Array.of(1, 2, 3) }, Date.now())).toBe(false);
  });
});
