import type { Tokens } from '../agent/authorization/token.js';
import type { WatchedAuthorizationViews } from '../agent/authorization/view.js';
import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import { fetchDocument } from '../identity/tokens/fetch-document.js';
import {
  createTokenValidator,
  type TokenResult,
  type TokenValidator,
  type TokenValidatorOptions,
} from '../identity/tokens/validator.js';
import { SignetError } from '../lib/errors.js';
import { type Watched, WatchedValue } from '../lib/watched.js';
import { followAccess, type LiveAccessView, type LiveAccessViewOptions } from './access-view.js';
import { readIssuers } from './token-issuers.js';

/** What decisions follow from. */
export interface AccessTermsOptions
  extends
    Omit<LiveAccessViewOptions, 'settings'>,
    Required<Pick<TokenValidatorOptions, 'bundles' | 'random' | 'revoked'>> {
  /** Undefined while there is no TrustDomain to decide by: nothing is allowed then. */
  readonly settings: Watched<TrustDomainSettings | undefined>;
}

/** What decisions are made from, as the TrustDomain has it now. */
export interface AccessTerms {
  readonly views: WatchedAuthorizationViews;
  readonly tokens: Tokens;
  /** The token issuers, with the keys that are known of them. */
  readonly issuers: Watched<ReturnType<TokenValidator['published']>>;
  close(): void;
}

/** All that follows from one TrustDomain. */
interface Term {
  readonly views: LiveAccessView;
  readonly validator: TokenValidator;
  readonly close: () => void;
}

const NO_ISSUERS: TokenResult = {
  ok: false,
  code: 'TokenUnknownIssuer',
  reason: 'the token issuers are not known yet',
};

/** Begins anew where the TrustDomain says something else for decisions than before. */
export function followAccessTerms(options: AccessTermsOptions): AccessTerms {
  const { settings: live, clock, random, logger, bundles, revoked } = options;
  const listeners = new Set<() => void>();
  const issuers = new WatchedValue<ReturnType<TokenValidator['published']>>([]);
  let term: Term | undefined;
  let text = '';

  const tell = (): void => {
    for (const listener of [...listeners]) listener();
  };
  const begin = (settings: TrustDomainSettings): Term => {
    const validator = createTokenValidator({
      issuers: readIssuers(settings.tokenIssuers),
      ...{ clock, random, logger, fetch: fetchDocument, bundles, revoked },
      onKeys: () => issuers.set(validator.published()),
    });
    const views = followAccess({ ...options, settings });
    const unsubscribe = views.subscribe(tell);
    return {
      ...{ views, validator },
      close() {
        unsubscribe();
        views.close();
        validator.close();
      },
    };
  };
  const refresh = (): void => {
    const settings = live.value;
    const next = settings === undefined ? '' : textOf(settings);
    if (next === text) return;
    text = next;
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
  const unsubscribe = live.watch(refresh);
  refresh();
  return {
    views: {
      get current() {
        return term?.views.current;
      },
      subscribe(listener) {
        const own = (): void => listener();
        listeners.add(own);
        return () => void listeners.delete(own);
      },
    },
    tokens: {
      validate: (token) => term?.validator.validate(token) ?? Promise.resolve(NO_ISSUERS),
      validateCached: (token) => (term === undefined ? NO_ISSUERS : term.validator.validateCached(token)),
    },
    issuers,
    close() {
      unsubscribe();
      term?.close();
      term = undefined;
    },
  };
}

/** What decisions ask of the settings. */
function textOf({ name, defaultAction, tokenIssuers }: TrustDomainSettings): string {
  return JSON.stringify([name, defaultAction, tokenIssuers]);
}
