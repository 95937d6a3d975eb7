import type { Registration } from '../identity/registration/registration.js';
import type { SignedX509 } from '../rpc/node-api.js';
import { BACKDATE_MS } from '../identity/pki/backdate.js';
import { concatBytes } from '../identity/pki/bytes.js';
import { asBuffer } from './bytes.js';
import { renewalTime, type RotatingSvid } from './rotation.js';

/**
 * An X.509-SVID with its key as the cache keeps it. Built for many: no KeyObject (each holds native memory), one
 * allocation for what is its own, and what it shares with others (intermediates, strings) shared.
 */
export interface CachedSvid extends RotatingSvid {
  readonly spiffeId: string;
  /** The registration's revision that it was signed for. */
  readonly revision: string;
  /** Hex serial number of the leaf. */
  readonly serial: string;
  /** The leaf (DER), then the private key (PKCS#8, DER). Never changed. */
  readonly material: Uint8Array;
  readonly leafLength: number;
  /** The certificates between the leaf and the root, DER, concatenated. */
  readonly intermediates: Uint8Array;
}

/** The chain as the Workload API sends it: DER certificates, leaf first, concatenated. */
export function chainOf(svid: CachedSvid): Uint8Array {
  const leaf = leafOf(svid);
  return svid.intermediates.length === 0 ? leaf : concatBytes([leaf, svid.intermediates]);
}

export function leafOf(svid: CachedSvid): Uint8Array {
  return svid.material.subarray(0, svid.leafLength);
}

/** The private key, PKCS#8 DER. */
export function keyOf(svid: CachedSvid): Uint8Array {
  return svid.material.subarray(svid.leafLength);
}

/** Why a signed SVID is not taken. */
export interface SvidProblem {
  readonly code: string;
  readonly message: string;
}

/**
 * Whether the answer fits what was asked: the leaf holds our public key and the SPIFFE ID, and it is still good. The
 * server has checked its own output; this is against answers that were mixed up or meant for an older registration,
 * which would hand a workload a pair that does not fit, or another's name. It looks for the encoded values rather than
 * parse every certificate, since thousands come at once.
 */
export function svidProblem(
  signed: SignedX509,
  wanted: { readonly spki: Uint8Array; readonly spiffeId: string },
  now: number,
): SvidProblem | undefined {
  const leaf = signed.chain[0];
  if (leaf === undefined) return { code: 'SvidInvalid', message: 'the server answered with an empty chain' };
  const bytes = asBuffer(leaf);
  if (!bytes.includes(asBuffer(wanted.spki)))
    return { code: 'SvidInvalid', message: 'the server signed another key than the one that was sent' };
  if (!bytes.includes(uriName(wanted.spiffeId)))
    return {
      code: 'SvidInvalid',
      message: `the server signed an SVID that does not name ${wanted.spiffeId}`,
    };
  if (!Number.isFinite(signed.notBefore) || !(signed.notBefore < signed.notAfter))
    return { code: 'SvidInvalid', message: 'the server signed an SVID that is never valid' };
  if (signed.notAfter <= now)
    return {
      code: 'SvidExpired',
      message: 'the server signed an SVID that is expired already; compare the clocks of both machines',
    };
  return undefined;
}

/** A URI in a subject alternative name: GeneralName [6], IMPLICIT IA5String (RFC 5280 §4.2.1.6). */
function uriName(uri: string): Buffer {
  const text = Buffer.from(uri, 'latin1');
  const length = text.length;
  const header =
    length < 0x80
      ? [0x86, length]
      : length < 0x100
        ? [0x86, 0x81, length]
        : [0x86, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Uint8Array.from(header), text]);
}

/** Shares equal byte arrays: thousands of SVIDs have the same intermediates. */
export class ByteSharing {
  readonly #known: Uint8Array[] = [];

  /** The concatenation of `parts`, the same array each time for the same bytes. */
  concat(parts: readonly Uint8Array[]): Uint8Array {
    // Memory of its own: a small Buffer would keep a whole slab of Node's pool alive.
    const joined = concatBytes(parts);
    const known = this.#known.find((one) => Buffer.compare(one, joined) === 0);
    if (known !== undefined) return known;
    this.#known.unshift(joined);
    // Old authorities go; an SVID that still has theirs keeps it alive by itself.
    this.#known.length = Math.min(this.#known.length, 8);
    return joined;
  }
}

/** Packs a checked answer and its key for the cache. */
export function packSvid(
  signed: SignedX509,
  own: { readonly spiffeId: string; readonly revision: string; readonly pkcs8: Uint8Array },
  context: {
    readonly now: number;
    readonly monotonic: number;
    readonly fraction: number;
    readonly sharing: ByteSharing;
  },
): CachedSvid {
  const [leaf, ...intermediates] = signed.chain;
  if (leaf === undefined) throw new RangeError('an SVID has at least a leaf');
  const signedAt = signed.notBefore + BACKDATE_MS;
  return {
    spiffeId: own.spiffeId,
    revision: own.revision,
    serial: signed.serial,
    authorityId: signed.authorityId,
    notBefore: signed.notBefore,
    notAfter: signed.notAfter,
    receivedAt: context.now,
    receivedMonotonic: context.monotonic,
    signedAt,
    renewAt: renewalTime({ signedAt, notAfter: signed.notAfter }, context.now, context.fraction),
    material: concatBytes([leaf, own.pkcs8]),
    leafLength: leaf.length,
    intermediates: context.sharing.concat(intermediates),
  };
}

/** Whether an SVID for one says the same names as one for the other. */
export function sameNames(one: Registration, other: Registration): boolean {
  return (
    one.spiffeId.uri === other.spiffeId.uri &&
    one.dnsNames.length === other.dnsNames.length &&
    one.dnsNames.every((name, index) => name === other.dnsNames[index])
  );
}
