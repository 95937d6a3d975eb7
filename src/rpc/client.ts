import type {
  CallOptions as LibraryCallOptions,
  ChannelCredentials,
  ChannelOptions,
  ClientDuplexStream,
  ClientReadableStream,
  ServiceError,
} from '@grpc/grpc-js';
import { Client, Metadata, connectivityState, credentials } from '@grpc/grpc-js';
import { systemClock, type Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import { systemRandom, type Random } from '../lib/random.js';
import type { MethodShape, RequestOf, ResponseOf, ServiceShape } from './definition.js';
import { HealthService } from './gen/grpc/health/v1/health.js';
import { AdminService } from './gen/signet/admin/v1/admin.js';
import { SpiffeWorkloadAPIService } from './gen/spiffe/workload.js';
import { isRequestId, REQUEST_ID } from './request-id.js';
import type { StatusName } from './service.js';
import { statusName } from './status.js';
import { SvidChannelCredentials } from './tls/channel.js';
import type { PeerAuthorizer, TlsIdentity } from './tls/identity.js';

/** A call that failed: with a status of the server, or because it was not reached (`Unavailable`). */
export class RpcError extends SignetError {
  readonly status: StatusName;
  /** What the server's log calls this call, if it says. */
  readonly requestId: string | undefined;

  constructor(status: StatusName, message: string, options?: { cause?: unknown; requestId?: string }) {
    super(`Rpc${status}`, message, options);
    this.status = status;
    this.requestId = options?.requestId;
  }
}

export interface CallOptions {
  /** From now, in milliseconds; after it the call fails with DeadlineExceeded. */
  readonly deadlineMs?: number;
  /** Cancels the call; it then fails with Cancelled. */
  readonly signal?: AbortSignal;
  /** Added to the client's own. Keys in lower case. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** A method as a function: a promise for one answer, an async iterable for a stream. Leaving the loop cancels. */
export type ClientMethod<M extends MethodShape> = M['requestStream'] extends true
  ? (requests: AsyncIterable<RequestOf<M>>, options?: CallOptions) => AsyncIterable<ResponseOf<M>>
  : M['responseStream'] extends true
    ? (request: RequestOf<M>, options?: CallOptions) => AsyncIterable<ResponseOf<M>>
    : (request: RequestOf<M>, options?: CallOptions) => Promise<ResponseOf<M>>;

/** A service's methods, by the names of its definition. */
export type TypedClient<D extends ServiceShape> = { readonly [K in keyof D]: ClientMethod<D[K]> };

export type WorkloadApiClient = TypedClient<typeof SpiffeWorkloadAPIService>;
export type AdminClient = TypedClient<typeof AdminService>;
export type HealthClient = TypedClient<typeof HealthService>;

/** One connection to a server, made on the first call, and anew when it broke. */
export interface RpcConnection {
  /** A client of any service; `metadata` goes with each of its calls. */
  client<D extends ServiceShape>(definition: D, metadata?: Readonly<Record<string, string>>): TypedClient<D>;
  /** The SPIFFE Workload API, with the security header that it demands. */
  workloadApi(): WorkloadApiClient;
  /** Signet's own administration. */
  admin(): AdminClient;
  health(): HealthClient;
  /** Ends the connection and its calls. */
  close(): void;
}

export interface ConnectOptions {
  /** For unary calls that do not say otherwise, in milliseconds; none unless said. */
  readonly deadlineMs?: number;
  /** The largest message taken, in bytes; 16 MiB unless said. */
  readonly maxMessageBytes?: number;
}

/** Where a server is; structurally what `parseEndpointAddress` gives. */
export type RpcAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

/** A connection over a unix socket at an absolute path. */
export function connectUnix(path: string, options: ConnectOptions = {}): RpcConnection {
  return connectRpc({ kind: 'unix', path }, options);
}

/** A connection over mutual TLS 1.3. */
export interface ConnectTlsOptions extends ConnectOptions {
  /** An IP address, or a DNS name of which all addresses are tried. */
  readonly host: string;
  readonly port: number;
  /** Each connection shows the newest SVID, and verifies the server by the newest bundles. */
  readonly identity: TlsIdentity;
  /** Which server is the right one, by its SPIFFE ID; host names and DNS SANs have no say. */
  readonly authorizeServer: PeerAuthorizer;
  /** `false` to come as nobody, for the call that brings the first SVID. */
  readonly showSvid?: boolean;
  /** While a call runs, the server must answer a ping of so often within so long; 30 and 10 seconds unless said. */
  readonly keepalive?: { readonly everyMs: number; readonly withinMs: number };
  readonly clock?: Clock;
  readonly random?: Random;
}

/**
 * A connection over mutual TLS. Nothing is sent before the first call. While it cannot be made, calls fail at once with
 * `Unavailable` and the reason, and it is tried again with back-off (100 ms to 5 s, on the given clock), also when nothing
 * answers the attempt before for 5 s. A server that
 * tells its clients to go gets no more calls, and those that it has finish.
 */
export function connectTls(options: ConnectTlsOptions): RpcConnection {
  const { host, port, keepalive } = options;
  const credentialsOf = (onStalled: () => void): ChannelCredentials =>
    new SvidChannelCredentials({
      ...{ host, identity: options.identity, authorizeServer: options.authorizeServer, onStalled },
      ...(options.showSvid === undefined ? {} : { showSvid: options.showSvid }),
      ...{ clock: options.clock ?? systemClock, random: options.random ?? systemRandom },
    });
  return connection(hostAndPort(host, port), credentialsOf, options, {
    'grpc.keepalive_time_ms': keepalive?.everyMs ?? 30_000,
    'grpc.keepalive_timeout_ms': keepalive?.withinMs ?? 10_000,
    // The credentials wait, on a clock that is given.
    'grpc.initial_reconnect_backoff_ms': 1,
    'grpc.max_reconnect_backoff_ms': 1,
    // No retry policy: only what a server that tells its clients to go has refused unseen is sent again.
    'grpc.enable_retries': 1,
  });
}

/** A connection to an address. Nothing is sent before the first call. */
export function connectRpc(address: RpcAddress, options: ConnectOptions = {}): RpcConnection {
  const target = address.kind === 'unix' ? `unix:${address.path}` : hostAndPort(address.host, address.port);
  return connection(target, () => credentials.createInsecure(), options, {
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 5000,
  });
}

function hostAndPort(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function connection(
  target: string,
  credentialsOf: (onStalled: () => void) => ChannelCredentials,
  options: ConnectOptions,
  more: ChannelOptions,
): RpcConnection {
  const open = (): Client =>
    new Client(target, credentialsOf(replaceStalled), {
      'grpc.enable_channelz': 0,
      // So that closing this client closes its socket, whatever other clients do.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.max_receive_message_length': options.maxMessageBytes ?? 16 * 1024 * 1024,
      // A caller decides what to repeat; the library would also keep each message for it.
      'grpc.enable_retries': 0,
      // A service config out of DNS has no place here.
      'grpc.service_config_disable_resolution': 1,
      'grpc.enable_http_proxy': 0,
      ...more,
    });
  /** The library leaves an attempt to connect to the kernel, however long that takes; a new channel makes another. */
  const replaceStalled = (): void => {
    const stalled = channel;
    // Another of the server's addresses answers.
    if (stalled.getChannel().getConnectivityState(false) === connectivityState.READY) return;
    channel = open();
    channel.getChannel().getConnectivityState(true);
    stalled.close();
  };
  let channel = open();
  const calls = new Set<RunningClientCall>();
  const clientOf = <D extends ServiceShape>(
    definition: D,
    metadata: Readonly<Record<string, string>> = {},
  ): TypedClient<D> => {
    const methods = Object.entries(definition).map(([name, method]) => [
      name,
      methodOf(() => channel, method, { metadata, calls, deadlineMs: options.deadlineMs }),
    ]);
    return Object.fromEntries(methods) as TypedClient<D>;
  };
  return {
    client: clientOf,
    // SPIFFE_Workload_Endpoint §6.1: without the header the server answers InvalidArgument.
    workloadApi: () => clientOf(SpiffeWorkloadAPIService, { 'workload.spiffe.io': 'true' }),
    admin: () => clientOf(AdminService),
    health: () => clientOf(HealthService),
    close(): void {
      for (const call of [...calls]) call.cancel();
      channel.close();
    },
  };
}

interface RunningClientCall {
  cancel(): void;
}

interface Defaults {
  /** Calls that run, so that closing the connection ends them. */
  readonly calls: Set<RunningClientCall>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly deadlineMs: number | undefined;
}

/** A method whose types were checked outside; inside, messages are opaque. */
interface OpaqueMethod {
  readonly path: string;
  readonly encode: (value: unknown) => Buffer;
  readonly decode: (bytes: Buffer) => unknown;
}

function methodOf(channel: () => Client, method: MethodShape, defaults: Defaults): unknown {
  const opaque: OpaqueMethod = {
    path: method.path,
    encode: method.requestSerialize as (value: unknown) => Buffer,
    decode: method.responseDeserialize,
  };
  if (method.requestStream)
    return (requests: AsyncIterable<unknown>, options?: CallOptions) =>
      bidi(channel(), opaque, requests, { options, defaults });
  if (method.responseStream)
    return (request: unknown, options?: CallOptions) =>
      serverStream(channel(), opaque, request, { options, defaults });
  return (request: unknown, options?: CallOptions) =>
    unary(channel(), opaque, request, { options, defaults });
}

interface Settings {
  readonly options: CallOptions | undefined;
  readonly defaults: Defaults;
}

function metadataOf({ options, defaults }: Settings): Metadata {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries({ ...defaults.metadata, ...options?.metadata }))
    metadata.set(key, value);
  return metadata;
}

function libraryOptions(deadlineMs: number | undefined): LibraryCallOptions {
  // The library counts deadlines on the machine's own clock.
  return deadlineMs === undefined ? {} : { deadline: systemClock.now() + deadlineMs };
}

function unary(
  channel: Client,
  method: OpaqueMethod,
  request: unknown,
  settings: Settings,
): Promise<unknown> {
  const { options, defaults } = settings;
  return new Promise((resolve, reject) => {
    if (options?.signal?.aborted === true) {
      reject(cancelled());
      return;
    }
    const onAbort = (): void => call.cancel();
    const call = channel.makeUnaryRequest(
      method.path,
      method.encode,
      method.decode,
      request,
      metadataOf(settings),
      libraryOptions(options?.deadlineMs ?? defaults.deadlineMs),
      (error, response) => {
        defaults.calls.delete(call);
        options?.signal?.removeEventListener('abort', onAbort);
        if (error !== null) reject(rpcError(error));
        else resolve(response);
      },
    );
    defaults.calls.add(call);
    options?.signal?.addEventListener('abort', onAbort, { once: true });
  });
}

async function* serverStream(
  channel: Client,
  method: OpaqueMethod,
  request: unknown,
  settings: Settings,
): AsyncGenerator<unknown, void, void> {
  if (settings.options?.signal?.aborted === true) throw cancelled();
  const call = channel.makeServerStreamRequest(
    method.path,
    method.encode,
    method.decode,
    request,
    metadataOf(settings),
    libraryOptions(settings.options?.deadlineMs),
  );
  yield* responsesOf(call, settings);
}

async function* bidi(
  channel: Client,
  method: OpaqueMethod,
  requests: AsyncIterable<unknown>,
  settings: Settings,
): AsyncGenerator<unknown, void, void> {
  if (settings.options?.signal?.aborted === true) throw cancelled();
  const call = channel.makeBidiStreamRequest(
    method.path,
    method.encode,
    method.decode,
    metadataOf(settings),
    libraryOptions(settings.options?.deadlineMs),
  );
  const sending = send(call, requests);
  try {
    yield* responsesOf(call, settings);
  } finally {
    sending.stop();
  }
}

/** Writes the requests one by one, each when the last has gone. */
function send(
  call: ClientDuplexStream<unknown, unknown>,
  requests: AsyncIterable<unknown>,
): { stop(): void } {
  const iterator = requests[Symbol.asyncIterator]();
  let stopped = false;
  const run = async (): Promise<void> => {
    for (;;) {
      const next = await iterator.next();
      if (stopped) return;
      if (next.done === true) break;
      await new Promise<void>((resolve) => call.write(next.value, () => resolve()));
    }
    call.end();
  };
  // A source that fails ends the call: the reader gets Cancelled.
  run().catch(() => call.cancel());
  return {
    stop(): void {
      stopped = true;
      // A source that waits for its next request may never look again: do not wait for it.
      iterator.return?.().catch(() => undefined);
    },
  };
}

async function* responsesOf(
  call: ClientReadableStream<unknown> | ClientDuplexStream<unknown, unknown>,
  { options, defaults }: Settings,
): AsyncGenerator<unknown, void, void> {
  const signal = options?.signal;
  const onAbort = (): void => call.cancel();
  signal?.addEventListener('abort', onAbort, { once: true });
  defaults.calls.add(call);
  // Cancelling below makes the library emit an error after nobody reads any more.
  call.on('error', () => undefined);
  try {
    for await (const message of call.iterator({ destroyOnReturn: false })) yield message as unknown;
  } catch (error) {
    throw isServiceError(error) ? rpcError(error) : error;
  } finally {
    defaults.calls.delete(call);
    signal?.removeEventListener('abort', onAbort);
    call.cancel();
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number';
}

/** The library, of calls that waited for a connection which is tried no more. */
const GIVEN_UP = 'Channel closed before call started';

function rpcError(error: ServiceError): RpcError {
  // The library's own errors have no metadata, whatever its types say.
  const requestId = (error.metadata as Metadata | undefined)?.get(REQUEST_ID)[0];
  const named = isRequestId(requestId) ? { requestId } : {};
  const message = error.details === GIVEN_UP ? 'no answer to an attempt to connect' : error.details;
  return new RpcError(statusName(error.code), message, { cause: error, ...named });
}

function cancelled(): RpcError {
  return new RpcError('Cancelled', 'the call was cancelled before it began');
}
