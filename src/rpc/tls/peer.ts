import type { TLSSocket } from 'node:tls';
import { PeerError } from './errors.js';
import type { VerifiedPeer } from './identity.js';

/** Chains are short; of a longer one only the beginning is looked at. */
const MAX_CHAIN = 8;

/** A certificate as Node shows it, old style or new. */
interface LinkedCertificate {
  readonly raw: Uint8Array;
  readonly issuerCertificate?: LinkedCertificate | undefined;
}

/**
 * The chain that a peer sent, DER, leaf first. Node adds the authority that it found, which does no harm: trust comes
 * from the bundle alone.
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

/**
 * The chain of the peer of a socket whose handshake is done right now; empty without a certificate.
 *
 * @throws PeerError `PeerSessionResumed`: nothing was shown this time
 */
export function shownChain(socket: TLSSocket): readonly Uint8Array[] {
  if (socket.isSessionReused())
    throw new PeerError('PeerSessionResumed', 'the TLS session was resumed; connect anew');
  return chainOf(socket.getPeerCertificate(true));
}

// On the socket itself and not in a map, because http2 shows its users a proxy of the socket.
const PEER = Symbol('signet.peer');

/** Notes who is at the other end. */
export function notePeer(socket: TLSSocket, peer: VerifiedPeer): void {
  Object.defineProperty(socket, PEER, { value: peer });
}

/**
 * Who is at the other end of a connection that was let through here, e.g. `peerOf(request.socket)`; undefined for one
 * that showed no certificate, and for every other object.
 */
export function peerOf(socket: object): VerifiedPeer | undefined {
  return (socket as { readonly [PEER]?: VerifiedPeer })[PEER];
}
