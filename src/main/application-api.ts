import type { HttpServer } from '../rpc/http/server.js';
import type { ListenAddress } from './listen-address.js';
import type { OwnIdentity } from './own-identity.js';

/** Where the decision API for applications is served over mutual TLS. */
export interface ApplicationPortOptions {
  readonly server: HttpServer;
  readonly address: ListenAddress;
  readonly own: OwnIdentity;
  /** Only its members are let in: nobody else is a workload whose requests are decided here. */
  readonly trustDomain: string;
}

/** The address, and the SPIFFE ID that answers there. */
export interface ApplicationPort {
  readonly address: string;
  readonly spiffeID: string;
}

/**
 * Serves AuthZEN and OPA's Data API on a port, too.
 *
 * @throws SignetError `ListenFailed`
 */
export async function openApplicationPort(options: ApplicationPortOptions): Promise<ApplicationPort> {
  const { server, address, own, trustDomain } = options;
  const { path } = await server.listenHttps({
    ...address,
    name: 'applications',
    identity: own,
    authorize: (peer) =>
      peer.trustDomain === trustDomain
        ? { allowed: true }
        : { allowed: false, reason: `${peer.uri} is not of trust domain ${trustDomain}` },
  });
  return { address: path, spiffeID: own.spiffeId.uri };
}
