import { CANONICAL_PATH_FILTER } from './connection-manager.js';
import type { EnvoyFilters } from './filters.js';
import type { EnvoyIssuer } from './issuers.js';
import { typed, type Json } from './predicate.js';
import { jwtFilter } from './token-filter.js';

/**
 * What comes before the filter that enforces, as the configuration of one filter: canonical paths, tokens, audited
 * policies. Nothing that is allowed depends on it being there: without it, more is refused.
 *
 * Tokens are verified also while no rule speaks of them, so that the first one that does finds them verified, whichever
 * of the two filters Envoy gets first.
 *
 * @param filters undefined while the policies cannot be read
 */
export function preparingFilter(
  filters: Pick<EnvoyFilters, 'audit' | 'refusesTokens'> | undefined,
  issuers: readonly EnvoyIssuer[],
): Json {
  const jwt = jwtFilter(issuers, { lenient: filters?.refusesTokens !== true });
  const chain = [CANONICAL_PATH_FILTER, ...(jwt === undefined ? [] : [jwt]), ...(filters?.audit ?? [])];
  const run = typed('envoy.extensions.filters.http.composite.v3.ExecuteFilterAction', {
    filter_chain: { typed_config: chain },
  });
  return typed('envoy.extensions.common.matching.v3.ExtensionWithMatcher', {
    extension_config: {
      name: 'envoy.filters.http.composite',
      typed_config: typed('envoy.extensions.filters.http.composite.v3.Composite'),
    },
    xds_matcher: { on_no_match: { action: { name: 'signet', typed_config: run } } },
  });
}
