import { parseCertificate } from '../../src/identity/pki/certificate.js';
import { createIssuer, issueCa, type Issuer } from '../../src/identity/pki/issue.js';
import {
  exportPkcs8,
  exportSpki,
  generateKeyPair,
  signerOf,
  type Signer,
} from '../../src/identity/pki/keys.js';
import { parseSpiffeId } from '../../src/identity/spiffe/id.js';
import { systemRandom } from '../../src/lib/random.js';

const MINUTE = 60_000;

/** An SVID as bytes, the way that the Workload API sends it. */
export interface TestSvid {
  readonly spiffeId: string;
  readonly chain: Uint8Array;
  readonly key: Uint8Array;
}

/** One X.509 authority of a trust domain: real certificates, valid now unless said otherwise. */
export class TestAuthority {
  readonly certificate: Uint8Array;
  readonly keyId: string;
  readonly #issuer: Issuer;
  readonly #signer: Signer;
  /** Sent after each leaf: this authority, when another one signed it. */
  readonly #below: readonly Uint8Array[];

  private constructor(certificate: Uint8Array, issuer: Issuer, signer: Signer, below: readonly Uint8Array[]) {
    this.certificate = certificate;
    this.keyId = parseCertificate(certificate).subjectKeyId ?? '';
    this.#issuer = issuer;
    this.#signer = signer;
    this.#below = below;
  }

  /** A root, or an intermediate under `parent`. */
  static async create(trustDomain: string, parent?: TestAuthority): Promise<TestAuthority> {
    const pair = await generateKeyPair('ec-p256');
    const signer = signerOf(pair);
    const now = Date.now();
    const der = await issueCa({
      signer: parent === undefined ? signer : parent.#signer,
      ...(parent === undefined ? {} : { issuerCertificate: parseCertificate(parent.certificate) }),
      subjectPublicKey: pair.publicKey,
      trustDomain,
      serial: systemRandom.bytes(16),
      notBefore: now - 60 * MINUTE,
      notAfter: now + 600 * MINUTE,
    });
    return new TestAuthority(
      der,
      createIssuer({ signer, certificate: parseCertificate(der), profile: 'x509-svid' }),
      signer,
      parent === undefined ? [] : [der, ...parent.#below],
    );
  }

  async issue(spiffeId: string, validity: { notBefore?: number; notAfter?: number } = {}): Promise<TestSvid> {
    const pair = await generateKeyPair('ec-p256');
    const now = Date.now();
    const leaf = await this.#issuer.issueSvid({
      publicKeySpki: exportSpki(pair.publicKey),
      spiffeId: parseSpiffeId(spiffeId),
      dnsNames: [],
      serial: systemRandom.bytes(16),
      notBefore: validity.notBefore ?? now - MINUTE,
      notAfter: validity.notAfter ?? now + 60 * MINUTE,
    });
    const chain = Buffer.concat([leaf, ...this.#below]);
    return { spiffeId, chain, key: exportPkcs8(pair.privateKey) };
  }
}
