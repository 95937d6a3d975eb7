import type { Clock } from '../lib/clock.js';
import type { Random } from '../lib/random.js';
import { connectTls } from '../rpc/client.js';
import { peerService } from '../rpc/services.js';
import type { TlsIdentity } from '../rpc/tls/identity.js';
import { SERVER_PATH } from '../server/node-service/agent-id.js';
import type { PeerLink } from '../server/peers/svid-reporter.js';
import { parseServerAddress } from './server-address.js';

/** How one replica reaches another. */
export interface PeerLinkParts {
  readonly trustDomain: string;
  /** Of this replica, which is that of the other as well. */
  readonly identity: TlsIdentity;
  readonly clock: Clock;
  readonly random: Random;
}

const DEADLINE_MS = 10_000;

/** A connection to the replica at this address (`ip:port`), made on the first call. */
export function peerLink({ trustDomain, identity, clock, random }: PeerLinkParts, address: string): PeerLink {
  const server = `spiffe://${trustDomain}${SERVER_PATH}`;
  const connection = connectTls({
    ...{ ...parseServerAddress(address), identity, clock, random },
    authorizeServer: ({ uri }) =>
      uri === server ? { allowed: true } : { allowed: false, reason: `${uri} is not ${server}` },
  });
  const peer = connection.client(peerService);
  return {
    async report(svids, signal) {
      await peer.reportSvids({ svids: [...svids] }, { deadlineMs: DEADLINE_MS, signal });
    },
    close: () => connection.close(),
  };
}
