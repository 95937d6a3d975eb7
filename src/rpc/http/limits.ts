/** What one HTTP server gives at most. Each bound has a value that real clients stay far below. */
export interface HttpLimits {
  /** A request body, in bytes; more → 413. */
  readonly maxBodyBytes: number;
  /** The bodies of all requests that are under way together, in bytes; one peer gets half of it. More → 503. */
  readonly maxBodiesBytes: number;
  /** Request line and headers together, in bytes; more → 431. */
  readonly maxHeaderBytes: number;
  /** Nesting of a JSON body. */
  readonly maxJsonDepth: number;
  /** Values (members and list items, at all depths) in a JSON body. */
  readonly maxJsonValues: number;
  /** Connections of all listeners. */
  readonly maxConnections: number;
  /** Connections of one listener, unless the listener says otherwise. */
  readonly maxConnectionsPerListener: number;
  /** What a listener always gets, even when `maxConnections` is used up by others. */
  readonly reservedConnectionsPerListener: number;
  /** Connections of one process, or of one SPIFFE ID, to one listener. */
  readonly maxConnectionsPerPeer: number;
  /** TLS handshakes at one time on one listener. When one more comes, the oldest is given up: an honest one takes milliseconds. */
  readonly maxHandshakes: number;
  /** Requests at one time on one connection (pipelining); one more closes it. */
  readonly maxRequestsPerConnection: number;
  /** From the end of a request's header to the last byte of its answer, in milliseconds. */
  readonly requestMs: number;
  /** From the start of a connection, or the last answer, to the end of the next request's header. Milliseconds. */
  readonly idleMs: number;
}

/** Fit for one node: 110 pods and a shared socket. */
export const defaultHttpLimits: HttpLimits = {
  maxBodyBytes: 64 * 1024,
  maxBodiesBytes: 64 * 1024 * 1024,
  maxHeaderBytes: 16 * 1024,
  maxJsonDepth: 32,
  maxJsonValues: 8192,
  maxConnections: 8192,
  maxConnectionsPerListener: 512,
  reservedConnectionsPerListener: 16,
  maxConnectionsPerPeer: 128,
  maxHandshakes: 128,
  maxRequestsPerConnection: 16,
  requestMs: 10_000,
  idleMs: 30_000,
};
