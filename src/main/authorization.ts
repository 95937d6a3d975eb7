import { createAuthorization, type Authorization } from '../agent/authorization/decide.js';
import { extensionConfigHandlers, type ExtensionConfigHandlers } from '../agent/xds/extension-configs.js';
import type { Tokens } from '../agent/authorization/token.js';
import type { Agent } from '../agent/agent.js';
import { createTokenValidator } from '../identity/tokens/validator.js';
import { fetchDocument } from '../identity/tokens/fetch-document.js';
import { readTokenIssuers, type IssuerSettings } from '../identity/tokens/issuer-config.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import type { RegistrationSource } from '../cluster/access-view.js';
import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import type { Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { TokenIssuer } from '../resources/identity.js';
import type { Store } from '../store/store.js';
import { followAccess } from './access-view.js';

/** What the authorization services of one process are composed of. */
export interface AuthorizationParts {
  readonly store: Store;
  readonly settings: TrustDomainSettings;
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
  const validator = createTokenValidator({
    issuers: readIssuers(parts.settings.tokenIssuers),
    ...{ clock, random, logger, fetch: fetchDocument, bundles: bundleOf },
  });
  const tokens: Tokens = validator;
  const views = followAccess(parts);
  const authorization = createAuthorization({
    ...{ views, tokens, clock, random, logger, calls: agent.parts, tellReasons: parts.tellReasons },
    knowsTrustDomain: (name) => bundleOf(name) !== undefined,
  });
  const { targets } = authorization;
  return {
    authorization,
    extensionConfigs: extensionConfigHandlers({ views, targets, calls: agent.parts, clock, logger }),
    close() {
      views.close();
      validator.close();
    },
  };
}

/**
 * The issuers as the validator reads them.
 *
 * @throws SignetError `TokenIssuersInvalid`
 */
function readIssuers(issuers: readonly TokenIssuer[]): readonly IssuerSettings[] {
  return readTokenIssuers(
    issuers.map(({ caBundle, jwks, trustDomain, ...issuer }, index) => ({
      ...issuer,
      ...(trustDomain === undefined ? {} : { kind: 'spiffe', trustDomain }),
      ...(caBundle === undefined ? {} : { caPem: caBundle }),
      ...(jwks === undefined ? {} : { jwks: parseJwks(jwks, index) }),
    })),
  );
}

function parseJwks(text: string, index: number): unknown {
  try {
    return JSON.parse(text);
  } catch (thrown) {
    throw new SignetError(
      'TokenIssuersInvalid',
      `spec.tokenIssuers[${index}].jwks is no JSON; write {"keys": [...]}`,
      { cause: thrown },
    );
  }
}
