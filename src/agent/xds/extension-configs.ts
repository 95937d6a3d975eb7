import type { HandlersOf } from '../../rpc/definition.js';
import type { ExtensionConfigDiscoveryServiceService } from '../../rpc/gen/envoy/extension/ecds.js';
import { DeltaFilters } from './delta.js';
import { SotwFilters } from './sotw.js';
import { serveFilterStream, type ExtensionConfigParts } from './subscriber.js';

/** Envoy's extension configuration discovery (v3), by method name. */
export type ExtensionConfigHandlers = Required<HandlersOf<typeof ExtensionConfigDiscoveryServiceService>>;

/**
 * Serves the filters of the workload whose Envoy asks, each again as soon as a policy, the time or the keys of a token
 * issuer make another of it. While the policies cannot be read, the filters that enforce deny everything.
 */
export function extensionConfigHandlers(parts: ExtensionConfigParts): ExtensionConfigHandlers {
  const { logger } = parts;
  return {
    streamExtensionConfigs: (requests, context, sink) =>
      serveFilterStream(parts, context, requests, (session) => new SotwFilters(logger, session, sink)),
    deltaExtensionConfigs: (requests, context, sink) =>
      serveFilterStream(parts, context, requests, (session) => new DeltaFilters(logger, session, sink)),
  };
}
