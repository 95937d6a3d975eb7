import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WatchedValue } from '../../src/lib/watched.js';
import { silentLogger } from '../../src/lib/logger.js';
import {
  SpiffeWorkloadAPIService,
  type JWTBundlesResponse,
  type JWTSVIDRequest,
  type JWTSVIDResponse,
  type X509SVIDResponse,
} from '../../src/rpc/gen/spiffe/workload.js';
import { createRpcServer, type RpcServer } from '../../src/rpc/server.js';
import { StatusError, type CallContext, type MessageSink } from '../../src/rpc/service.js';
import type { TestSvid } from './test-authority.js';

/** What FetchX509SVID says: an answer, or the status it ends with. */
export type X509Answer = X509SVIDResponse | StatusError;

export function x509Answer(
  svids: readonly TestSvid[],
  bundle: readonly Uint8Array[],
  federated: Readonly<Record<string, readonly Uint8Array[]>> = {},
): X509SVIDResponse {
  return {
    svids: svids.map(({ spiffeId, chain, key }) => ({
      spiffeId,
      x509Svid: Buffer.from(chain),
      x509SvidKey: Buffer.from(key),
      bundle: Buffer.concat(bundle),
      hint: '',
    })),
    crl: [],
    federatedBundles: Object.fromEntries(
      Object.entries(federated).map(([name, ders]) => [`spiffe://${name}`, Buffer.concat(ders)]),
    ),
  };
}

/** A Workload API on a real unix socket that says what a test tells it to. */
export class FakeWorkloadApi {
  readonly address: string;
  readonly path: string;
  /** Setting it pushes to every open stream. */
  readonly x509: WatchedValue<X509Answer>;
  readonly jwtBundles = new WatchedValue<JWTBundlesResponse | StatusError>({ bundles: {} });
  /** Every FetchJWTSVID. */
  readonly jwtRequests: JWTSVIDRequest[] = [];
  answerJwt: (request: JWTSVIDRequest) => Promise<JWTSVIDResponse> = () =>
    Promise.reject(new StatusError('PermissionDenied', 'no identity issued'));
  /** How often FetchX509SVID was called. */
  x509Calls = 0;
  readonly #directory: string;
  readonly #server: RpcServer;

  private constructor(directory: string, initial: X509Answer) {
    this.#directory = directory;
    this.path = join(directory, 'api.sock');
    this.address = `unix://${this.path}`;
    this.x509 = new WatchedValue(initial);
    this.#server = createRpcServer({ logger: silentLogger });
    this.#server.service(SpiffeWorkloadAPIService, {
      fetchX509Svid: (_request, context, sink) => {
        this.x509Calls++;
        return stream(this.x509, context, sink);
      },
      fetchJwtBundles: (_request, context, sink) => stream(this.jwtBundles, context, sink),
      fetchJwtsvid: (request) => {
        this.jwtRequests.push(request);
        return this.answerJwt(request);
      },
    });
  }

  static async start(initial: X509Answer): Promise<FakeWorkloadApi> {
    const api = new FakeWorkloadApi(await mkdtemp(join(tmpdir(), 'signet-api-')), initial);
    await api.listen();
    return api;
  }

  async listen(): Promise<void> {
    await this.#server.listenUnix({ path: this.path, mode: 0o600, name: 'shared', peerCredentials: false });
  }

  async stop(): Promise<void> {
    await this.#server.close();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** Writes the newest value, and again at each change, until the call ends or a status is set. */
async function stream<Message>(
  source: WatchedValue<Message | StatusError>,
  context: CallContext,
  sink: MessageSink<Message>,
): Promise<void> {
  if (context.metadata('workload.spiffe.io') !== 'true') {
    throw new StatusError('InvalidArgument', 'security header missing from request');
  }
  for (;;) {
    const changed = Promise.withResolvers<undefined>();
    const stop = source.watch(() => changed.resolve(undefined));
    const onAbort = (): void => changed.resolve(undefined);
    context.signal.addEventListener('abort', onAbort, { once: true });
    try {
      const { value } = source;
      if (value instanceof StatusError) throw value;
      await sink.write(value);
      await changed.promise;
    } finally {
      stop();
      context.signal.removeEventListener('abort', onAbort);
    }
    if (context.signal.aborted) return;
  }
}
