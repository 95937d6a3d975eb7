import type { KeyObject } from 'node:crypto';
import { parseCertificate, splitCertificates } from '../identity/pki/certificate.js';
import { exportSpki, keyPairFromPkcs8 } from '../identity/pki/keys.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { parseSpiffeId, type SpiffeId } from '../identity/spiffe/id.js';
import { checkX509SvidLeaf } from '../identity/spiffe/x509-svid.js';
import type { X509SVID, X509SVIDResponse } from '../rpc/gen/spiffe/workload.js';
import { WorkloadError } from './errors.js';

/** An identity with its key, as the Workload API gave it. */
export interface X509Svid {
  readonly id: SpiffeId;
  /** DER, leaf first, then intermediates. */
  readonly chain: readonly Uint8Array[];
  /** Goes nowhere but into TLS. */
  readonly privateKey: KeyObject;
  /** The operator's name for this identity; often empty. */
  readonly hint: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** Hex serial number of the leaf. */
  readonly serial: string;
  /** Authority key ID of the leaf (hex): which authority signed it. */
  readonly authorityId: string | undefined;
}

/** Everything that one message of the Workload API says. */
export interface X509Context {
  /** Never empty; the first is the default identity (SPIFFE_Workload_API §5.2). */
  readonly svids: readonly X509Svid[];
  /** By trust domain name: the own and the foreign ones. */
  readonly bundles: ReadonlyMap<string, TrustBundle>;
}

/**
 * Checks and takes apart an answer. An answer that is wrong in one part is wrong as a whole: the last good one stays.
 *
 * @throws WorkloadError `WorkloadApiAnswerInvalid`
 */
export function readX509Response(response: X509SVIDResponse): X509Context {
  try {
    const bundles = new Map<string, TrustBundle>();
    for (const [id, der] of Object.entries(response.federatedBundles))
      addBundle(bundles, trustDomainOf(id), der);
    const svids = response.svids.map((svid) => {
      const read = readSvid(svid);
      addBundle(bundles, read.id.trustDomain, svid.bundle);
      return read;
    });
    if (svids.length === 0) throw new WorkloadError('WorkloadApiAnswerInvalid', 'the answer holds no SVID');
    return { svids, bundles };
  } catch (error) {
    if (error instanceof WorkloadError) throw error;
    const why = error instanceof Error ? error.message : 'unreadable';
    throw new WorkloadError('WorkloadApiAnswerInvalid', `the answer of FetchX509SVID is not usable: ${why}`, {
      cause: error,
    });
  }
}

function readSvid(message: X509SVID): X509Svid {
  const chain = splitCertificates(message.x509Svid);
  const [first] = chain;
  if (first === undefined) throw new Error('an SVID holds no certificate');
  const leaf = parseCertificate(first);
  const id = checkX509SvidLeaf(leaf);
  if (parseSpiffeId(message.spiffeId).uri !== id.uri) {
    throw new Error(`the SVID of ${message.spiffeId} holds the certificate of ${id.uri}`);
  }
  const { privateKey, publicKey } = keyPairFromPkcs8(message.x509SvidKey);
  if (!Buffer.from(exportSpki(publicKey)).equals(leaf.spki)) {
    throw new Error(`the key of ${id.uri} is not that of its certificate`);
  }
  return {
    id,
    chain,
    privateKey,
    hint: message.hint,
    notBefore: leaf.notBefore,
    notAfter: leaf.notAfter,
    serial: leaf.serial,
    authorityId: leaf.authorityKeyId,
  };
}

function addBundle(bundles: Map<string, TrustBundle>, trustDomain: string, der: Uint8Array): void {
  const x509Authorities = splitCertificates(der);
  // Parsed for the sake of the error: a broken authority is the bundle's fault, not that of the peer it meets later.
  for (const authority of x509Authorities) parseCertificate(authority);
  bundles.set(trustDomain, { trustDomain, x509Authorities, jwtAuthorities: [], sequence: 0 });
}

function trustDomainOf(id: string): string {
  const { trustDomain, path } = parseSpiffeId(id);
  if (path !== '') throw new Error(`a bundle is named ${id}, which is no trust domain's ID`);
  return trustDomain;
}
