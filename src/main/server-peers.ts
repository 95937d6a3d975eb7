import type { Clock } from '../lib/clock.js';
import type { Random } from '../lib/random.js';
import { connectTls, type TypedClient } from '../rpc/client.js';
import { peerService } from '../rpc/services.js';
import type { TlsIdentity } from '../rpc/tls/identity.js';
import { SERVER_PATH } from '../server/node-service/agent-id.js';
import type { ProgressItem } from '../server/controllers/revocation/progress.js';
import type { IssuedSvid } from '../server/issued-svids.js';
import type { PeerLink } from '../server/peers/reporter.js';
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

/** Tells the replica at this address (`ip:port`) of SVIDs; the connection is made on the first call. */
export function svidLink(parts: PeerLinkParts, address: string): PeerLink<IssuedSvid> {
  const { peer, close } = connectPeer(parts, address);
  return {
    async report(svids, signal) {
      await peer.reportSvids({ svids: [...svids] }, { deadlineMs: DEADLINE_MS, signal });
    },
    close,
  };
}

/** Tells the replica at this address how far agents are with revocations, by the revisions of this epoch. */
export function revocationLink(parts: PeerLinkParts, epoch: string, address: string): PeerLink<ProgressItem> {
  const { peer, close } = connectPeer(parts, address);
  return {
    async report(items, signal) {
      const request = {
        epoch,
        revocations: items.filter((item) => item.kind === 'revocation'),
        agents: items.filter((item) => item.kind === 'agent'),
      };
      await peer.reportRevocations(request, { deadlineMs: DEADLINE_MS, signal });
    },
    close,
  };
}

function connectPeer(
  { trustDomain, identity, clock, random }: PeerLinkParts,
  address: string,
): { readonly peer: TypedClient<typeof peerService>; close(): void } {
  const server = `spiffe://${trustDomain}${SERVER_PATH}`;
  const connection = connectTls({
    ...{ ...parseServerAddress(address), identity, clock, random },
    authorizeServer: ({ uri }) =>
      uri === server ? { allowed: true } : { allowed: false, reason: `${uri} is not ${server}` },
  });
  return { peer: connection.client(peerService), close: () => connection.close() };
}
