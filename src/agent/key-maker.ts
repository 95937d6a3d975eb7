import { createCsr } from '../identity/pki/csr.js';
import { exportPkcs8, exportSpki, generateKeyPair, type KeyType } from '../identity/pki/keys.js';

/** A key made for one SVID, with the request to have it certified. */
export interface MadeKey {
  /** The private key, PKCS#8 DER. It leaves this machine's memory only to the workload. */
  readonly pkcs8: Uint8Array;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  /** PKCS#10, DER. */
  readonly csr: Uint8Array;
}

/** Makes a key and its CSR. The CSR carries no name: the server knows what the registration is called. */
export async function makeKey(type: KeyType): Promise<MadeKey> {
  const pair = await generateKeyPair(type);
  return { pkcs8: exportPkcs8(pair.privateKey), spki: exportSpki(pair.privateKey), csr: createCsr(pair) };
}
