import type { HandlersOf } from '../../rpc/definition.js';
import { StatusError } from '../../rpc/service.js';
import type { peerService } from '../../rpc/services.js';
import { SERVER_PATH } from '../node-service/agent-id.js';
import type { SvidLedger } from '../svid-ledger.js';

/** The handlers of `signet.peer.v1.Peer`, which replicas of this server may call and nobody else. */
export function peerHandlers(
  ledger: Pick<SvidLedger, 'note'>,
  trustDomain: string,
): HandlersOf<typeof peerService> {
  return {
    reportSvids({ svids }, { peer: { spiffeId } }) {
      if (spiffeId?.trustDomain !== trustDomain || spiffeId.path !== SERVER_PATH) {
        const who = spiffeId?.uri ?? 'a client without an SVID';
        throw new StatusError('PermissionDenied', `${who} is not the server itself`, {
          code: 'NotTheServer',
        });
      }
      for (const svid of svids) ledger.note(svid);
      return Promise.resolve({});
    },
  };
}
