import { exportPkcs8, generateKeyPair } from '../../src/identity/pki/keys.js';
import { encodePem } from '../../src/identity/pki/pem.js';
import { verifyX509Svid } from '../../src/identity/pki/svid.js';
import type { Clock } from '../../src/lib/clock.js';
import { WatchedValue } from '../../src/lib/watched.js';
import type { TlsIdentity, TlsSvid, VerifiedPeer } from '../../src/rpc/tls/identity.js';
import { makeCertificate, type CertificateSpec, type TestCertificate } from './certificates.js';

const HOUR = 3_600_000;

/** An authority that signs whatever it is asked for, on the clock of a test. */
export class AnyAuthority {
  readonly trustDomain: string;
  readonly certificate: TestCertificate;
  readonly #clock: Clock;
  #serial = 1;

  private constructor(trustDomain: string, certificate: TestCertificate, clock: Clock) {
    this.trustDomain = trustDomain;
    this.certificate = certificate;
    this.#clock = clock;
  }

  static async create(trustDomain: string, clock: Clock): Promise<AnyAuthority> {
    const now = clock.now();
    const certificate = makeCertificate({
      subject: `authority of ${trustDomain}`,
      pair: await generateKeyPair('ec-p256'),
      ca: true,
      uris: [`spiffe://${trustDomain}`],
      notBefore: now - HOUR,
      notAfter: now + 1000 * HOUR,
    });
    return new AnyAuthority(trustDomain, certificate, clock);
  }

  /** A leaf for one hour; `more` may make it wrong in any way. */
  async issue(uri: string, more: Partial<CertificateSpec> = {}): Promise<TlsSvid> {
    const now = this.#clock.now();
    const notAfter = more.notAfter ?? now + HOUR;
    const pair = await generateKeyPair('ec-p256');
    const { der } = makeCertificate({
      ...{ subject: 'leaf', pair, issuer: this.certificate, uris: [uri], serial: ++this.#serial },
      ...{ notBefore: now - 60_000, ...more, notAfter },
    });
    return {
      cert: encodePem('CERTIFICATE', der),
      key: encodePem('PRIVATE KEY', exportPkcs8(pair.privateKey)),
      notAfter,
    };
  }
}

/** An identity that a test changes while it is in use; it verifies by the rules of the product. */
export class TestTlsIdentity implements TlsIdentity {
  readonly svid: WatchedValue<TlsSvid | undefined>;
  readonly #clock: Clock;
  readonly #listeners = new Set<() => void>();
  #authorities: readonly AnyAuthority[];

  constructor(clock: Clock, svid: TlsSvid | undefined, authorities: readonly AnyAuthority[]) {
    this.#clock = clock;
    this.svid = new WatchedValue(svid);
    this.#authorities = authorities;
  }

  /** Every trust domain has the authorities that name it. */
  trust(authorities: readonly AnyAuthority[]): void {
    this.#authorities = authorities;
    for (const listener of this.#listeners) listener();
  }

  verifyPeer(chain: readonly Uint8Array[]): VerifiedPeer {
    const { id, leaf } = verifyX509Svid({
      chain,
      bundles: (trustDomain) => {
        const known = this.#authorities.filter((authority) => authority.trustDomain === trustDomain);
        if (known.length === 0) return undefined;
        const x509Authorities = known.map(({ certificate }) => certificate.der);
        return { trustDomain, x509Authorities, jwtAuthorities: [], sequence: 1 };
      },
      now: this.#clock.now(),
    });
    return { spiffeId: id, serial: leaf.serial, notAfter: leaf.notAfter };
  }

  onTrustChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** How many follow the bundles; for tests of leaks. */
  get followers(): number {
    return this.#listeners.size + this.svid.watchers;
  }
}
