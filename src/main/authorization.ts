import { createAuthorization, type Authorization } from '../agent/authorization/decide.js';
import { extAuthzHandlers } from '../agent/authorization/ext-authz.js';
import { extensionConfigHandlers, type ExtensionConfigHandlers } from '../agent/xds/extension-configs.js';
import type { Agent } from '../agent/agent.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import type { RegistrationSource } from '../cluster/access-view.js';
import { followRevokedTokens } from '../cluster/revoked-tokens.js';
import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Watched } from '../lib/watched.js';
import type { Random } from '../lib/random.js';
import { createRpcServer } from '../rpc/server.js';
import { authorizationService } from '../rpc/services.js';
import type { TlsIdentity } from '../rpc/tls/identity.js';
import type { Store } from '../store/store.js';
import { followAccessTerms } from './access-terms.js';
import type { ListenAddress } from './listen-address.js';

/** What the authorization services of one process are composed of. */
export interface AuthorizationParts {
  readonly store: Store;
  readonly settings: Watched<TrustDomainSettings>;
  readonly registrations: RegistrationSource;
  readonly agent: Agent;
  /** The bundle of the own trust domain, or of a federated one. */
  readonly bundleOf: (trustDomain: string) => TrustBundle | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly tellReasons: boolean;
}

/** Composes them over a live view of the policies and the token issuers of the trust domain. */
export function openAuthorization(parts: AuthorizationParts): {
  readonly authorization: Authorization;
  readonly extensionConfigs: ExtensionConfigHandlers;
  readonly close: () => void;
} {
  const { clock, random, logger, bundleOf, agent } = parts;
  const { store, settings, registrations } = parts;
  const revoked = followRevokedTokens(store, clock);
  // Envoys get the keys of issuers from here, so they fetch none and are no wiser or less wise than the validator.
  const terms = followAccessTerms({
    ...{ store, settings, registrations, clock, random, logger },
    bundles: bundleOf,
    revoked: revoked.reason,
  });
  const { views, tokens, issuers } = terms;
  const authorization = createAuthorization({
    ...{ views, tokens, clock, random, logger, calls: agent.parts, tellReasons: parts.tellReasons },
    knowsTrustDomain: (name) => bundleOf(name) !== undefined,
  });
  const { targets } = authorization;
  return {
    authorization,
    extensionConfigs: extensionConfigHandlers({
      ...{ views, targets, issuers, calls: agent.parts, clock, logger },
    }),
    close() {
      terms.close();
      revoked.close();
    },
  };
}

/** A port for Envoys that do not run on this machine. */
export interface AuthorizationPort extends ListenAddress {
  close(): Promise<void>;
}

/** What a port is made of. */
export interface AuthorizationPortOptions {
  readonly authorization: Authorization;
  readonly address: ListenAddress;
  readonly identity: TlsIdentity;
  /** Only its members are let in: nobody else is a workload whose requests are decided here. */
  readonly trustDomain: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** How long decisions that run have at the end, in milliseconds. */
const DRAIN_MS = 2000;

/**
 * Serves decisions, and nothing else, over mutual TLS. A server of its own: nothing of the Workload API or of the
 * administration can be reached through it.
 *
 * @throws ListenError
 */
export async function openAuthorizationPort(options: AuthorizationPortOptions): Promise<AuthorizationPort> {
  const { authorization, address, identity, trustDomain, clock, random, logger } = options;
  const server = createRpcServer({ logger, clock, random });
  server.service(authorizationService, extAuthzHandlers(authorization));
  try {
    const { port } = await server.listenTls({
      ...address,
      name: 'authorization',
      identity,
      authorize: (peer) =>
        peer.trustDomain === trustDomain
          ? { allowed: true }
          : { allowed: false, reason: `${peer.uri} is not of trust domain ${trustDomain}` },
    });
    return { address: address.address, port, close: () => server.drain(DRAIN_MS) };
  } catch (error) {
    await server.close();
    throw error;
  }
}
