/** The parts of Istio's security.istio.io/v1 that are rendered. Lists are never empty: an empty one means "any". */
export interface IstioSource {
  readonly principals?: readonly string[];
  readonly notPrincipals?: readonly string[];
  readonly ipBlocks?: readonly string[];
  readonly notIpBlocks?: readonly string[];
}

export interface IstioOperation {
  readonly hosts?: readonly string[];
  readonly methods?: readonly string[];
  readonly paths?: readonly string[];
  readonly ports?: readonly string[];
  readonly notPorts?: readonly string[];
}

export interface IstioCondition {
  readonly key: string;
  readonly values?: readonly string[];
  readonly notValues?: readonly string[];
}

/** All that is said must hold; what is not said holds. */
export interface IstioRule {
  readonly from?: readonly { readonly source: IstioSource }[];
  readonly to?: readonly { readonly operation: IstioOperation }[];
  readonly when?: readonly IstioCondition[];
}

/** The most rules of an AuthorizationPolicy, and the most sources of a rule (the CRD's maxItems). */
export const MAX_ITEMS = 512;

/**
 * Nobody can connect to port 0, so this is every port, said in the form that admission asks of a DENY rule and that
 * ztunnel does not skip as an empty match.
 */
export const EVERY_PORT: IstioOperation = { notPorts: ['0'] };

/**
 * Holds where signet-request-form has passed the request. No client can write it, and on a connection without HTTP it never
 * holds; so with the filter gone, what it guards is closed.
 */
export const WELL_FORMED: IstioCondition = {
  key: 'experimental.envoy.filters.signet[form]',
  values: ['well'],
};

/** Cuts a list into pieces of at most `size`. */
export function chunks<T>(items: readonly T[], size: number): readonly (readonly T[])[] {
  const result: T[][] = [];
  for (let at = 0; at < items.length; at += size) result.push(items.slice(at, at + size));
  return result;
}

/** Where there are no sidecars: ztunnel, which sees connections and no HTTP, and waypoints where the inventory has some. */
export type IstioMode = 'sidecar' | 'ambient';

/** What the translation of a rule depends on, besides the rule. */
export interface Dialect {
  /** Who reads it; `ambient` is ztunnel. */
  readonly mode: IstioMode | 'waypoint';
  /** The own trust domain, then the names that the mesh takes for it. */
  readonly trustDomains: readonly string[];
  /** The issuers whose tokens the mesh checks. */
  readonly issuers: readonly string[];
}
