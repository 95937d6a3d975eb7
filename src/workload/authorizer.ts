import { parseSpiffeId, parseTrustDomain, spiffeId, type SpiffeId } from '../identity/spiffe/id.js';
import type { PeerAuthorizer, PeerVerdict } from '../rpc/tls/identity.js';

export type { PeerAuthorizer, PeerVerdict };

const ALLOWED: PeerVerdict = { allowed: true };

function only(who: string, test: (peer: SpiffeId) => boolean): PeerAuthorizer {
  return (peer) => (test(peer) ? ALLOWED : { allowed: false, reason: `${peer.uri} is not ${who}` });
}

/** Any peer whose SVID a bundle of ours vouches for. For servers that decide on each request. */
export const authorizeAny: PeerAuthorizer = () => ALLOWED;

/** Exactly this SPIFFE ID. Throws SpiffeIdError when it is none. */
export function authorizeId(id: string): PeerAuthorizer {
  const { uri } = parseSpiffeId(id);
  return only(uri, (peer) => peer.uri === uri);
}

/** One of these SPIFFE IDs; an empty list lets nobody in. */
export function authorizeOneOf(ids: readonly string[]): PeerAuthorizer {
  const uris = new Set(ids.map((id) => parseSpiffeId(id).uri));
  return only(`one of ${uris.size} allowed IDs`, (peer) => uris.has(peer.uri));
}

/** Every member of a trust domain. */
export function authorizeMemberOf(trustDomain: string): PeerAuthorizer {
  const name = parseTrustDomain(trustDomain);
  return only(`a member of ${name}`, (peer) => peer.trustDomain === name);
}

/** Every SPIFFE ID under `/ns/<namespace>/` of a trust domain. */
export function authorizeNamespace(trustDomain: string, namespace: string): PeerAuthorizer {
  // The slash at its end makes the prefix end where the segment does.
  const prefix = `${spiffeId(trustDomain, `/ns/${namespace}`).uri}/`;
  const whole = namespace.includes('/') ? undefined : prefix;
  return only(
    `of namespace ${namespace} of ${trustDomain}`,
    (peer) => whole !== undefined && peer.uri.startsWith(whole),
  );
}

/** Exactly `/ns/<namespace>/sa/<serviceAccount>` of a trust domain. */
export function authorizeServiceAccount(
  trustDomain: string,
  namespace: string,
  serviceAccount: string,
): PeerAuthorizer {
  return authorizeId(spiffeId(trustDomain, `/ns/${namespace}/sa/${serviceAccount}`).uri);
}
