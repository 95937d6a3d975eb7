import type { PolicyStore } from '../agent/access/policy-store.js';
import type { Agent } from '../agent/agent.js';
import { createAuthorization, type Authorization } from '../agent/authorization/decide.js';
import type { Tokens } from '../agent/authorization/token.js';
import type { WatchedAuthorizationViews } from '../agent/authorization/view.js';
import { extensionConfigHandlers, type ExtensionConfigHandlers } from '../agent/xds/extension-configs.js';
import { followRevokedTokens } from '../cluster/revoked-tokens.js';
import { findTrustDomain, trustDomainSettings, type TrustDomainSettings } from '../cluster/trust-domain.js';
import { fetchDocument } from '../identity/tokens/fetch-document.js';
import { createTokenValidator, type TokenResult, type TokenValidator } from '../identity/tokens/validator.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { WatchedValue } from '../lib/watched.js';
import { followAccess, type LiveAccessView } from './access-view.js';
import { readIssuers } from './token-issuers.js';

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

/** All that follows from one TrustDomain. */
interface Term {
  readonly settings: TrustDomainSettings;
  readonly views: LiveAccessView;
  readonly validator: TokenValidator;
  readonly close: () => void;
}

/**
 * Decides by the policies that the server sends. Until the first of them have come, and when there is no TrustDomain (any
 * more) or it cannot be read, nothing is allowed; while the server is away, what it last said holds.
 */
export function openNodeAuthorization(parts: NodeAuthorizationParts): NodeAuthorization {
  const { policies, agent, clock, random } = parts;
  const logger = parts.logger.child({ component: 'authorization' });
  const listeners = new Set<() => void>();
  const issuers = new WatchedValue<ReturnType<TokenValidator['published']>>([]);
  const revoked = followRevokedTokens(policies, clock);
  let term: Term | undefined;
  let looked = false;

  const tell = (): void => {
    for (const listener of [...listeners]) listener();
  };
  const begin = (settings: TrustDomainSettings): Term => {
    const validator = createTokenValidator({
      issuers: readIssuers(settings.tokenIssuers),
      ...{ clock, random, logger, fetch: fetchDocument, bundles: (name) => agent.bundleOf(name) },
      revoked: revoked.reason,
      onKeys: () => issuers.set(validator.published()),
    });
    const views = followAccess({
      ...{ store: policies, registrations: policies, settings, clock, logger },
      sources: () => policies.sources(),
    });
    const unsubscribe = views.subscribe(tell);
    return {
      ...{ settings, views, validator },
      close() {
        unsubscribe();
        views.close();
        validator.close();
      },
    };
  };
  /** Begins anew where the TrustDomain says something else than before. */
  const refresh = (): void => {
    looked = policies.synced.value;
    const settings = settingsOf(policies, logger);
    if (JSON.stringify(settings) === JSON.stringify(term?.settings)) return;
    term?.close();
    term = undefined;
    try {
      if (settings !== undefined) term = begin(settings);
    } catch (thrown) {
      const { code, message } = SignetError.from(thrown);
      logger.error('the TrustDomain cannot be decided by, so nothing is allowed', { code, error: message });
    }
    issuers.set(term?.validator.published() ?? []);
    tell();
  };

  const unsubscribe = policies.subscribe((changes) => {
    if (!looked || changes.some(({ kind }) => kind === 'TrustDomain')) refresh();
  });
  refresh();
  const views: WatchedAuthorizationViews = {
    get current() {
      return term?.views.current;
    },
    subscribe(listener) {
      const own = (): void => listener();
      listeners.add(own);
      return () => void listeners.delete(own);
    },
  };
  const tokens: Tokens = {
    validate: (token) => term?.validator.validate(token) ?? Promise.resolve(NO_ISSUERS),
    validateCached: (token) => (term === undefined ? NO_ISSUERS : term.validator.validateCached(token)),
  };
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
      term?.close();
      term = undefined;
    },
  };
}

const NO_ISSUERS: TokenResult = {
  ok: false,
  code: 'TokenUnknownIssuer',
  reason: 'the token issuers are not known yet',
};

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
