import { parseSpiffeId } from '../../../identity/spiffe/id.js';
import type { AdmissionAbility, Grant, Wildcard } from '../admission.js';

/** Which names stand for SPIFFE IDs in Linkerd. */
export interface IdentityForm {
  readonly ability: AdmissionAbility;
  /** For `identities` of a MeshTLSAuthentication. */
  of(ids: NonNullable<Grant['ids']>): readonly string[];
}

/** What the admission webhook takes for a DNS-like name (policy-controller/runtime/src/validation.rs, line 11). */
const NAME = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;

/**
 * A meshed pod presents `<sa>.<ns>.serviceaccount.identity.<control-plane-ns>.<domain>`, a workload outside the cluster a
 * SPIFFE URI. Both are listed. Of names a suffix can be matched; URIs are matched as a whole only (linkerd2-proxy,
 * linkerd/app/inbound/src/policy.rs, `is_tls_authorized`).
 */
export function identityForm(options: {
  readonly trustDomain: string;
  readonly controlPlaneNamespace: string;
  readonly identityTrustDomain: string;
}): IdentityForm {
  const { trustDomain, controlPlaneNamespace, identityTrustDomain } = options;
  const base = `serviceaccount.identity.${controlPlaneNamespace}.${identityTrustDomain}`;
  const nameOf = (uri: string): readonly string[] => {
    const id = parseSpiffeId(uri);
    const [, ns, namespace, sa, account, ...rest] = id.path.split('/');
    const fits = ns === 'ns' && sa === 'sa' && rest.length === 0 && id.trustDomain === trustDomain;
    // A namespace has no dots, so the name can be read in one way only.
    if (!fits || account === undefined || namespace === undefined || namespace.includes('.')) return [];
    const name = `${account}.${namespace}.${base}`;
    return NAME.test(name) ? [name] : [];
  };
  const suffixOf = (wildcard: Wildcard): string | undefined => {
    if (wildcard.kind === 'authenticated') return '*';
    if (wildcard.trustDomain !== trustDomain) return undefined;
    if (wildcard.kind === 'trustDomain') return `*.${base}`;
    const suffix = `${wildcard.namespace}.${base}`;
    return NAME.test(suffix) && !wildcard.namespace.includes('.') ? `*.${suffix}` : undefined;
  };
  return {
    ability: {
      networks: true,
      anyone: true,
      wildcard: (principal) => (suffixOf(principal) === undefined ? 'none' : 'some'),
    },
    of: ({ uris, wildcards }) => [
      ...wildcards.flatMap((wildcard) => suffixOf(wildcard) ?? []),
      ...uris.flatMap((uri) => [...nameOf(uri), uri]),
    ],
  };
}
