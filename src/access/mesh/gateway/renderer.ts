import { effectivePolicy } from '../../policy/effective.js';
import { parseSpiffeId } from '../../../identity/spiffe/id.js';
import type { AdmissionAbility, Grant } from '../admission.js';
import { objectMetadata, objectName } from '../objects.js';
import { selectionOf } from '../pod-selector.js';
import type { RenderedPart, Renderer } from '../renderer.js';
import { VerdictBook } from '../verdict-book.js';
import {
  closeAll,
  entangled,
  grantsByPort,
  openEntries,
  type EntryWords,
  type PortGrants,
} from '../workload-rules.js';

export interface GatewayOptions {
  /** GEP-3779 is a draft: what its resource will be called is not settled. `gateway.networking.k8s.io/v1alpha1` unless said. */
  readonly apiVersion?: string;
  /** `AuthorizationPolicy` unless said. */
  readonly kind?: string;
  /**
   * Names service accounts as such rather than by SPIFFE ID. Only where every pod's ID is that of its service account,
   * since an implementation may go by the pod.
   */
  readonly serviceAccounts?: boolean;
}

const WORDS: EntryWords = {
  audit: 'mode: Audit: AuthorizationPolicy knows no audit, so it is not rendered',
  conditions: [
    'ports that the workload does not declare are denied where its ports differ; and HTTP is not looked at',
    'nothing else allows more: AuthorizationPolicies of one pod add up',
  ],
  strayPorts: 'so there is no rule for it',
};

/**
 * The Gateway API's AuthorizationPolicy (GEP-3779, a draft): one for each workload, which lists who is let in, by port.
 * A workload that nobody may call has one with an empty list of sources, since without a policy everybody may.
 */
export function gatewayRenderer(options: GatewayOptions = {}): Renderer {
  const { apiVersion = 'gateway.networking.k8s.io/v1alpha1', kind = 'AuthorizationPolicy' } = options;
  return {
    mesh: 'gateway',
    renderWorkload(workload, context) {
      const { trustDomain } = context.inventory;
      const byAccount = options.serviceAccounts === true ? trustDomain : undefined;
      const ability: AdmissionAbility = {
        networks: false,
        anyone: true,
        wildcard: (principal) =>
          principal.kind === 'namespace' && principal.trustDomain === byAccount ? 'some' : 'none',
      };
      const effective = effectivePolicy(context.set, workload, context.time, context.zones);
      const enforced = effective.policies.filter(({ mode }) => mode === 'Enforce');
      const book = new VerdictBook(workload);
      openEntries(workload, effective.policies, WORDS, book);
      const selection = selectionOf(workload, context.inventory);
      const twin = entangled(workload, selection, true, context);
      if (twin !== undefined) {
        const reason = `pods of ${twin.namespace}/${twin.name} carry the same labels, so both are closed; give each a label of its own`;
        closeAll(enforced, reason, book);
      }
      const open = twin === undefined ? grantsByPort(workload, effective, ability, context, book) : [];
      const rules = open.flatMap((entry) => ruleOf(entry, byAccount));
      const object = {
        apiVersion,
        kind,
        metadata: objectMetadata(
          objectName(workload.name),
          workload.namespace,
          enforced.map(({ ref }) => ref),
        ),
        spec: {
          targetRefs: [{ group: '', kind: 'Pod', selector: selection.selector }],
          action: 'ALLOW',
          // No rule at all could be taken for no restriction; an empty list of sources matches nobody (trap 26).
          rules: rules.length === 0 ? [{ sources: [] }] : rules,
          enforcementLevel: 'Network',
        },
      };
      const part: RenderedPart = { objects: [object], verdicts: book.verdicts() };
      return effective.until === undefined ? part : { ...part, until: effective.until };
    },
  };
}

/** One rule: the sources of an entry, or any source where `sources` is left out. */
function ruleOf({ ports, grants }: PortGrants, byAccount: string | undefined): readonly object[] {
  const where = ports === undefined ? {} : { networkAttributes: { ports } };
  if (grants.some(({ ids }) => ids === undefined)) return [where];
  return [{ sources: grants.flatMap((grant) => sourcesOf(grant, byAccount)), ...where }];
}

function sourcesOf({ ids }: Grant, byAccount: string | undefined): readonly object[] {
  const named = (ids?.uris ?? []).map((uri) => {
    const { trustDomain, path } = parseSpiffeId(uri);
    const [, namespace, name] = /^\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(path) ?? [];
    // "*" would be every service account of the namespace; no service account is called so.
    return trustDomain === byAccount && namespace !== undefined
      ? { type: 'ServiceAccount', serviceAccount: { namespace, name } }
      : { type: 'SPIFFE', spiffe: uri };
  });
  const whole = (ids?.wildcards ?? []).flatMap((wildcard) =>
    wildcard.kind === 'namespace'
      ? [{ type: 'ServiceAccount', serviceAccount: { namespace: wildcard.namespace, name: '*' } }]
      : [],
  );
  return [...whole, ...named];
}
