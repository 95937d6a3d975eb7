import { readFile } from 'node:fs/promises';
import { hasCode } from '../agent/files/set-directory.js';
import { connectToServer } from '../agent/remote/server-connection.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { createRemoteNodeApi, type HeldSvid } from '../rpc/node/remote-node-api.js';
import type { BundleUpdate, NodeApi } from '../rpc/node-api.js';
import { untilTrustDomain } from './agent-trust-domain.js';

/** How an agent in a cluster finds its server, and proves itself. */
export interface AgentConnectionOptions {
  /** That of the trust bundle unless said. */
  readonly trustDomain?: string;
  readonly server: { readonly host: string; readonly port: number };
  /** Of the projected service-account token. */
  readonly tokenFile: string;
  /** Of the trust bundle, for the first contact. */
  readonly bundleFile: string;
  /** What counts while the file is not there: the bundle as it was when this process was started. */
  readonly startBundle?: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Stops trying. */
  readonly signal: AbortSignal;
}

/** The server, as it has taken this agent. */
export interface AgentConnection {
  readonly nodeName: string;
  /** The pod that this agent is. */
  readonly podUid: string;
  readonly api: NodeApi;
  close(): void;
}

/**
 * Attests this node. Tries until the server has taken it, or the signal is aborted. `svidOf` is asked later on, for the
 * server's statuses.
 */
export async function openAgentConnection(
  options: AgentConnectionOptions,
  svidOf: (registrationId: string) => HeldSvid | undefined,
): Promise<AgentConnection> {
  const { clock, random, logger, signal } = options;
  const readBundle = (): Promise<string> => bundleOf(options.bundleFile, options.startBundle);
  const trustDomain = options.trustDomain ?? (await untilTrustDomain(readBundle, { clock, logger, signal }));
  let token = '';
  const server = await connectToServer(
    {
      ...{ trustDomain, ...options.server, keyType: 'ec-p256', clock, random, logger, readBundle },
      readToken: async () => (token = await readFile(options.tokenFile, 'utf8')),
    },
    signal,
  );
  const remote = createRemoteNodeApi(() => server.rpc, trustDomain, svidOf);
  return {
    ...{ nodeName: server.nodeName, podUid: podOfToken(token) },
    api: {
      ...remote,
      bundles: (until) =>
        tapped(remote.bundles(until), ({ own, taintedX509 }) => server.learn(own, taintedX509)),
    },
    close: () => server.close(),
  };
}

/**
 * The bundle of the file, or the one of the start while there is no file: the kubelet writes a volume that was mounted empty
 * up to a minute and a half after the container has started.
 */
export async function bundleOf(file: string, atStart?: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (atStart === undefined || !hasCode(error, 'ENOENT')) throw error;
    return atStart;
  }
}

/** Shows each update to the connection as well, which lives by the same bundle. */
async function* tapped(
  updates: AsyncIterable<BundleUpdate>,
  show: (update: BundleUpdate) => void,
): AsyncIterable<BundleUpdate> {
  for await (const update of updates) {
    show(update);
    yield update;
  }
}

/** The pod that a service-account token is bound to; the server has verified it. Empty when it says none. */
function podOfToken(token: string): string {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
    const { 'kubernetes.io': bound } = claims as Readonly<
      Record<string, { readonly pod?: { readonly uid?: unknown } } | undefined>
    >;
    const uid = bound?.pod?.uid;
    return typeof uid === 'string' ? uid : '';
  } catch {
    return '';
  }
}
