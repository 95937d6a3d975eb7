import { once } from 'node:events';
import { connect, type ConnectionOptions, type PeerCertificate, type TLSSocket } from 'node:tls';
import { systemRandom } from '../lib/random.js';
import type { VerifiedPeer } from '../rpc/tls/identity.js';
import { chainOf, notePeer } from '../rpc/tls/peer.js';
import type { PeerAuthorizer } from './authorizer.js';
import { PeerError } from './errors.js';
import { verifyPeer } from './peer.js';
import { tlsMaterial } from './tls-options.js';
import type { X509Source } from './x509-source.js';

export interface TlsClientOptions extends ConnectionOptions {
  /** For the session caches of https.Agent and undici: none. */
  readonly maxCachedSessions: 0;
}

/**
 * Options for `tls.connect`, `https.request`, `http2.connect` and undici's `connect`: mutual TLS 1.3 with the SVID of
 * this moment, and a server that is verified by its SPIFFE ID instead of its host name, before the first byte is sent.
 * Ask anew for each connection: the SVID in them does not rotate. For connections that are pooled, there is
 * {@link createMtlsClient}.
 *
 * @throws WorkloadError of `source.svid()`
 */
export function tlsClientOptions(source: X509Source, authorize: PeerAuthorizer): TlsClientOptions {
  return optionsFor(source, authorize, () => undefined);
}

function optionsFor(
  source: X509Source,
  authorize: PeerAuthorizer,
  verified: (peer: VerifiedPeer) => void,
): TlsClientOptions {
  return {
    ...tlsMaterial(source),
    rejectUnauthorized: true,
    // Node asks this after the chain was checked against `ca` and before anything is handed over.
    checkServerIdentity: (_host: string, certificate: PeerCertificate) => {
      try {
        verified(verifyPeer(chainOf(certificate), source, authorize));
        return undefined;
      } catch (thrown) {
        if (thrown instanceof PeerError) return thrown;
        return new PeerError('PeerSvidInvalid', 'the peer could not be checked', { cause: thrown });
      }
    },
    // A resumed session would skip the check above. Said explicitly, it keeps the agents' session caches out.
    session: undefined,
    maxCachedSessions: 0,
    // Agents pool connections by their TLS options, of which the check above is none: without a name of its own, a
    // connection that was opened for one authorizer could serve another. At most 32 bytes, as OpenSSL wants it.
    sessionIdContext: Buffer.from(systemRandom.bytes(12)).toString('hex'),
  };
}

/** Where to connect to, as for `tls.connect`. */
export type TlsConnectOptions = Pick<
  ConnectionOptions,
  'host' | 'port' | 'path' | 'servername' | 'ALPNProtocols' | 'socket'
>;

/** A socket that connects; from `secureConnect` on {@link peerIdOf} knows the server. */
export function openTls(
  source: X509Source,
  authorize: PeerAuthorizer,
  options: TlsConnectOptions,
): TLSSocket {
  let peer: VerifiedPeer | undefined;
  const socket = connect({ ...options, ...optionsFor(source, authorize, (verified) => (peer = verified)) });
  socket.once('secureConnect', () => {
    // Fails closed: what connected without the check (a session that was resumed after all) is not used.
    if (peer !== undefined && !socket.isSessionReused()) notePeer(socket, peer);
    else socket.destroy(new PeerError('PeerSessionResumed', 'the server was not checked; connect anew'));
  });
  return socket;
}

/**
 * Opens a connection to a server whose SPIFFE ID the authorizer lets in. Resolves after the handshake, when
 * {@link peerIdOf} knows the server.
 *
 * @throws PeerError; WorkloadError of `source.svid()`; errors of the network and of TLS as Node raises them
 */
export async function connectTls(
  source: X509Source,
  authorize: PeerAuthorizer,
  options: TlsConnectOptions,
): Promise<TLSSocket> {
  const socket = openTls(source, authorize, options);
  await once(socket, 'secureConnect');
  return socket;
}
