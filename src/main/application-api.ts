import { applicationRoutes } from '../agent/applications/routes.js';
import type { Authorization } from '../agent/authorization/decide.js';
import { SHARED_LISTENER } from '../agent/session.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { createHttpServer, type HttpServer } from '../rpc/http/server.js';
import { linuxPeerCredentials } from '../rpc/peer/linux.js';
import type { OwnIdentity } from './own-identity.js';
import type { ListenAddress } from './listen-address.js';

/** What the decision API for applications is made of. */
export interface ApplicationApiOptions {
  readonly authorization: Authorization;
  /** For applications that the kernel tells apart. */
  readonly sharedSocket: string;
  /** Where it is served over mutual TLS, too. */
  readonly address: ListenAddress | undefined;
  readonly own: () => Promise<OwnIdentity>;
  /** Only its members are let in over TLS: nobody else is a workload whose requests are decided here. */
  readonly trustDomain: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** The decision API, open. */
export interface ApplicationApi {
  /** For the sockets of pods. */
  readonly server: HttpServer;
  /** Where it is served over mutual TLS, and the SPIFFE ID that answers. */
  readonly port: { readonly address: string; readonly spiffeID: string } | undefined;
}

/**
 * Serves AuthZEN and OPA's Data API to the applications of this node.
 *
 * @throws SocketFileError, SignetError `ListenFailed`; nothing is left open then
 */
export async function openApplicationApi(options: ApplicationApiOptions): Promise<ApplicationApi> {
  const { authorization, address, trustDomain, clock, random } = options;
  const logger = options.logger.child({ component: 'applications' });
  const routes = applicationRoutes({ authorization, clock });
  const server = createHttpServer({ routes, clock, random, logger, peerCredentials: linuxPeerCredentials });
  try {
    await server.listenUnix({
      path: options.sharedSocket,
      // Everybody may connect; who it is, the kernel says.
      mode: 0o666,
      name: SHARED_LISTENER,
      peerCredentials: true,
    });
    if (address === undefined) return { server, port: undefined };
    const own = await options.own();
    const { path } = await server.listenHttps({
      ...address,
      name: 'applications',
      identity: own,
      authorize: (peer) =>
        peer.trustDomain === trustDomain
          ? { allowed: true }
          : { allowed: false, reason: `${peer.uri} is not of trust domain ${trustDomain}` },
    });
    return { server, port: { address: path, spiffeID: own.spiffeId.uri } };
  } catch (error) {
    await server.close();
    throw error;
  }
}
