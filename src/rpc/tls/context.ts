import { constants } from 'node:crypto';
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls';
import { SignetError } from '../../lib/errors.js';
import type { TlsIdentity, TlsSvid } from './identity.js';

/** What both ends say of every connection: TLS 1.3 and nothing older. */
export const TLS_BOUNDS = {
  minVersion: 'TLSv1.3',
  // No session tickets: a resumed session would let in a peer whose SVID is over, or was never checked for this use.
  secureOptions: constants.SSL_OP_NO_TICKET,
} as const satisfies SecureContextOptions;

/**
 * A context that shows an SVID, or nothing. It names no authorities, since we verify by ourselves: clients in Go and Java
 * would hold back a certificate whose issuer is not among them, and with many federated trust domains the list would be
 * long.
 */
export function contextOf(svid: TlsSvid | undefined): SecureContext {
  return createSecureContext({
    ...TLS_BOUNDS,
    ca: [],
    sessionIdContext: 'signet',
    ...(svid === undefined ? {} : { cert: svid.cert, key: svid.key }),
  });
}

/** The context of the handshakes of this moment. */
export interface LiveContext {
  /** Undefined while there is no SVID. */
  readonly current: SecureContext | undefined;
  close(): void;
}

/** Follows an identity. An SVID that cannot be put into use is told to `failed`, and the one before stays. */
export function followContext(
  identity: Pick<TlsIdentity, 'svid'>,
  failed: (error: SignetError) => void,
): LiveContext {
  let current: SecureContext | undefined;
  const take = (svid: TlsSvid | undefined): void => {
    try {
      current = svid === undefined ? undefined : contextOf(svid);
    } catch (thrown) {
      failed(SignetError.from(thrown));
    }
  };
  take(identity.svid.value);
  const stop = identity.svid.watch(take);
  return {
    get current() {
      return current;
    },
    close: stop,
  };
}
