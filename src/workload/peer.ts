import type { TLSSocket } from 'node:tls';
import { verifyX509Svid } from '../identity/pki/svid.js';
import type { SpiffeId } from '../identity/spiffe/id.js';
import type { PeerAuthorizer } from './authorizer.js';
import { PeerError } from './errors.js';
import type { X509Source } from './x509-source.js';

/** The part of a source that verification needs. */
export type TrustSource = Pick<X509Source, 'bundle' | 'now'>;

/** Chains are short; of a longer one only the beginning is looked at. */
const MAX_CHAIN = 8;

/**
 * Verifies a peer's chain (DER, leaf first) against the bundle of the trust domain that its own SPIFFE ID names
 * (X509-SVID §5), and asks the authorizer.
 *
 * @throws PeerError
 */
export function verifyPeer(
  chain: readonly Uint8Array[],
  source: TrustSource,
  authorize: PeerAuthorizer,
): SpiffeId {
  if (chain.length === 0) throw new PeerError('PeerCertificateMissing', 'the peer showed no certificate');
  let id: SpiffeId;
  try {
    ({ id } = verifyX509Svid({
      chain,
      bundles: (trustDomain) => source.bundle(trustDomain),
      now: source.now(),
    }));
  } catch (error) {
    const why = error instanceof Error ? error.message : 'unreadable';
    throw new PeerError('PeerSvidInvalid', `the peer's certificate is refused: ${why}`, { cause: error });
  }
  const verdict = authorize(id);
  if (!verdict.allowed) {
    throw new PeerError('PeerNotAuthorized', `the peer is refused: ${verdict.reason}`, { spiffeId: id.uri });
  }
  return id;
}

/** A certificate as Node shows it, old style or new. */
interface LinkedCertificate {
  readonly raw: Uint8Array;
  readonly issuerCertificate?: LinkedCertificate | undefined;
}

/**
 * The chain that a peer sent. Node adds the authority that it found, which does no harm: trust comes from the bundle
 * alone.
 */
export function chainOf(leaf: LinkedCertificate | undefined): readonly Uint8Array[] {
  const chain: Uint8Array[] = [];
  let certificate = leaf;
  while (certificate?.raw !== undefined && chain.length < MAX_CHAIN) {
    chain.push(new Uint8Array(certificate.raw));
    // A root is its own issuer.
    const issuer: LinkedCertificate | undefined = certificate.issuerCertificate;
    certificate = issuer === certificate ? undefined : issuer;
  }
  return chain;
}

// On the socket itself and not in a map, because http2 shows its users a proxy of the socket.
const PEER = Symbol('signet.peer');

/**
 * Verifies the client at the other end of a server's socket whose handshake is done, and notes who it is.
 *
 * @throws PeerError
 */
export function verifySocket(socket: TLSSocket, source: TrustSource, authorize: PeerAuthorizer): SpiffeId {
  if (socket.isSessionReused()) {
    throw new PeerError('PeerSessionResumed', 'the TLS session was resumed; connect anew');
  }
  const id = verifyPeer(chainOf(socket.getPeerCertificate(true)), source, authorize);
  notePeer(socket, id);
  return id;
}

/** Notes who is at the other end. */
export function notePeer(socket: TLSSocket, id: SpiffeId): void {
  Object.defineProperty(socket, PEER, { value: id });
}

/**
 * The verified SPIFFE ID at the other end of a connection that this library has let through, e.g.
 * `peerIdOf(request.socket)`; undefined for every other object.
 */
export function peerIdOf(socket: object): SpiffeId | undefined {
  return (socket as { readonly [PEER]?: SpiffeId })[PEER];
}
