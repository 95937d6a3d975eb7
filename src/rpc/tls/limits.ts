/** What one TLS listener gives at most. */
export interface TlsLimits {
  /** A handshake that is not done by then is given up, in milliseconds. */
  readonly handshakeMs: number;
  /** Handshakes at one time. When one more comes, the oldest is given up: an honest one takes milliseconds. */
  readonly maxHandshakes: number;
  /** Connections of one SPIFFE ID, or of one address where clients show no certificate. */
  readonly maxConnectionsPerPeer: number;
  /** A connection is told to go after so long, ± 10 %, so that clients spread over all servers again. Milliseconds. */
  readonly maxAgeMs: number;
  /** What a connection that was told to go has to finish its calls, in milliseconds. */
  readonly graceMs: number;
}

export const defaultTlsLimits: TlsLimits = {
  handshakeMs: 10_000,
  maxHandshakes: 512,
  maxConnectionsPerPeer: 128,
  maxAgeMs: 30 * 60_000,
  graceMs: 30_000,
};
