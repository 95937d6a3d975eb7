import { encodePem } from '../../../identity/pki/pem.js';
import { rfc3339 } from '../../identity-status.js';
import { oneLine } from '../one-line.js';

/** A certificate for a pod. Times in milliseconds since the epoch. */
export interface PodCertificate {
  /** Leaf first, DER. */
  readonly chain: readonly Uint8Array[];
  readonly notBefore: number;
  readonly notAfter: number;
}

/** The API server wants a renewal to begin so far from either end at least (KEP-4317). */
const SHORTEST_MARGIN_MS = 10 * 60_000;
/** The least time from notBefore to notAfter. */
const SHORTEST_LIFE_MS = 60 * 60_000;

/** Whether the API server would take it: an authority that ends soon makes short certificates. */
export function isLongEnough({ notBefore, notAfter }: PodCertificate): boolean {
  return notAfter - notBefore >= SHORTEST_LIFE_MS;
}

/** The status of a request that is granted. It is renewed at half-life, as agents renew theirs. */
export function issuedStatus(certificate: PodCertificate, spiffeId: string, now: number): object {
  const { chain, notBefore, notAfter } = certificate;
  const middle = notBefore + (notAfter - notBefore) / 2;
  const beginRefreshAt = Math.max(
    notBefore + SHORTEST_MARGIN_MS,
    Math.min(notAfter - SHORTEST_MARGIN_MS, Math.floor(middle / 1000) * 1000),
  );
  return {
    conditions: [condition('Issued', 'Signed', `the pod is ${spiffeId}`, now)],
    certificateChain: chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
    notBefore: rfc3339(notBefore),
    beginRefreshAt: rfc3339(beginRefreshAt),
    notAfter: rfc3339(notAfter),
  };
}

/** The status of a request that is refused: `Denied` for what its pod may not have, `Failed` for what cannot be done. */
export function refusedStatus(
  type: 'Denied' | 'Failed',
  reason: string,
  message: string,
  now: number,
): object {
  return { conditions: [condition(type, reason, message, now)] };
}

function condition(type: string, reason: string, message: string, now: number): object {
  return { type, status: 'True', reason, message: oneLine(message), lastTransitionTime: rfc3339(now) };
}
