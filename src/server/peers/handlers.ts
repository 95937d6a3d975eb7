import type { HandlersOf } from '../../rpc/definition.js';
import { StatusError, type CallContext } from '../../rpc/service.js';
import type { peerService } from '../../rpc/services.js';
import type { ProgressItem } from '../controllers/revocation/progress.js';
import type { RevocationReach } from '../controllers/revocation/reach.js';
import { SERVER_PATH } from '../node-service/agent-id.js';
import type { SvidLedger } from '../svid-ledger.js';

/** What other replicas report is given to. */
export interface PeerReports {
  readonly svids: Pick<SvidLedger, 'note'>;
  readonly revocations: Pick<RevocationReach, 'reported'>;
}

/** The handlers of `signet.peer.v1.Peer`, which replicas of this server may call and nobody else. */
export function peerHandlers(
  { svids: ledger, revocations: reach }: PeerReports,
  trustDomain: string,
): HandlersOf<typeof peerService> {
  const requireServer = ({ peer: { spiffeId } }: CallContext): void => {
    if (spiffeId?.trustDomain === trustDomain && spiffeId.path === SERVER_PATH) return;
    const who = spiffeId?.uri ?? 'a client without an SVID';
    throw new StatusError('PermissionDenied', `${who} is not the server itself`, { code: 'NotTheServer' });
  };
  return {
    reportSvids({ svids }, context) {
      requireServer(context);
      for (const svid of svids) ledger.note(svid);
      return Promise.resolve({});
    },
    reportRevocations({ epoch, revocations, agents }, context) {
      requireServer(context);
      reach.reported(epoch, [
        ...revocations.map((one): ProgressItem => ({ kind: 'revocation', ...one })),
        ...agents.map((one): ProgressItem => ({ kind: 'agent', ...one })),
      ]);
      return Promise.resolve({});
    },
  };
}
