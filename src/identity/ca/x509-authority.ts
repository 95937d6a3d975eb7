import { SignetError } from '../../lib/errors.js';
import type { Random } from '../../lib/random.js';
import type { KeyStore } from '../keys/key-store.js';
import { BACKDATE_MS } from '../pki/backdate.js';
import type { Certificate } from '../pki/certificate.js';
import { parseCertificate } from '../pki/certificate.js';
import { verifyChain } from '../pki/chain.js';
import { createIssuer, issueCa } from '../pki/issue.js';
import type { Signer } from '../pki/keys.js';
import { exportSpki } from '../pki/keys.js';
import type { SpiffeId } from '../spiffe/id.js';
import { spiffeId } from '../spiffe/id.js';
import type { X509Authority } from './authority-set.js';
import { checkTimely } from './authority-set.js';
import type { CaSettings } from './config.js';
import { CaError } from './errors.js';
import type { UpstreamAnswer, UpstreamRequest } from './upstream.js';

const SERIAL_BYTES = 16;
/** Serials that are drawn at once: a draw costs more than its bytes. */
const SERIALS_AT_ONCE = 64;

/** What is to be signed. Everything but the key has been decided by us, not by the caller. */
export interface X509Request {
  /** SubjectPublicKeyInfo, DER, of a key whose possession was proved. */
  readonly spki: Uint8Array;
  readonly spiffeId: SpiffeId;
  readonly dnsNames: readonly string[];
  /** The SVID ends earlier if its authority does. */
  readonly ttlSeconds: number;
}

/** A signed X.509-SVID. */
export interface IssuedX509 {
  /** Leaf first, then intermediates; no root. DER. */
  readonly chain: readonly Uint8Array[];
  /** Milliseconds since the epoch, as in the leaf. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** Lower-case hex, without leading zero bytes. */
  readonly serial: string;
  /** Hex subject key ID of the authority. */
  readonly authorityId: string;
}

/** An X.509 authority with its key at hand. */
export interface X509Signer {
  readonly kind: 'x509';
  readonly authority: X509Authority;
  sign(request: X509Request, now: number): Promise<IssuedX509>;
}

/** What making an authority needs. */
export interface MintOptions {
  readonly trustDomain: string;
  readonly settings: CaSettings;
  readonly keys: KeyStore;
  readonly random: Random;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/**
 * Makes a key and a certificate for it, self-signed or by the upstream authority, and checks the result. The key is in
 * the store when this resolves; nobody knows of the authority yet.
 */
export async function mintX509Authority(options: MintOptions): Promise<X509Authority> {
  const { settings, keys, random, now, trustDomain } = options;
  const name = Buffer.from(random.bytes(8)).toString('hex');
  const keyId = `x509-${name}`;
  const signer = await keys.generate(keyId, settings.keyTypes.x509);
  const request: UpstreamRequest = {
    trustDomain,
    subjectPublicKey: signer.publicKey,
    commonName: `Signet X.509 authority ${name}`,
    serial: serialSource(random, 1)(),
    notBefore: now - BACKDATE_MS,
    notAfter: now + settings.authorityTtlMs,
    now,
  };
  const { upstream } = settings;
  const made = upstream === undefined ? await selfSign(signer, request) : await upstream.sign(request);
  const certificate = checkCertificate(made, exportSpki(signer.publicKey), request);
  const intermediates = upstream === undefined ? [] : [made.certificate, ...made.intermediates];
  await checkByProbe(signer, certificate, { ...made, intermediates }, request);
  return {
    kind: 'x509',
    id: certificate.subjectKeyId ?? '',
    keyId,
    keyType: signer.keyType,
    subject: certificate.subjectText,
    slot: 'prepared',
    published: false,
    tainted: false,
    revoked: false,
    notBefore: certificate.notBefore,
    notAfter: certificate.notAfter,
    certificate: made.certificate,
    intermediates,
    roots: made.roots,
  };
}

async function selfSign(signer: Signer, request: UpstreamRequest): Promise<UpstreamAnswer> {
  const certificate = await issueCa({
    signer,
    subjectPublicKey: signer.publicKey,
    trustDomain: request.trustDomain,
    serial: request.serial,
    notBefore: request.notBefore,
    notAfter: request.notAfter,
    pathLength: 0,
    commonName: request.commonName,
  });
  return { certificate, intermediates: [], roots: [certificate] };
}

/** Whoever made it, a certificate that would not be trusted is found here and not by the first workload. */
function checkCertificate(made: UpstreamAnswer, spki: Uint8Array, request: UpstreamRequest): Certificate {
  const certificate = parseCertificate(made.certificate);
  if (Buffer.compare(certificate.spki, spki) !== 0) fail('its certificate is for another key');
  if ((certificate.subjectKeyId ?? '') === '') fail('its certificate has no subject key ID');
  const uris = certificate.uris.join(' ');
  if (uris !== `spiffe://${request.trustDomain}`)
    fail(`its certificate names "${uris}" instead of its trust domain`);
  if (certificate.notAfter > request.notAfter) fail('its certificate lives longer than was asked for');
  return certificate;
}

/**
 * Signs an SVID that nobody gets and verifies it as a workload would: only with a leaf do the path lengths and name
 * constraints of the upstream's certificates all come to bear.
 */
async function checkByProbe(
  signer: Signer,
  certificate: Certificate,
  chain: Pick<UpstreamAnswer, 'intermediates' | 'roots'>,
  request: UpstreamRequest,
): Promise<void> {
  try {
    const issuer = createIssuer({ signer, certificate, profile: 'x509-svid' });
    const probe = await issuer.issueSvid({
      publicKeySpki: exportSpki(signer.publicKey),
      spiffeId: spiffeId(request.trustDomain, '/signet/self-check'),
      dnsNames: [],
      serial: request.serial,
      notBefore: certificate.notBefore,
      notAfter: certificate.notAfter,
    });
    verifyChain({ chain: [probe, ...chain.intermediates], roots: chain.roots, now: request.now });
  } catch (error) {
    fail(`what it signs does not verify: ${SignetError.from(error).message}`, error);
  }
}

function fail(problem: string, cause?: unknown): never {
  throw new CaError(
    'SelfCheckFailed',
    `the new x509 authority cannot be used: ${problem}`,
    cause === undefined ? undefined : { cause },
  );
}

/** An authority ready to sign with `key`. Throws CaError `AuthorityKeyMismatch` when it is not the certificate's. */
export function x509Signer(authority: X509Authority, key: Signer, random: Random): X509Signer {
  const certificate = parseCertificate(authority.certificate);
  if (Buffer.compare(certificate.spki, exportSpki(key.publicKey)) !== 0) {
    throw new CaError(
      'AuthorityKeyMismatch',
      `key ${authority.keyId} is not the key of x509 authority ${authority.id}; restore the state from one backup`,
    );
  }
  const issuer = createIssuer({ signer: key, certificate, profile: 'x509-svid' });
  const newSerial = serialSource(random, SERIALS_AT_ONCE);
  return {
    kind: 'x509',
    authority,
    async sign(request, now) {
      checkTimely(authority, now);
      const second = Math.floor(now / 1000) * 1000;
      const notBefore = second - BACKDATE_MS;
      const notAfter = Math.min(second + request.ttlSeconds * 1000, authority.notAfter);
      const serial = newSerial();
      const leaf = await issuer.issueSvid({
        publicKeySpki: request.spki,
        spiffeId: request.spiffeId,
        dnsNames: request.dnsNames,
        serial,
        notBefore,
        notAfter,
      });
      return {
        chain: [leaf, ...authority.intermediates],
        notBefore,
        notAfter,
        serial: Buffer.from(serial)
          .toString('hex')
          .replace(/^(00)+/, ''),
        authorityId: authority.id,
      };
    },
  };
}

/**
 * Gives serials of 128 random bits, so that no two certificates share one (RFC 5280 §4.1.2.2 wants positive, at most 20
 * bytes). They are no secrets.
 */
function serialSource(random: Random, atOnce: number): () => Uint8Array {
  let drawn: Uint8Array = new Uint8Array();
  return () => {
    for (;;) {
      if (drawn.length === 0) drawn = random.bytes(SERIAL_BYTES * atOnce);
      const serial = drawn.subarray(0, SERIAL_BYTES);
      drawn = drawn.subarray(SERIAL_BYTES);
      if (serial.some((byte) => byte !== 0)) return serial;
    }
  };
}
