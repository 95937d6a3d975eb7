import type {
  Metadata,
  ServerDuplexStream,
  ServerUnaryCall,
  ServerWritableStream,
  sendUnaryData,
} from '@grpc/grpc-js';
import type { Clock } from '../lib/clock.js';
import type { Connection, ConnectionPool, RunningCall } from './connections.js';
import type { CallFailures } from './failures.js';
import type { RpcLimits } from './limits.js';
import { REQUEST_ID, type RequestIds } from './request-id.js';
import type {
  BidiHandler,
  CallContext,
  MessageSink,
  Peer,
  ServerStreamHandler,
  UnaryHandler,
} from './service.js';
import { StatusError } from './service.js';
import { wireStatus } from './status.js';

/** What every adapter needs. */
export interface CallEnvironment {
  readonly connections: ConnectionPool;
  readonly limits: Pick<RpcLimits, 'unaryDeadlineMs'>;
  readonly clock: Clock;
  readonly failures: CallFailures;
  readonly requestIds: RequestIds;
}

/** The part of the library's call objects that all kinds have. */
interface LibraryCall {
  readonly metadata: Metadata;
  getPeer(): string;
  getPath(): string;
  once(event: 'cancelled', listener: () => void): unknown;
}

/** Writes that may wait on one stream. A handler that awaits each has one. */
const MOST_WAITING_WRITES = 16;

/** One for all calls: an error with its stack for each client that goes would cost as much as the call. */
const over = new StatusError('Cancelled', 'the call has ended: cancelled, or its deadline passed');

/** A call in our own terms. Its signal and its name are made on first use, since most unary handlers never look. */
class ActiveCall implements CallContext, RunningCall {
  readonly peer: Peer;
  readonly #call: LibraryCall;
  readonly #connection: Connection;
  readonly #ids: RequestIds;
  readonly #onEnd: (reason: StatusError | undefined) => void;
  #controller: AbortController | undefined;
  #ended = false;
  #reason: StatusError | undefined;
  #requestId: string | undefined;

  constructor(
    connection: Connection,
    call: LibraryCall,
    ids: RequestIds,
    onEnd: (reason: StatusError | undefined) => void,
  ) {
    this.peer = connection.peer;
    this.#call = call;
    this.#connection = connection;
    this.#ids = ids;
    this.#onEnd = onEnd;
    connection.calls.add(this);
    // The library says 'cancelled' for a client that went, and for a deadline that passed.
    call.once('cancelled', () => this.#end(over, false));
  }

  get ended(): boolean {
    return this.#ended;
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#reason !== undefined && !this.#controller.signal.aborted) this.#controller.abort(this.#reason);
    return this.#controller.signal;
  }

  get path(): string {
    return this.#call.getPath();
  }

  get requestId(): string {
    return (this.#requestId ??= this.#ids.of(this.metadata(REQUEST_ID)));
  }

  metadata(key: string): string | undefined {
    const value = this.#call.metadata.get(key)[0];
    return typeof value === 'string' ? value : undefined;
  }

  abort(reason: StatusError): void {
    this.#end(reason, true);
  }

  /** The handler is done: nothing is aborted. True the first time only. */
  finish(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    this.#connection.calls.delete(this);
    return true;
  }

  #end(reason: StatusError, tell: boolean): void {
    if (!this.finish()) return;
    this.#reason = reason;
    this.#onEnd(tell ? reason : undefined);
    this.#controller?.abort(reason);
  }
}

/** The connection of a call; undefined when its socket closed a moment ago. */
function connectionOf(call: LibraryCall, environment: CallEnvironment): Connection | undefined {
  return environment.connections.get(call.getPeer());
}

const gone = new StatusError('Unavailable', 'the connection is closing');

/** A unary handler as the library wants it. */
export function adaptUnary(
  handler: UnaryHandler<unknown, unknown>,
  environment: CallEnvironment,
): (call: ServerUnaryCall<unknown, unknown>, callback: sendUnaryData<unknown>) => void {
  const { clock, limits, failures, requestIds } = environment;
  return (call, callback) => {
    const connection = connectionOf(call, environment);
    if (connection === undefined) {
      callback(wireStatus(gone));
      return;
    }
    const context = new ActiveCall(connection, call, requestIds, (reason) => {
      deadline.cancel();
      if (reason !== undefined) callback(failures.ended(reason, context));
    });
    const deadline = clock.after(limits.unaryDeadlineMs, () =>
      context.abort(
        new StatusError('DeadlineExceeded', `the server had no answer within ${limits.unaryDeadlineMs} ms`),
      ),
    );
    const fail = (error: unknown): void => {
      if (!context.finish()) return;
      deadline.cancel();
      callback(failures.status(error, context));
    };
    try {
      handler(call.request, context).then((response) => {
        if (!context.finish()) return;
        deadline.cancel();
        callback(null, response);
      }, fail);
    } catch (error) {
      fail(error);
    }
  };
}

/** The sink of a stream, over the library's writable side. */
class StreamSink implements MessageSink<unknown> {
  readonly #call: ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>;
  readonly #waiting = new Set<(reason: StatusError) => void>();
  #closed: StatusError | undefined;

  constructor(call: ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>) {
    this.#call = call;
  }

  write(message: unknown): Promise<void> {
    const written = new Promise<void>((resolve, reject) => {
      if (this.#closed !== undefined) {
        reject(this.#closed);
        return;
      }
      if (this.#waiting.size >= MOST_WAITING_WRITES) {
        reject(
          new StatusError(
            'ResourceExhausted',
            `${MOST_WAITING_WRITES} writes wait already: await each write`,
          ),
        );
        return;
      }
      this.#waiting.add(reject);
      this.#call.write(message, (error?: Error | null) => {
        if (!this.#waiting.delete(reject)) return;
        if (error === null || error === undefined) resolve();
        else reject(new StatusError('Cancelled', 'the stream broke', { cause: error }));
      });
    });
    // A handler that does not wait must not bring the process down when the client goes.
    written.catch(() => undefined);
    return written;
  }

  close(reason: StatusError): void {
    this.#closed = reason;
    for (const reject of this.#waiting) reject(reason);
    this.#waiting.clear();
  }
}

function runStream(
  call: ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>,
  environment: CallEnvironment,
  run: (context: ActiveCall, sink: StreamSink) => Promise<void>,
): void {
  const connection = connectionOf(call, environment);
  if (connection === undefined) {
    call.emit('error', wireStatus(gone));
    return;
  }
  const sink = new StreamSink(call);
  const context = new ActiveCall(connection, call, environment.requestIds, (reason) => {
    sink.close(reason ?? over);
    if (reason !== undefined) call.emit('error', environment.failures.ended(reason, context));
  });
  const fail = (error: unknown): void => {
    if (!context.finish()) return;
    sink.close(over);
    call.emit('error', environment.failures.status(error, context));
  };
  try {
    run(context, sink).then(() => {
      if (!context.finish()) return;
      sink.close(over);
      call.end();
    }, fail);
  } catch (error) {
    fail(error);
  }
}

/** A server-stream handler as the library wants it. */
export function adaptServerStream(
  handler: ServerStreamHandler<unknown, unknown>,
  environment: CallEnvironment,
): (call: ServerWritableStream<unknown, unknown>) => void {
  return (call) => runStream(call, environment, (context, sink) => handler(call.request, context, sink));
}

/** A bidirectional handler as the library wants it. */
export function adaptBidi(
  handler: BidiHandler<unknown, unknown>,
  environment: CallEnvironment,
): (call: ServerDuplexStream<unknown, unknown>) => void {
  return (call) =>
    runStream(call, environment, (context, sink) => handler(requestsOf(call, context), context, sink));
}

/** The client's messages, one read at a time; ends when the client has said all, throws when the call ends. */
async function* requestsOf(
  call: ServerDuplexStream<unknown, unknown>,
  context: ActiveCall,
): AsyncGenerator<unknown, void, void> {
  try {
    // The iterator must not destroy the call when a handler stops listening: it may still want to write.
    for await (const message of call.iterator({ destroyOnReturn: false })) yield message as unknown;
  } catch (error) {
    throw context.ended ? over : error;
  }
}
