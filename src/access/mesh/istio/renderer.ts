import type { RenderContext, RenderedPart, Renderer } from '../renderer.js';
import type { Dialect, IstioMode } from './language.js';
import { authorizationPolicies, peerAuthentication } from './objects.js';
import { policyPart, type PartOptions } from './policy-part.js';
import { requestForm } from './request-form.js';
import { waypointObjects } from './waypoint-part.js';
import { hasAmbient, NO_WAYPOINTS, waypointMap } from './waypoints.js';
import { workloadPart } from './workload-part.js';

export interface IstioOptions {
  /** Istio's root namespace, whose objects hold in the whole mesh; `istio-system` unless said. */
  readonly rootNamespace?: string;
  /**
   * By the inventory unless said: `ambient` where a namespace or pod is labelled so, `sidecar` elsewhere. Objects for ambient
   * hold for sidecars too, and say less; objects for sidecars would not hold for ztunnel.
   */
  readonly mode?: IstioMode;
}

/**
 * Renders AuthorizationPolicies, and what they need to hold: RequestAuthentications for the tokens that rules ask for,
 * PeerAuthentications, and what refuses ambiguous requests: one EnvoyFilter, or a TrafficExtension for each waypoint.
 */
export function istioRenderer(options: IstioOptions = {}): Renderer {
  const root = options.rootNamespace ?? 'istio-system';
  const cache = new WeakMap<RenderContext, PartOptions>();
  const partOptions = (context: RenderContext): PartOptions => {
    const known = cache.get(context);
    if (known !== undefined) return known;
    const { inventory } = context;
    const mode = options.mode ?? (hasAmbient(inventory) ? 'ambient' : 'sidecar');
    const waypoints = mode === 'ambient' ? waypointMap(inventory) : NO_WAYPOINTS;
    const made = { root, dialect: dialectOf(mode, context), waypoints };
    cache.set(context, made);
    return made;
  };
  return {
    mesh: 'istio',
    renderPolicy: (policy, context) => policyPart(policy, context, partOptions(context)),
    renderWorkload: (workload, context) => workloadPart(workload, context, partOptions(context)),
    renderShared: (context) => sharedPart(context, partOptions(context)),
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
function sharedPart(context: RenderContext, options: PartOptions): RenderedPart {
  const { root, dialect } = options;
  const place = { name: ['signet-default'], placement: { namespace: root }, policies: [] };
  const closed =
    context.set.defaultAction === 'Deny'
      ? [...authorizationPolicies('ALLOW', [], place), peerAuthentication('STRICT', new Map(), place)]
      : [];
  const form = dialect.mode === 'sidecar' ? [requestForm(root)] : waypointObjects(context, options);
  return { objects: [...closed, ...form], verdicts: [] };
}
