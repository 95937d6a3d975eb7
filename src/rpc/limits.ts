/** What one server gives at most. Each bound has a value that real clients stay far below. */
export interface RpcLimits {
  /** A request message, in bytes after decompression; more → ResourceExhausted. */
  readonly maxRequestBytes: number;
  /** Request headers of one call, in bytes; more → the stream is refused. */
  readonly maxMetadataBytes: number;
  /** Calls at one time on one connection. */
  readonly maxStreamsPerConnection: number;
  /** Memory that the HTTP/2 session of one connection may hold, in MiB; new calls are refused above. */
  readonly maxSessionMemoryMiB: number;
  /** Connections of all listeners. */
  readonly maxConnections: number;
  /** Connections of one listener, unless the listener says otherwise. */
  readonly maxConnectionsPerListener: number;
  /** What a listener always gets, even when `maxConnections` is used up by others. */
  readonly reservedConnectionsPerListener: number;
  /**
   * Connections of one process to one listener, where the kernel says who connects: on a socket that many share, none
   * of them takes all places.
   */
  readonly maxConnectionsPerProcess: number;
  /** A connection that has not made a call by then is closed, in milliseconds. */
  readonly firstCallMs: number;
  /** A connection that is without a call for so long is closed, in milliseconds. */
  readonly idleMs: number;
  /** A unary handler that has not answered by then → DeadlineExceeded, in milliseconds. */
  readonly unaryDeadlineMs: number;
}

/** Fit for one node: 110 pods and a shared socket. */
export const defaultLimits: RpcLimits = {
  maxRequestBytes: 1024 * 1024,
  maxMetadataBytes: 16 * 1024,
  maxStreamsPerConnection: 100,
  maxSessionMemoryMiB: 8,
  maxConnections: 16_384,
  maxConnectionsPerListener: 512,
  reservedConnectionsPerListener: 16,
  maxConnectionsPerProcess: 128,
  firstCallMs: 60_000,
  idleMs: 10 * 60_000,
  unaryDeadlineMs: 30_000,
};
