import type { RenderContext, RenderedPart, Renderer } from '../renderer.js';
import type { Dialect, IstioMode } from './language.js';
import { authorizationPolicies, peerAuthentication } from './objects.js';
import { policyPart, type PartOptions } from './policy-part.js';
import { requestForm } from './request-form.js';
import { workloadPart } from './workload-part.js';

export interface IstioOptions {
  /** Istio's root namespace, whose objects hold in the whole mesh; `istio-system` unless said. */
  readonly rootNamespace?: string;
  /** `sidecar` unless said; `ambient` is ztunnel alone, which sees connections and no HTTP. */
  readonly mode?: IstioMode;
}

/**
 * Renders AuthorizationPolicies, and what they need to hold: RequestAuthentications for the tokens that rules ask for,
 * PeerAuthentications, and one EnvoyFilter that refuses ambiguous requests.
 */
export function istioRenderer(options: IstioOptions = {}): Renderer {
  const root = options.rootNamespace ?? 'istio-system';
  const mode = options.mode ?? 'sidecar';
  const cache = new WeakMap<RenderContext, PartOptions>();
  const partOptions = (context: RenderContext): PartOptions => {
    const known = cache.get(context);
    if (known !== undefined) return known;
    const made = { root, dialect: dialectOf(mode, context) };
    cache.set(context, made);
    return made;
  };
  return {
    mesh: 'istio',
    renderPolicy: (policy, context) => policyPart(policy, context, partOptions(context)),
    renderWorkload: (workload, context) => workloadPart(workload, context, partOptions(context)),
    renderShared: (context) => sharedPart(context, root, mode),
  };
}

function dialectOf(mode: IstioMode, { inventory, issuers = [] }: RenderContext): Dialect {
  return {
    mode,
    trustDomains: [inventory.trustDomain, ...(inventory.trustDomainAliases ?? [])],
    issuers: issuers.map(({ issuer }) => issuer),
  };
}

/** What holds in the whole mesh: the default, and the form of requests. */
function sharedPart({ set }: RenderContext, root: string, mode: IstioMode): RenderedPart {
  const place = { name: ['signet-default'], placement: { namespace: root }, policies: [] };
  const closed =
    set.defaultAction === 'Deny'
      ? [...authorizationPolicies('ALLOW', [], place), peerAuthentication('STRICT', new Map(), place)]
      : [];
  return { objects: [...closed, ...(mode === 'sidecar' ? [requestForm(root)] : [])], verdicts: [] };
}
