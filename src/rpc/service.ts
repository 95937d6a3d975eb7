import type { SpiffeId } from '../identity/spiffe/id.js';
import { SignetError } from '../lib/errors.js';

/** gRPC status codes by name (grpc/doc/statuscodes.md), so that no room but rpc needs the gRPC library. */
export type StatusName =
  | 'InvalidArgument'
  | 'NotFound'
  | 'AlreadyExists'
  | 'PermissionDenied'
  | 'Unauthenticated'
  | 'ResourceExhausted'
  | 'FailedPrecondition'
  | 'Aborted'
  | 'Unimplemented'
  | 'Internal'
  | 'Unavailable'
  | 'DeadlineExceeded'
  | 'Cancelled';

/** What a handler throws to answer with a status. Anything else becomes `Internal` and is logged, not told. */
export class StatusError extends SignetError {
  readonly status: StatusName;

  constructor(status: StatusName, message: string, options?: { code?: string; cause?: unknown }) {
    super(options?.code ?? status, message, options);
    this.status = status;
  }
}

/** Who is at the other end of a unix socket, as the kernel vouches for it at connect time. */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /**
   * True while the process that connected still lives. Told from a pidfd where the kernel gives one, else from the
   * start time in /proc, so a reused pid is never taken for the caller.
   */
  isAlive(): boolean;
}

/** The verified certificate of the other end. */
export interface PeerCertificate {
  /** Lower-case hex without leading zero bytes. */
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
}

/** The other end of a call. */
export interface Peer {
  /** Which listener the connection came in by: its `name`, e.g. `pod/<uid>` or `shared`. */
  readonly listener: string;
  /** One per connection, for logs and limits. */
  readonly connectionId: string;
  /** On unix sockets. */
  readonly credentials?: PeerCredentials;
  /** Why the kernel does not say who it is, where it was asked: whoever calls is nobody, and is told why. */
  readonly unknown?: string;
  /**
   * On TLS listeners: the SPIFFE ID of the verified certificate. Absent for a client that showed none, which only a
   * listener with `clientCertificate: 'optional'` lets in: a handler that needs to know who calls must look.
   */
  readonly spiffeId?: SpiffeId;
  /** What `spiffeId` was read from. The connection is closed when it ends. */
  readonly certificate?: PeerCertificate;
  /** On TLS listeners: the IP address that the connection came from. */
  readonly remoteAddress?: string;
}

/** What a handler knows of its call. */
export interface CallContext {
  readonly peer: Peer;
  /** Aborted when the client cancels or goes, the deadline passes, or the server stops. */
  readonly signal: AbortSignal;
  /** What the log calls this call, and its caller is told when it fails: see `callLogger` in request-id.ts. */
  readonly requestId: string;
  /** The first value of a metadata key (lower case), if sent. */
  metadata(key: string): string | undefined;
}

/**
 * Where a handler writes the messages of a stream. `write` resolves once the transport takes more, and rejects when
 * the call has ended: a handler that awaits it holds at most one message per stream. A message may be given as bytes
 * already encoded, so one encoding serves many streams.
 */
export interface MessageSink<Res> {
  write(message: Res | Uint8Array): Promise<void>;
}

/** A unary method; the answer may be given already encoded. */
export type UnaryHandler<Req, Res> = (request: Req, context: CallContext) => Promise<Res | Uint8Array>;
/** A server stream; it ends when the promise resolves. */
export type ServerStreamHandler<Req, Res> = (
  request: Req,
  context: CallContext,
  sink: MessageSink<Res>,
) => Promise<void>;
/** A stream in both directions. */
export type BidiHandler<Req, Res> = (
  requests: AsyncIterable<Req>,
  context: CallContext,
  sink: MessageSink<Res>,
) => Promise<void>;
