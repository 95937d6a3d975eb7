import type { HandlersOf } from '../../rpc/definition.js';
import type { SecretDiscoveryServiceService } from '../../rpc/gen/envoy/secret/sds.js';
import type { DiscoveryResponse } from '../../rpc/gen/envoy/discovery/discovery.js';
import { openSession } from '../session.js';
import { DeltaSubscriber } from './delta.js';
import { type SdsNames, SECRET_TYPE_URL, type SecretStyle } from './secrets.js';
import { findSecrets, readNames, SotwSubscriber, versionOf } from './sotw.js';
import { checkTypeUrl, notGiven, type SdsParts, serveSubscriber } from './subscriber.js';

/** How the secret discovery service answers. */
export interface SdsOptions {
  /** Other names than `default`, `ROOTCA` and `ALL`. */
  readonly names?: Partial<SdsNames>;
  /** False: bundles as plain trusted CAs, for callers that do not know the SPIFFE certificate validator. */
  readonly spiffeValidator?: boolean;
}

/** Envoy's SecretDiscoveryService (v3), by method name. */
export type SdsHandlers = Required<HandlersOf<SecretDiscoveryServiceService>>;

export function createSds(parts: SdsParts, options: SdsOptions): SdsHandlers {
  const style: SecretStyle = {
    names: { defaultSvid: 'default', defaultBundle: 'ROOTCA', allBundles: 'ALL', ...options.names },
    spiffeValidator: options.spiffeValidator ?? true,
  };
  return {
    streamSecrets: (requests, context, sink) =>
      serveSubscriber(
        parts,
        context,
        requests,
        (session) => new SotwSubscriber(parts, session, sink, style),
        style,
      ),
    deltaSecrets: (requests, context, sink) =>
      serveSubscriber(
        parts,
        context,
        requests,
        (session) => new DeltaSubscriber(parts, session, sink, style),
        style,
      ),
    fetchSecrets: async (request, context): Promise<DiscoveryResponse> => {
      checkTypeUrl(request.typeUrl);
      const names = readNames(request.resourceNames, style);
      const session = await openSession(parts, context, 'unary');
      try {
        const deadline = parts.clock.monotonic() + parts.limits.holdMs;
        for (;;) {
          await session.refresh();
          const { found, missing } = findSecrets(session.view, names, style);
          if (missing.length === 0)
            return {
              versionInfo: versionOf(found),
              resources: found.map(({ resource }) => resource),
              canary: false,
              typeUrl: SECRET_TYPE_URL,
              nonce: '',
            };
          const left = deadline - parts.clock.monotonic();
          if (left <= 0) throw await notGiven(session, missing, style);
          session.hold();
          await session.waiter.wait(left);
        }
      } finally {
        session.close();
      }
    },
  };
}
