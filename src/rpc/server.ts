import type { ServerInterceptingCallInterface, UntypedHandleCall } from '@grpc/grpc-js';
import { Server, ServerCredentials, ServerInterceptingCall, experimental } from '@grpc/grpc-js';
import type { EventEmitter } from 'node:events';
import type { ServerHttp2Session, Settings } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../lib/clock.js';
import { sleep, systemClock } from '../lib/clock.js';
import { BugError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { systemRandom } from '../lib/random.js';
import { settingsFrame } from './authority/greet.js';
import type { CallEnvironment } from './call.js';
import { adaptBidi, adaptServerStream, adaptUnary } from './call.js';
import { ConnectionPool } from './connections.js';
import { serviceNameOf } from './definition.js';
import { HealthService } from './gen/grpc/health/v1/health.js';
import { ServerReflectionService as ReflectionV1 } from './gen/grpc/reflection/v1/reflection.js';
import { ServerReflectionService as ReflectionV1Alpha } from './gen/grpc/reflection/v1alpha/reflection.js';
import { CallFailures } from './failures.js';
import { createHealth } from './health.js';
import type { HandlersOf, MethodShape, ServiceShape } from './definition.js';
import type { RpcLimits } from './limits.js';
import { defaultLimits } from './limits.js';
import type { ListenUnixOptions, RpcListener } from './listener.js';
import { UnixListener } from './listener.js';
import { linuxPeerCredentials } from './peer/linux.js';
import type { PeerCredentialsReader } from './peer/reader.js';
import type { BidiHandler, ServerStreamHandler, UnaryHandler } from './service.js';
import { reflectionHandlers } from './reflection.js';
import { RequestIds } from './request-id.js';
import { StatusError } from './service.js';
import { TlsListener, type ListenTlsOptions, type TlsRpcListener } from './tls/listener.js';

export interface RpcServerOptions {
  readonly logger: Logger;
  readonly limits?: Partial<RpcLimits>;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Makes the reader when the first listener needs it; the kernel's unless said. Loading that costs some 20 ms. */
  readonly peerCredentials?: () => Promise<PeerCredentialsReader>;
  /** Whether health and reflection are served, as gRPC's tools expect; true unless said. */
  readonly standardServices?: boolean;
}

/** One gRPC server behind many sockets. */
export interface RpcServer {
  /** Adds a service. Methods without a handler answer `Unimplemented`. */
  service<D extends ServiceShape>(definition: D, handlers: HandlersOf<D>): void;
  /** Opens a socket. Errors: those of `listenAt` in socket-file.ts. */
  listenUnix(options: ListenUnixOptions): Promise<RpcListener>;
  /**
   * Opens a TCP port for mutual TLS 1.3 and HTTP/2. Errors: ListenError `AddressInUse`, `ListenFailed`. Who may call, and
   * until when a connection lives, docs/security/threat-model.md tells.
   */
  listenTls(options: ListenTlsOptions): Promise<TlsRpcListener>;
  /** What the health service says of a service, or of the whole server (the empty name, which serves at first). */
  setServing(service: string, serving: boolean): void;
  /** Open connections of all listeners. */
  readonly connections: number;
  /** Takes no more connections and calls, waits up to `graceMs` for calls to end, then closes. */
  drain(graceMs: number): Promise<void>;
  /** Ends all calls with `Unavailable` and closes everything. May be called twice. */
  close(): Promise<void>;
}

/** Creates a server. It has no socket yet, and no service but health and reflection. */
export function createRpcServer(options: RpcServerOptions): RpcServer {
  const server = new GrpcServer(options);
  if (options.standardServices ?? true) server.addStandardServices();
  return server;
}

class GrpcServer implements RpcServer {
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #limits: RpcLimits;
  readonly #server: Server;
  readonly #injector: ReturnType<Server['createConnectionInjector']>;
  /** One for each connection whose authorities are rewritten. */
  readonly #rewritten = new Set<ReturnType<Server['createConnectionInjector']>>();
  /** What clients are told that wait for it. */
  readonly #settings: Buffer;
  readonly #pool: ConnectionPool;
  readonly #environment: CallEnvironment;
  readonly #listeners = new Set<UnixListener | TlsListener>();
  #injectTls: ((socket: TLSSocket) => ServerHttp2Session) | undefined;
  readonly #loadReader: () => Promise<PeerCredentialsReader>;
  #reader: Promise<PeerCredentialsReader> | undefined;
  readonly #health = createHealth();
  readonly #services = new Set<string>();
  #stopping = false;
  #closed: Promise<void> | undefined;

  constructor(options: RpcServerOptions) {
    this.#logger = options.logger;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? systemRandom;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#loadReader = options.peerCredentials ?? linuxPeerCredentials;
    this.#pool = new ConnectionPool(this.#limits);
    this.#server = new Server({
      // Bookkeeping of every call and connection that nobody here reads.
      'grpc.enable_channelz': 0,
      'grpc.max_receive_message_length': this.#limits.maxRequestBytes,
      'grpc-node.max_session_memory': this.#limits.maxSessionMemoryMiB,
      'grpc.max_connection_idle_ms': this.#limits.idleMs,
    });
    const settings: Settings = {
      maxHeaderListSize: this.#limits.maxMetadataBytes,
      maxConcurrentStreams: this.#limits.maxStreamsPerConnection,
    };
    setHttp2Settings(this.#server, settings);
    this.#settings = settingsFrame(settings);
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#environment = {
      connections: this.#pool,
      limits: this.#limits,
      clock: this.#clock,
      failures: new CallFailures(this.#clock, this.#logger),
      requestIds: new RequestIds(this.#random),
    };
  }

  get connections(): number {
    return this.#pool.size;
  }

  addStandardServices(): void {
    this.service(HealthService, this.#health.handlers);
    const reflection = reflectionHandlers(() => [...this.#services].sort());
    this.service(ReflectionV1, reflection);
    this.service(ReflectionV1Alpha, reflection);
  }

  setServing(service: string, serving: boolean): void {
    this.#health.set(service, serving);
  }

  service<D extends ServiceShape>(definition: D, handlers: HandlersOf<D>): void {
    const serviceName = serviceNameOf(definition);
    this.#services.add(serviceName);
    this.#health.set(serviceName, true);
    for (const [name, method] of Object.entries(definition)) {
      const handler: unknown = handlers[name];
      if (handler !== undefined) this.#register(method, handler);
    }
  }

  #register(method: MethodShape, handler: unknown): void {
    const { call, kind } = this.#adapt(method, handler);
    const encode = method.responseSerialize as (value: unknown) => Buffer;
    const added = this.#server.register<unknown, unknown>(
      method.path,
      call as UntypedHandleCall,
      (message) => (message instanceof Uint8Array ? asBuffer(message) : encode(message)),
      method.requestDeserialize,
      kind,
    );
    if (!added) throw new BugError(`two handlers for ${method.path}`);
  }

  #adapt(method: MethodShape, handler: unknown): { call: unknown; kind: string } {
    const environment = this.#environment;
    if (method.requestStream) {
      return { call: adaptBidi(handler as BidiHandler<unknown, unknown>, environment), kind: 'bidi' };
    }
    return method.responseStream
      ? {
          call: adaptServerStream(handler as ServerStreamHandler<unknown, unknown>, environment),
          kind: 'serverStream',
        }
      : { call: adaptUnary(handler as UnaryHandler<unknown, unknown>, environment), kind: 'unary' };
  }

  async listenUnix(options: ListenUnixOptions): Promise<RpcListener> {
    const asks = options.peerCredentials || options.callerUid !== undefined;
    const reader = asks ? await this.#credentialsReader() : undefined;
    const listener = new UnixListener({
      options,
      maxConnections: options.maxConnections ?? this.#limits.maxConnectionsPerListener,
      pool: this.#pool,
      reader,
      clock: this.#clock,
      logger: this.#logger.child({ listener: options.name }),
      inject: (socket) => this.#injector.injectConnection(socket),
      injectRewritten: (stream, connectionId) => this.#injectRewritten(stream, connectionId),
      limits: this.#limits,
      settings: this.#settings,
      onClose: () => this.#listeners.delete(listener),
    });
    return this.#opened(listener, () => listener.open(this.#random));
  }

  async listenTls(options: ListenTlsOptions): Promise<TlsRpcListener> {
    this.#injectTls ??= sessionInjector(this.#server);
    const listener = new TlsListener({
      options,
      maxConnections: options.maxConnections ?? this.#limits.maxConnectionsPerListener,
      pool: this.#pool,
      clock: this.#clock,
      random: this.#random,
      logger: this.#logger.child({ listener: options.name }),
      limits: this.#limits,
      inject: this.#injectTls,
      onClose: () => this.#listeners.delete(listener),
    });
    return this.#opened(listener, () => listener.open());
  }

  async #opened<L extends UnixListener | TlsListener>(listener: L, open: () => Promise<void>): Promise<L> {
    this.#listeners.add(listener);
    try {
      if (this.#stopping) throw new StatusError('Unavailable', 'the server is stopping');
      await open();
    } catch (error) {
      this.#listeners.delete(listener);
      throw error;
    }
    return listener;
  }

  /**
   * A stream that is no socket cannot carry the connection's name as its address, so it gets an HTTP/2 server of its
   * own, whose calls all have that name.
   */
  #injectRewritten(stream: Duplex, connectionId: string): void {
    const credentials = experimental.createServerCredentialsWithInterceptors(
      ServerCredentials.createInsecure(),
      [(_method, call) => new NamedCall(call, connectionId)],
    );
    const injector = this.#server.createConnectionInjector(credentials);
    this.#rewritten.add(injector);
    stream.once('close', () => {
      this.#rewritten.delete(injector);
      injector.destroy();
    });
    injector.injectConnection(stream);
  }

  #credentialsReader(): Promise<PeerCredentialsReader> {
    this.#reader ??= this.#loadReader();
    return this.#reader;
  }

  async drain(graceMs: number): Promise<void> {
    this.#stopping = true;
    this.#health.stop();
    for (const listener of this.#listeners) listener.drain();
    // Tells each client to open no more calls here; the sockets close by themselves when their calls are done.
    for (const injector of [this.#injector, ...this.#rewritten]) injector.drain(graceMs);
    const waited = new AbortController();
    const grace = sleep(this.#clock, graceMs, waited.signal).catch(() => undefined);
    await Promise.race([grace, this.#quiet()]);
    waited.abort();
    await this.close();
  }

  /** Resolves when no call runs and all connections are gone. */
  async #quiet(): Promise<void> {
    for (const connection of this.#pool.of())
      if (!connection.socket.destroyed)
        await new Promise<void>((resolve) => connection.socket.once('close', () => resolve()));
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#stopping = true;
    await Promise.all([...this.#listeners].map((listener) => listener.close()));
    this.#injector.destroy();
    this.#server.forceShutdown();
  }
}

/** A call that knows its connection by name. */
class NamedCall extends ServerInterceptingCall {
  readonly #name: string;

  constructor(call: ServerInterceptingCallInterface, name: string) {
    super(call);
    this.#name = name;
  }

  override getPeer(): string {
    return this.#name;
  }
}

/** The bytes as the library wants them, not copied. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * The library has no option for the bound on headers, so its options for the HTTP/2 server are set where it keeps them.
 * Fails loudly if a new version keeps them elsewhere.
 */
function setHttp2Settings(server: Server, settings: Settings): void {
  const { commonServerOptions } = server as unknown as { commonServerOptions?: { settings?: Settings } };
  if (commonServerOptions === undefined) throw new BugError('grpc-js keeps its HTTP/2 options elsewhere now');
  commonServerOptions.settings = settings;
}

/**
 * Hands sockets to an HTTP/2 server of the library and gives their sessions, which the library keeps to itself: without
 * them a client cannot be told to go before its connection is closed. Fails loudly if a new version keeps them elsewhere.
 */
function sessionInjector(server: Server): (socket: TLSSocket) => ServerHttp2Session {
  const { http2Servers } = server as unknown as { http2Servers?: Map<EventEmitter, unknown> };
  const before = new Set(http2Servers?.keys());
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const added = [...(http2Servers?.keys() ?? [])].find((one) => !before.has(one));
  if (added === undefined) throw new BugError('grpc-js keeps its HTTP/2 servers elsewhere now');
  let session: ServerHttp2Session | undefined;
  added.on('session', (one: ServerHttp2Session) => (session = one));
  return (socket) => {
    session = undefined;
    injector.injectConnection(socket);
    if (session === undefined) throw new BugError('an HTTP/2 session begins later now');
    return session;
  };
}
