import { effectivePolicy, nextInstant } from '../../policy/effective.js';
import type { Policy } from '../../policy/model.js';
import { createPolicySet } from '../../policy/policy-set.js';
import type { AdmissionAbility, Grant } from '../admission.js';
import type { InventoryWorkload, WorkloadPort } from '../inventory.js';
import { objectMetadata, objectName } from '../objects.js';
import { selectionOf } from '../pod-selector.js';
import type { KubernetesObject, RenderContext, RenderedPart, Renderer, Verdict } from '../renderer.js';
import { VerdictBook } from '../verdict-book.js';
import {
  closeAll,
  entangled,
  grantsByPort,
  openEntries,
  type EntryWords,
  type PortGrants,
} from '../workload-rules.js';

export interface KumaOptions {
  /** The mesh that the objects are of. `default` unless said. */
  readonly mesh?: string;
}

/** Kuma matches SPIFFE IDs, and sees neither addresses nor callers without one. Its prefixes have no border (trap 20). */
const ABILITY: AdmissionAbility = { networks: false, anyone: false, wildcard: () => 'none' };

const WORDS: EntryWords = {
  conditions: [
    'it holds where the data plane has a workload identity and MeshTLS is Strict: Kuma skips a proxy without one, and plaintext passes by',
    'no other MeshTrafficPermission allows more, and none is of the whole mesh: Kuma adds them all up',
    'it holds on inbounds of Kuma: ports of Services; and HTTP is not looked at',
  ],
  strayPorts: 'so there is no inbound to name',
};

/**
 * Kuma (SPIFFE IDs, from version 3 on): a MeshTrafficPermission for each workload, which lists who is let in. What nobody
 * is let in to needs none: Kuma denies what no permission allows.
 */
export function kumaRenderer(options: KumaOptions = {}): Renderer {
  const { mesh = 'default' } = options;
  return {
    mesh: 'kuma',
    renderWorkload(workload, context) {
      const effective = effectivePolicy(context.set, workload, context.time, context.zones);
      const enforced = effective.policies.filter(({ mode }) => mode === 'Enforce');
      const book = new VerdictBook(workload);
      openEntries(workload, effective.policies, WORDS, book);
      // Of the audited policies too, since what they would deny is rendered.
      const instant = nextInstant(effective.policies, context.time, context.zones);
      const until = instant === undefined ? {} : { until: instant };
      const other = entangled(workload, selectionOf(workload, context.inventory), false, context);
      if (other !== undefined) {
        const reason = `pods of ${other.namespace}/${other.name} carry all labels of this workload, and Kuma cannot leave them out, so this one is closed; give it a label of its own`;
        closeAll(enforced, reason, book);
        return {
          objects: [],
          verdicts: [...book.verdicts(), ...shadowless(effective.policies, workload)],
          ...until,
        };
      }
      const open = grantsByPort(workload, effective, ABILITY, context, book);
      const shadow = shadowOf(workload, effective.policies, context);
      const objects = open.flatMap((entry) =>
        permissions(workload, { ...entry, warned: shadow.deniedOn(entry) }, mesh, enforced),
      );
      const part: RenderedPart = { objects, verdicts: [...book.verdicts(), ...shadow.verdicts], ...until };
      return part;
    },
  };
}

interface Opening extends PortGrants {
  /** Who is let in, but reported as if denied. */
  readonly warned: ReadonlySet<string>;
}

/** One permission for all ports, or one for each, since each names one inbound. */
function permissions(
  workload: InventoryWorkload,
  { ports, grants, warned }: Opening,
  mesh: string,
  policies: readonly Policy[],
): readonly KubernetesObject[] {
  const uris = urisOf(grants);
  const matches = (list: readonly string[]): readonly object[] =>
    list.map((value) => ({ spiffeID: { type: 'Exact', value } }));
  const allow = matches(uris.filter((uri) => !warned.has(uri)));
  const shadow = matches(uris.filter((uri) => warned.has(uri)));
  const rule = {
    ...(allow.length === 0 ? {} : { allow }),
    ...(shadow.length === 0 ? {} : { allowWithShadowDeny: shadow }),
  };
  const sections =
    ports === undefined ? [undefined] : workload.ports.filter(({ port }) => ports.includes(port));
  return sections.map((section) => {
    const metadata = objectMetadata(
      objectName(workload.name, ...(section === undefined ? [] : [String(section.port)])),
      workload.namespace,
      policies.map(({ ref }) => ref),
    );
    return {
      apiVersion: 'kuma.io/v1alpha1',
      kind: 'MeshTrafficPermission',
      metadata: { ...metadata, labels: { ...metadata.labels, 'kuma.io/mesh': mesh } },
      spec: { targetRef: targetOf(workload, section), rules: [{ default: rule }] },
    };
  });
}

/** The data planes of a workload. An inbound is named as its container port is, else by its number. */
function targetOf({ labels }: InventoryWorkload, section: WorkloadPort | undefined): object {
  return {
    kind: 'Dataplane',
    ...(Object.keys(labels).length === 0 ? {} : { labels }),
    ...(section === undefined ? {} : { sectionName: section.name ?? String(section.port) }),
  };
}

const urisOf = (grants: readonly Grant[]): readonly string[] => [
  ...new Set(grants.flatMap(({ ids }) => ids?.uris ?? [])),
];

interface Shadow {
  /** Who is let in on these ports, and would not be if the audited policies were enforced. */
  deniedOn(entry: PortGrants): ReadonlySet<string>;
  readonly verdicts: readonly Verdict[];
}

/** What would be if the audited policies were enforced. */
function shadowOf(workload: InventoryWorkload, policies: readonly Policy[], context: RenderContext): Shadow {
  const audited = policies.filter(({ mode }) => mode === 'Audit');
  if (audited.length === 0) return { deniedOn: () => new Set(), verdicts: [] };
  const set = createPolicySet(
    policies.map((policy) => ({ ...policy, mode: 'Enforce' as const })),
    { defaultAction: context.set.defaultAction },
  );
  const book = new VerdictBook(workload);
  const effective = effectivePolicy(set, workload, context.time, context.zones);
  openEntries(workload, effective.policies, { ...WORDS, conditions: [SHADOW] }, book);
  const open = grantsByPort(workload, effective, ABILITY, context, book);
  const isAudited = ({ policy }: Verdict): boolean =>
    audited.some(
      ({ ref }) => ref.kind === policy.kind && ref.namespace === policy.namespace && ref.name === policy.name,
    );
  return {
    verdicts: book.verdicts().filter(isAudited),
    deniedOn({ ports, grants }) {
      // Reported where it would be denied on one of the ports.
      const asked = ports ?? workload.ports.map(({ port }) => port);
      const kept = asked.map((port) =>
        urisOf(open.filter((entry) => entry.ports?.includes(port) ?? true).flatMap((entry) => entry.grants)),
      );
      return new Set(urisOf(grants).filter((uri) => !kept.every((uris) => uris.includes(uri))));
    },
  };
}

const SHADOW =
  'mode: Audit: who would be denied is let in and logged as shadow-denied; where there is one such caller, Kuma logs all others too, under the name "default"';

/** Audited policies of a workload that is closed. */
function shadowless(policies: readonly Policy[], { namespace, name }: InventoryWorkload): readonly Verdict[] {
  return policies
    .filter(({ mode }) => mode === 'Audit')
    .map(({ ref }) => ({
      policy: ref,
      fidelity: 'Unsupported' as const,
      reasons: ['the workload is closed, so there is nothing to audit'],
      targets: [`${namespace}/${name}`],
    }));
}
