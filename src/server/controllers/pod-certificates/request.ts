import type { StoredObject } from '../../../store/store.js';

/** A PodCertificateRequest (certificates.k8s.io, v1 and v1beta1) as far as a signer reads it (KEP-4317). */
export interface PodCertificateRequest {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly signerName: string;
  readonly podName: string;
  readonly podUid: string;
  readonly serviceAccountName: string;
  readonly nodeName: string;
  readonly maxExpirationSeconds: number;
  /** A CSR, DER, of which the public key counts alone; empty in a request that an older kubelet made. */
  readonly csr: Uint8Array;
  /** What the pod's author wants of the signer. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  /** It has its answer, which is final. */
  readonly answered: boolean;
}

const DAY_SECONDS = 24 * 60 * 60;

type Fields = Readonly<Record<string, unknown>>;

/** Reads one. What is missing is empty: the API server has checked it. */
export function readPodCertificateRequest(object: StoredObject): PodCertificateRequest {
  const spec = fields((object as { readonly spec?: unknown }).spec);
  const status = fields((object as { readonly status?: unknown }).status);
  const created = (object.metadata as { readonly creationTimestamp?: unknown }).creationTimestamp;
  const max = spec['maxExpirationSeconds'];
  return {
    namespace: object.metadata.namespace ?? '',
    name: object.metadata.name,
    uid: object.metadata.uid,
    signerName: text(spec['signerName']),
    podName: text(spec['podName']),
    podUid: text(spec['podUID']),
    serviceAccountName: text(spec['serviceAccountName']),
    nodeName: text(spec['nodeName']),
    maxExpirationSeconds: typeof max === 'number' ? max : DAY_SECONDS,
    csr: Buffer.from(text(spec['stubPKCS10Request']), 'base64'),
    annotations: Object.fromEntries(
      Object.entries(fields(spec['unverifiedUserAnnotations'])).map(([name, value]) => [name, text(value)]),
    ),
    createdAt: Date.parse(text(created)),
    answered: Array.isArray(status['conditions']) && status['conditions'].length > 0,
  };
}

/**
 * The public key of a request without a CSR, which v1beta1 alone shows: SubjectPublicKeyInfo, DER. Its proof of possession
 * was checked by the API server.
 */
export function publicKeyOf(object: StoredObject): Uint8Array | undefined {
  const key = text(fields((object as { readonly spec?: unknown }).spec)['pkixPublicKey']);
  return key === '' ? undefined : Buffer.from(key, 'base64');
}

function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
