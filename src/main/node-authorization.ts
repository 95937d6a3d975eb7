import type { PolicyStore } from '../agent/access/policy-store.js';
import type { Agent } from '../agent/agent.js';
import { createAuthorization, type Authorization } from '../agent/authorization/decide.js';
import { extensionConfigHandlers, type ExtensionConfigHandlers } from '../agent/xds/extension-configs.js';
import { followRevokedTokens } from '../cluster/revoked-tokens.js';
import { findTrustDomain, trustDomainSettings, type TrustDomainSettings } from '../cluster/trust-domain.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { WatchedValue } from '../lib/watched.js';
import { followAccessTerms } from './access-terms.js';

/** What decisions of an agent in a cluster are composed of. */
export interface NodeAuthorizationParts {
  /** The one that `agent` fills. */
  readonly policies: PolicyStore;
  readonly agent: Agent;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Whether callers are told why they were denied. */
  readonly tellReasons: boolean;
}

/** Decisions by what the server sends, and filters for Envoys. */
export interface NodeAuthorization {
  readonly authorization: Authorization;
  readonly extensionConfigs: ExtensionConfigHandlers;
  close(): void;
}

/**
 * Decides by the policies that the server sends. Until the first of them have come, and when there is no TrustDomain (any
 * more) or it cannot be read, nothing is allowed; while the server is away, what it last said holds.
 */
export function openNodeAuthorization(parts: NodeAuthorizationParts): NodeAuthorization {
  const { policies, agent, clock, random } = parts;
  const logger = parts.logger.child({ component: 'authorization' });
  const revoked = followRevokedTokens(policies, clock);
  const settings = new WatchedValue(settingsOf(policies, logger));
  let looked = policies.synced.value;
  const unsubscribe = policies.subscribe((changes) => {
    if (looked && !changes.some(({ kind }) => kind === 'TrustDomain')) return;
    looked = policies.synced.value;
    settings.set(settingsOf(policies, logger));
  });
  const { views, tokens, issuers, close } = followAccessTerms({
    ...{ store: policies, registrations: policies, settings, clock, random, logger },
    sources: () => policies.sources(),
    bundles: (name) => agent.bundleOf(name),
    revoked: revoked.reason,
  });
  const authorization = createAuthorization({
    ...{ views, tokens, clock, random, logger, calls: agent.parts, tellReasons: parts.tellReasons },
    knowsTrustDomain: (name) => agent.bundleOf(name) !== undefined,
  });
  return {
    authorization,
    extensionConfigs: extensionConfigHandlers({
      ...{ views, issuers, clock, logger, calls: agent.parts, targets: authorization.targets },
    }),
    close() {
      unsubscribe();
      revoked.close();
      close();
    },
  };
}

/** What the TrustDomain says now; undefined when there is none, or none that can be read. */
function settingsOf(policies: PolicyStore, logger: Logger): TrustDomainSettings | undefined {
  if (!policies.synced.value) return undefined;
  try {
    const resource = findTrustDomain(policies);
    if (resource !== undefined) return trustDomainSettings({ resource });
    logger.error('there is no TrustDomain (any more), so nothing is allowed');
  } catch (thrown) {
    const { code, message } = SignetError.from(thrown);
    logger.error('the TrustDomain cannot be read, so nothing is allowed', { code, error: message });
  }
  return undefined;
}
