import { formatBundleDocument, parseBundleDocument } from '../../identity/spiffe/bundle-document.js';
import type { BundleUpdate as Message } from '../gen/signet/node/v1/node.js';
import type { BundleUpdate } from '../node-api.js';

/** The bundles as they go to an agent. */
export function bundleMessage({
  own,
  federated,
  taintedX509,
  taintedJwt,
  revokedSerials,
  revocations,
}: BundleUpdate): Message {
  return {
    own: formatBundleDocument(own),
    federated: federated.map((bundle) => ({
      trustDomain: bundle.trustDomain,
      document: formatBundleDocument(bundle),
    })),
    taintedX509: [...taintedX509],
    taintedJwt: [...taintedJwt],
    revokedSerials: [...(revokedSerials ?? [])],
    revocations,
  };
}

/**
 * The reverse of {@link bundleMessage}.
 *
 * @throws BundleError
 */
export function bundlesFrom(message: Message, trustDomain: string): BundleUpdate {
  return {
    own: parseBundleDocument(trustDomain, message.own),
    federated: message.federated.map((one) => parseBundleDocument(one.trustDomain, one.document)),
    taintedX509: message.taintedX509,
    taintedJwt: message.taintedJwt,
    revokedSerials: message.revokedSerials,
    ...(message.revocations === undefined ? {} : { revocations: message.revocations }),
  };
}
