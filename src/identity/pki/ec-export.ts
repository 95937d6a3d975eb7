import type { KeyObject } from 'node:crypto';

/**
 * DER of EC keys, put together from the key's numbers. OpenSSL's encoder takes 80 to 140 µs for each key, reading the
 * numbers 7 µs: an agent that makes ten thousand keys at its start notices.
 */
interface Layout {
  /** SubjectPublicKeyInfo up to the coordinates (RFC 5480 §2), uncompressed. */
  readonly spki: Uint8Array;
  /** PrivateKeyInfo (RFC 5208 §5) with ECPrivateKey (RFC 5915 §3) up to the private number. */
  readonly pkcs8: Uint8Array;
  /** From the private number up to the coordinates. */
  readonly between: Uint8Array;
  /** Bytes of one number. */
  readonly size: number;
}

const LAYOUTS: ReadonlyMap<string, Layout> = new Map([
  [
    'P-256',
    {
      spki: Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex'),
      pkcs8: Buffer.from('308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420', 'hex'),
      between: Buffer.from('a14403420004', 'hex'),
      size: 32,
    },
  ],
  [
    'P-384',
    {
      spki: Buffer.from('3076301006072a8648ce3d020106052b8104002203620004', 'hex'),
      pkcs8: Buffer.from('3081b6020100301006072a8648ce3d020106052b8104002204819e30819b0201010430', 'hex'),
      between: Buffer.from('a16403620004', 'hex'),
      size: 48,
    },
  ],
]);

/** SubjectPublicKeyInfo of an EC key, private or public; undefined for other keys. */
export function ecSpki(key: KeyObject): Uint8Array | undefined {
  if (key.asymmetricKeyType !== 'ec') return undefined;
  const { crv, x, y } = key.export({ format: 'jwk' });
  const layout = LAYOUTS.get(crv ?? '');
  return layout === undefined ? undefined : join(layout.size, [layout.spki, x, y]);
}

/** PKCS#8 of an EC private key, not encrypted; undefined for other keys. */
export function ecPkcs8(key: KeyObject): Uint8Array | undefined {
  if (key.asymmetricKeyType !== 'ec') return undefined;
  const { crv, d, x, y } = key.export({ format: 'jwk' });
  const layout = LAYOUTS.get(crv ?? '');
  return layout === undefined ? undefined : join(layout.size, [layout.pkcs8, d, layout.between, x, y]);
}

/** Concatenates bytes and base64url numbers of `size` bytes (RFC 7518 §6.2.1.2); undefined if one is not so. */
function join(size: number, parts: readonly (Uint8Array | string | undefined)[]): Uint8Array | undefined {
  const length = parts.reduce((sum, part) => sum + (part instanceof Uint8Array ? part.length : size), 0);
  // Memory of its own: a small Buffer would share, and keep alive, a slab with others.
  const joined = Buffer.from(new ArrayBuffer(length));
  let at = 0;
  for (const part of parts) {
    if (part instanceof Uint8Array) {
      joined.set(part, at);
      at += part.length;
    } else {
      if (part === undefined || joined.write(part, at, 'base64url') !== size) return undefined;
      at += size;
    }
  }
  return joined;
}
