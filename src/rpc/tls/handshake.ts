import type { Socket } from 'node:net';
import { TLSSocket, type SecureContext } from 'node:tls';
import type { Clock } from '../../lib/clock.js';
import { PeerError } from './errors.js';
import type { VerifiedPeer } from './identity.js';
import { notePeer, shownChain } from './peer.js';

/** Long enough for a slow network, short enough that half-open handshakes do not pile up. Milliseconds. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;

/** How one connection is received. */
export interface Handshake {
  /** Holds this end's certificate and key, and the bounds on versions. */
  readonly context: SecureContext;
  /**
   * `optional`: a client may show none, and is then nobody. One that shows a certificate is verified in either case, and
   * refused if that fails: it is never taken for nobody.
   */
  readonly clientCertificate: 'required' | 'optional';
  /** The application protocols that are spoken, as TLS writes them (RFC 7301 §3.1); any unless said. */
  readonly alpn?: Uint8Array;
  readonly clock: Clock;
  /** The whole handshake must be done by then; milliseconds. */
  readonly timeoutMs: number;
  /** Verifies the chain that the client has shown. Throws PeerError. */
  verify(chain: readonly Uint8Array[]): VerifiedPeer;
  /** Called once, in the turn in which the handshake ends and before anything is read. */
  accepted(socket: TLSSocket, peer: VerifiedPeer | undefined): void;
  /** Called once instead; the connection is closed already. `broke` is what TLS or the network said, if it was them. */
  refused(error: PeerError, socket: TLSSocket, broke: Error | undefined): void;
}

/**
 * Receives a connection: TLS, then our own verification, and only then is the socket handed on. Not one byte that the
 * client sends after its handshake is read before that: nobody listens to the socket yet.
 *
 * Node's own verification is not used: it would take the authorities of all trust domains for one pool, and Node 24.21
 * forgets the peer's chain before anybody else can look at it (nodejs/node#65579).
 */
export function receiveTls(raw: Socket, handshake: Handshake): TLSSocket {
  const required = handshake.clientCertificate === 'required';
  const socket = new TLSSocket(raw, {
    isServer: true,
    secureContext: handshake.context,
    requestCert: true,
    // Whether a handshake without a certificate fails; whose certificate it is, nobody looks at yet.
    rejectUnauthorized: required,
    ...(handshake.alpn === undefined ? {} : { ALPNProtocols: handshake.alpn }),
  });
  let settled = false;
  const refuse = (error: PeerError, broke?: Error): void => {
    if (settled) return;
    settled = true;
    timeout.cancel();
    socket.destroy();
    handshake.refused(error, socket, broke);
  };
  const timeout = handshake.clock.after(handshake.timeoutMs, () =>
    refuse(new PeerError('PeerSvidInvalid', 'the TLS handshake took too long')),
  );
  // Always listened to: an error on a socket that nobody has been given must not end the process.
  socket.on('error', (error: NodeJS.ErrnoException) => refuse(failed(error), error));
  socket.once('close', () => refuse(new PeerError('PeerSvidInvalid', 'the client left in the handshake')));
  socket.once('secure', () => {
    if (settled) return;
    let peer: VerifiedPeer | undefined;
    try {
      const chain = shownChain(socket);
      if (required || chain.length > 0) peer = handshake.verify(chain);
    } catch (thrown) {
      refuse(
        thrown instanceof PeerError
          ? thrown
          : new PeerError('PeerSvidInvalid', 'the peer could not be checked', { cause: thrown }),
      );
      return;
    }
    settled = true;
    timeout.cancel();
    if (peer !== undefined) notePeer(socket, peer);
    // What Node's own listener sets; http2 waits for the second.
    Object.assign(socket, { authorized: peer !== undefined, secureConnecting: false });
    // Node reports errors of TLS by this event as long as it thinks that a handshake is going on.
    socket.on('_tlsError', (error: Error) => socket.destroy(error));
    handshake.accepted(socket, peer);
  });
  return socket;
}

function failed(error: NodeJS.ErrnoException): PeerError {
  if (error.code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE') {
    return new PeerError('PeerCertificateMissing', 'the peer showed no certificate', { cause: error });
  }
  const code = error.code === undefined ? '' : `: ${error.code}`;
  return new PeerError('PeerSvidInvalid', `the TLS handshake failed${code}`, { cause: error });
}
