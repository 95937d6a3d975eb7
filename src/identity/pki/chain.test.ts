import { beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { TestCertificate } from '../../../test/support/certificates.js';
import {
  ipName,
  makeCertificate,
  nameConstraintsExtension,
  NOON,
  openssl,
  unknownExtension,
} from '../../../test/support/certificates.js';
import { verifyChain } from './chain.js';
import { PkiError } from './errors.js';
import { dnsName, uriName } from './general-names.js';
import type { KeyPair } from './keys.js';
import { generateKeyPair } from './keys.js';
import { encodePem } from './pem.js';

const HOUR = 3_600_000;
const WORKLOAD = 'spiffe://example.org/workload';

/** `ok`, or the code of the PkiError. */
function verdict(chain: readonly Uint8Array[], roots: readonly Uint8Array[], now = NOON): string {
  try {
    verifyChain({ chain, roots, now });
    return 'ok';
  } catch (error) {
    if (error instanceof PkiError) return error.code;
    throw error;
  }
}

/** What openssl says of the same chain at the same time. */
function opensslAccepts(chain: readonly Uint8Array[], root: Uint8Array, now = NOON): boolean {
  const [leaf = new Uint8Array(), ...helpers] = chain;
  const pem = (list: readonly Uint8Array[]): string =>
    list.map((der) => encodePem('CERTIFICATE', der)).join('');
  const untrusted = helpers.length === 0 ? [] : ['-untrusted', 'helpers.pem'];
  try {
    openssl(
      [
        'verify',
        '-x509_strict',
        '-attime',
        String(Math.floor(now / 1000)),
        '-CAfile',
        'root.pem',
        ...untrusted,
        'leaf.pem',
      ],
      { 'leaf.pem': pem([leaf]), 'helpers.pem': pem(helpers), 'root.pem': pem([root]) },
    );
    return true;
  } catch {
    return false;
  }
}

describe('verifyChain (RFC 5280 §6.1)', () => {
  let keys: KeyPair[];
  let root: TestCertificate;
  let middle: TestCertificate;
  let leaf: TestCertificate;
  const key = (index: number): KeyPair => {
    const pair = keys[index];
    if (pair === undefined) throw new Error('no such key');
    return pair;
  };

  beforeAll(async () => {
    keys = await Promise.all(Array.from({ length: 8 }, () => generateKeyPair('ec-p256')));
    root = makeCertificate({ subject: 'root', pair: key(0), ca: true });
    middle = makeCertificate({ subject: 'middle', pair: key(1), issuer: root, ca: true });
    leaf = makeCertificate({ subject: 'leaf', pair: key(2), issuer: middle, uris: [WORKLOAD] });
  });

  it('finds the path from the leaf to the root', () => {
    const { path, leaf: found } = verifyChain({
      chain: [leaf.der, middle.der],
      roots: [root.der],
      now: NOON,
    });
    expect(path.map(({ subjectText }) => subjectText)).toEqual(['CN=leaf', 'CN=middle', 'CN=root']);
    expect(found.uris).toEqual([WORKLOAD]);
  });

  it('accepts helpers in any order, doubled, useless, and the root among them', () => {
    const second = makeCertificate({ subject: 'second', pair: key(3), issuer: middle, ca: true });
    const below = makeCertificate({ subject: 'below', pair: key(4), issuer: second });
    const stranger = makeCertificate({ subject: 'stranger', pair: key(5), ca: true });
    const chain = [below.der, stranger.der, root.der, middle.der, middle.der, second.der];
    expect(verdict(chain, [stranger.der, root.der])).toBe('ok');
  });

  it('accepts an intermediate as trust anchor', () => {
    expect(verdict([leaf.der], [middle.der])).toBe('ok');
  });

  it('tries each root of the same name and key ID hint', () => {
    const twin = makeCertificate({ subject: 'middle', pair: key(6), ca: true });
    expect(verdict([leaf.der], [twin.der, middle.der])).toBe('ok');
  });

  it.each(['ec-p384', 'ed25519', 'rsa-2048'] as const)('accepts authorities of type %s', async (type) => {
    const pair = await generateKeyPair(type);
    const authority = makeCertificate({ subject: 'authority', pair, ca: true });
    const below = makeCertificate({ subject: 'below', pair: key(2), issuer: authority });
    expect(verdict([below.der], [authority.der])).toBe('ok');
    expect(opensslAccepts([below.der], authority.der)).toBe(true);
  });

  it('refuses an empty chain, a long one, and bytes that are no certificate', () => {
    expect(verdict([], [root.der])).toBe('ChainEmpty');
    expect(
      verdict(
        Array.from({ length: 17 }, () => leaf.der),
        [root.der],
      ),
    ).toBe('ChainTooLong');
    expect(verdict([Uint8Array.of(1, 2)], [root.der])).toBe('CertificateInvalid');
    expect(verdict([leaf.der, Uint8Array.of(1, 2)], [root.der])).toBe('CertificateInvalid');
  });

  it('refuses a path to no root', () => {
    const stranger = makeCertificate({ subject: 'stranger', pair: key(5), ca: true });
    expect(verdict([leaf.der, middle.der], [])).toBe('ChainUntrusted');
    expect(verdict([leaf.der, middle.der], [stranger.der])).toBe('ChainUntrusted');
    expect(verdict([leaf.der], [root.der])).toBe('ChainUntrusted');
    expect(verdict([root.der], [stranger.der])).toBe('ChainUntrusted');
  });

  it('refuses a root of the right name with another key', () => {
    const impostor = makeCertificate({ subject: 'root', pair: key(5), ca: true });
    expect(verdict([leaf.der, middle.der], [impostor.der])).not.toBe('ok');
  });

  it('refuses a signature by another key', () => {
    const forged = makeCertificate({ subject: 'leaf', pair: key(2), issuer: middle, signedBy: key(5) });
    expect(verdict([forged.der, middle.der], [root.der])).toBe('ChainSignature');
  });

  it.each([
    ['the leaf', 'leaf'],
    ['an intermediate', 'middle'],
    ['the root', 'root'],
  ])('refuses when %s is outside its validity', (_, which) => {
    const short = { notBefore: NOON - 1000, notAfter: NOON + 1000 };
    const bounds = (name: string) => (name === which ? short : {});
    const top = makeCertificate({ subject: 'top', pair: key(0), ca: true, ...bounds('root') });
    const mid = makeCertificate({ subject: 'mid', pair: key(1), issuer: top, ca: true, ...bounds('middle') });
    const end = makeCertificate({ subject: 'end', pair: key(2), issuer: mid, ...bounds('leaf') });
    const at = (now: number) => verdict([end.der, mid.der], [top.der], now);
    expect([at(NOON - 1001), at(NOON - 1000), at(NOON + 1999), at(NOON + 2000)]).toEqual([
      'ChainNotYetValid',
      'ok',
      'ok',
      'ChainExpired',
    ]);
  });

  it('refuses an issuer that is no CA', () => {
    const below = makeCertificate({ subject: 'below', pair: key(3), issuer: leaf });
    expect(verdict([below.der, leaf.der, middle.der], [root.der])).toBe('ChainNotCa');
    expect(verdict([below.der], [leaf.der])).toBe('ChainNotCa');
  });

  it('refuses an issuer without keyCertSign', () => {
    const weak = makeCertificate({
      subject: 'weak',
      pair: key(3),
      issuer: root,
      ca: true,
      keyUsage: ['cRLSign'],
    });
    const below = makeCertificate({ subject: 'below', pair: key(4), issuer: weak });
    expect(verdict([below.der, weak.der], [root.der])).toBe('ChainNotCa');
  });

  it.each([
    [0, 0, 'ok'],
    [0, 1, 'ChainPathLength'],
    [1, 1, 'ok'],
    [1, 2, 'ChainPathLength'],
  ])('counts CAs below a path length of %d: %d is %s', (pathLength, between, expected) => {
    const top = makeCertificate({ subject: 'top', pair: key(0), ca: true, pathLength });
    const chain: TestCertificate[] = [top];
    for (let i = 0; i < between; i++) {
      chain.unshift(
        makeCertificate({ subject: `ca${i}`, pair: key(i + 1), issuer: chain[0] ?? top, ca: true }),
      );
    }
    const end = makeCertificate({ subject: 'end', pair: key(7), issuer: chain[0] ?? top });
    const sent = [end, ...chain.slice(0, -1)].map(({ der }) => der);
    expect(verdict(sent, [top.der])).toBe(expected);
    expect(opensslAccepts(sent, top.der)).toBe(expected === 'ok');
  });

  it.each(['leaf', 'middle', 'root'])('refuses an unknown critical extension in the %s', (which) => {
    const extra = (name: string) => (name === which ? { extra: [unknownExtension()] } : {});
    const top = makeCertificate({ subject: 'top', pair: key(0), ca: true, ...extra('root') });
    const mid = makeCertificate({ subject: 'mid', pair: key(1), issuer: top, ca: true, ...extra('middle') });
    const end = makeCertificate({ subject: 'end', pair: key(2), issuer: mid, ...extra('leaf') });
    expect(verdict([end.der, mid.der], [top.der])).toBe('ChainCritical');
  });

  it('ends on loops of CAs that signed each other', () => {
    const a = makeCertificate({
      subject: 'a',
      pair: key(1),
      issuer: makeCertificate({ subject: 'b', pair: key(2) }),
      ca: true,
    });
    const b = makeCertificate({ subject: 'b', pair: key(2), issuer: a, ca: true });
    const below = makeCertificate({ subject: 'below', pair: key(3), issuer: a });
    expect(verdict([below.der, a.der, b.der, a.der, b.der], [root.der])).toBe('ChainUntrusted');
  });

  it('gives up on a thicket of CAs of one name that all signed each other', () => {
    const crowd: TestCertificate[] = [];
    for (const [subject, signer] of [0, 1, 2, 3].flatMap((a) => [0, 1, 2, 3].map((b) => [a, b] as const))) {
      if (subject === signer || crowd.length === 12) continue;
      const issuer = { ...root, name: leaf.name, pair: key(signer) };
      crowd.push(makeCertificate({ subject: 'leaf', pair: key(subject), issuer, ca: true }));
    }
    // Leads out of the thicket to a name that nobody has, so every way through it has to be tried.
    const below = makeCertificate({ subject: 'below', pair: key(7), issuer: { ...leaf, pair: key(0) } });
    const chain = [below, ...crowd].map(({ der }) => der);
    expect(['ChainTooLong', 'ChainUntrusted']).toContain(verdict(chain, [root.der]));
  });

  describe('name constraints (RFC 5280 §4.2.1.10)', () => {
    const U = (text: string) => uriName(text);
    const D = (text: string) => dnsName(text);
    interface Case {
      permitted?: Uint8Array[];
      excluded?: Uint8Array[];
      uris?: string[];
      dnsNames?: string[];
    }
    it.each<[string, Case, boolean]>([
      ['a permitted trust domain', { permitted: [U('example.org')], uris: [WORKLOAD] }, true],
      ['another trust domain', { permitted: [U('example.com')], uris: [WORKLOAD] }, false],
      ['one of several', { permitted: [U('example.com'), U('example.org')], uris: [WORKLOAD] }, true],
      ['a trust domain below', { permitted: [U('example.org')], uris: ['spiffe://a.example.org/x'] }, false],
      [
        'a trust domain below a dotted one',
        { permitted: [U('.example.org')], uris: ['spiffe://a.example.org/x'] },
        true,
      ],
      ['the dotted one itself', { permitted: [U('.example.org')], uris: [WORKLOAD] }, false],
      [
        'a longer name that ends alike',
        { permitted: [U('.example.org')], uris: ['spiffe://badexample.org/x'] },
        false,
      ],
      ['an excluded trust domain', { excluded: [U('example.org')], uris: [WORKLOAD] }, false],
      ['one that is not excluded', { excluded: [U('example.com')], uris: [WORKLOAD] }, true],
      [
        'excluded wins over permitted',
        { permitted: [U('example.org')], excluded: [U('example.org')], uris: [WORKLOAD] },
        false,
      ],
      ['constraints on DNS only', { permitted: [D('example.com')], uris: [WORKLOAD] }, true],
      ['a permitted DNS name', { permitted: [D('example.org')], dnsNames: ['example.org'] }, true],
      ['a DNS name below', { permitted: [D('example.org')], dnsNames: ['a.b.example.org'] }, true],
      ['a DNS name that ends alike', { permitted: [D('example.org')], dnsNames: ['badexample.org'] }, false],
      [
        'one DNS name of two',
        { permitted: [D('example.org')], dnsNames: ['example.org', 'example.com'] },
        false,
      ],
      ['an excluded DNS name', { excluded: [D('example.org')], dnsNames: ['a.example.org'] }, false],
      ['another DNS name', { excluded: [D('example.org')], dnsNames: ['example.com'] }, true],
      ['upper case', { permitted: [D('EXAMPLE.org')], dnsNames: ['a.example.org'] }, true],
      [
        'IP constraints where there is no IP',
        { permitted: [ipName([10, 0, 0, 0, 255, 0, 0, 0])], dnsNames: ['a.example.org'] },
        true,
      ],
    ])('%s', (_, { permitted = [], excluded = [], uris = [], dnsNames = [] }, accepted) => {
      const extra = [nameConstraintsExtension({ permitted, excluded })];
      const bound = makeCertificate({ subject: 'bound', pair: key(1), issuer: root, ca: true, extra });
      const end = makeCertificate({ subject: 'end', pair: key(2), issuer: bound, uris, dnsNames });
      expect(verdict([end.der, bound.der], [root.der])).toBe(accepted ? 'ok' : 'ChainNameConstraint');
      expect(opensslAccepts([end.der, bound.der], root.der)).toBe(accepted);
    });

    it('refuses a URI whose host cannot be told, where hosts are constrained', () => {
      const extra = [nameConstraintsExtension({ permitted: [U('example.org')] })];
      const bound = makeCertificate({ subject: 'bound', pair: key(1), issuer: root, ca: true, extra });
      for (const uri of ['urn:uuid:1', 'spiffe://10.0.0.1/x', 'http://[::1]/']) {
        const end = makeCertificate({ subject: 'end', pair: key(2), issuer: bound, uris: [uri] });
        expect(verdict([end.der, bound.der], [root.der])).toBe('ChainNameConstraint');
      }
    });

    it('refuses a wildcard that an excluded name would hide behind', () => {
      const extra = [nameConstraintsExtension({ excluded: [D('secret.example.org')] })];
      const bound = makeCertificate({ subject: 'bound', pair: key(1), issuer: root, ca: true, extra });
      const end = makeCertificate({
        subject: 'end',
        pair: key(2),
        issuer: bound,
        dnsNames: ['*.example.org'],
      });
      expect(verdict([end.der, bound.der], [root.der])).toBe('ChainNameConstraint');
    });

    it('binds intermediates and roots with constraints alike', () => {
      const extra = [nameConstraintsExtension({ permitted: [U('example.com')] })];
      const top = makeCertificate({ subject: 'top', pair: key(0), ca: true, extra });
      const mid = makeCertificate({ subject: 'mid', pair: key(1), issuer: top, ca: true });
      const end = makeCertificate({ subject: 'end', pair: key(2), issuer: mid, uris: [WORKLOAD] });
      expect(verdict([end.der, mid.der], [top.der])).toBe('ChainNameConstraint');
      const named = makeCertificate({
        subject: 'mid',
        pair: key(1),
        issuer: top,
        ca: true,
        uris: ['spiffe://example.org'],
      });
      const plain = makeCertificate({
        subject: 'end',
        pair: key(2),
        issuer: named,
        uris: ['spiffe://example.com/x'],
      });
      expect(verdict([plain.der, named.der], [top.der])).toBe('ChainNameConstraint');
    });
  });

  it('agrees with openssl on random chains', () => {
    const step = fc.record({
      ca: fc.boolean(),
      usable: fc.boolean(),
      pathLength: fc.option(fc.nat(2), { nil: undefined }),
      constraint: fc.option(fc.constantFrom('example.org', 'example.com', '.org'), { nil: undefined }),
      excluded: fc.boolean(),
      expired: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
      forged: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    });
    // Mostly right, or nearly every chain would fail for its first flaw.
    const good = fc.record({
      ca: fc.constant(true),
      usable: fc.constant(true),
      pathLength: fc.option(fc.nat(2), { nil: undefined }),
      constraint: fc.option(fc.constantFrom('example.org', 'example.com', '.org'), { nil: undefined }),
      excluded: fc.boolean(),
      expired: fc.constant(false),
      forged: fc.constant(false),
    });
    const steps = fc.array(fc.oneof({ weight: 6, arbitrary: good }, { weight: 1, arbitrary: step }), {
      minLength: 1,
      maxLength: 4,
    });
    let accepted = 0;
    let refused = 0;
    fc.assert(
      fc.property(steps, fc.constantFrom(WORKLOAD, 'spiffe://example.com/x'), (list, uri) => {
        const made: TestCertificate[] = [];
        list.forEach((one, index) => {
          const subtree = one.constraint === undefined ? [] : [uriName(one.constraint)];
          const issuer = made[0];
          // Constraints without cA are no valid certificate; openssl says so, too, but for another reason.
          const extra =
            subtree.length === 0 || !one.ca
              ? []
              : [nameConstraintsExtension(one.excluded ? { excluded: subtree } : { permitted: subtree })];
          made.unshift(
            makeCertificate({
              subject: `ca${index}`,
              pair: key(index),
              ...(issuer === undefined ? {} : { issuer }),
              ca: one.ca,
              ...(one.ca && one.pathLength !== undefined ? { pathLength: one.pathLength } : {}),
              keyUsage: one.ca && one.usable ? ['keyCertSign'] : ['digitalSignature'],
              ...(one.expired ? { notAfter: NOON - HOUR / 2 } : {}),
              ...(one.forged && issuer !== undefined ? { signedBy: key(7) } : {}),
              extra,
            }),
          );
        });
        const [issuer] = made;
        const anchor = made.at(-1);
        if (issuer === undefined || anchor === undefined) return;
        const end = makeCertificate({ subject: 'end', pair: key(6), issuer, uris: [uri] });
        const sent = [end, ...made.slice(0, -1)].map(({ der }) => der);
        const ours = verdict(sent, [anchor.der]) === 'ok';
        if (ours) accepted++;
        else refused++;
        expect(ours).toBe(opensslAccepts(sent, anchor.der));
      }),
      { numRuns: 120 },
    );
    // The comparison says something only when both verdicts occur often.
    expect(accepted).toBeGreaterThan(10);
    expect(refused).toBeGreaterThan(10);
  });
});
