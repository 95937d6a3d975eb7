import { policyName, type Policy, type PolicyRef } from '../policy/model.js';
import type { PolicySet } from '../policy/policy-set.js';
import type { ZoneClock } from '../policy/time-window.js';
import type { Inventory, InventoryWorkload } from './inventory.js';

/**
 * How faithfully a mesh's own rules say what a policy says. `Exact`: the mesh answers every request as the policy does.
 * `Narrower`: it denies some that the policy allows. `Unsupported`: nothing of it can be said, so nothing is opened by
 * it (and what a Deny rule was about is closed altogether). There is no wider.
 */
export type Fidelity = 'Exact' | 'Narrower' | 'Unsupported';

/** What became of one rule, or of a policy as a whole, on some workloads. */
export interface Verdict {
  readonly policy: PolicyRef;
  /** Absent when the verdict is about what the policy as a whole does: closing its target, its order among others. */
  readonly rule?: string;
  readonly fidelity: Fidelity;
  /** Why it is not exact, each with the fix if there is one; or under which condition it is. Sentences without a stop. */
  readonly reasons: readonly string[];
  /** The workloads that this is about, `namespace/name`; absent for all that the policy selects. */
  readonly targets?: readonly string[];
}

/** A Kubernetes object as it is applied. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  /** What is asked for; a ConfigMap has `data` instead. */
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly data?: Readonly<Record<string, string>>;
}

/** A token issuer that enforcement points trust. */
export interface RenderedIssuer {
  readonly issuer: string;
  readonly audiences?: readonly string[];
  /** JWS algorithms that are taken; RS256, ES256, PS256 and EdDSA unless said. */
  readonly algorithms?: readonly string[];
  readonly jwksUri?: string;
  /** A JWK set as JSON text, instead of `jwksUri`. */
  readonly jwks?: string;
}

/** Everything that a rendering depends on. */
export interface RenderContext {
  readonly set: PolicySet;
  readonly inventory: Inventory;
  /** The instant for which is rendered, milliseconds since the epoch: time windows and validities are worked out. */
  readonly time: number;
  readonly zones: ZoneClock;
  readonly issuers?: readonly RenderedIssuer[];
}

/** What one policy, one workload, or the mesh as a whole becomes. */
export interface RenderedPart {
  readonly objects: readonly KubernetesObject[];
  readonly verdicts: readonly Verdict[];
  /** When this part has to be rendered again by itself; undefined when it never has. */
  readonly until?: number;
}

/**
 * One mesh. Renders in parts, so that a change renders again only what it touches: `renderPolicy` may depend on that one
 * policy (and on the workloads and namespaces of the inventory), `renderWorkload` on all policies that concern that one
 * workload and others that it asks the set about, `renderShared` on everything, so it has to be cheap. What a part
 * depends on is seen by what it asks `context.set` (incremental.ts); a renderer that keeps answers of the set from one
 * part to another keeps them by context, and never beyond it.
 */
export interface Renderer {
  /** `istio`, `envoy`, … */
  readonly mesh: string;
  renderPolicy?(policy: Policy, context: RenderContext): RenderedPart;
  renderWorkload?(workload: InventoryWorkload, context: RenderContext): RenderedPart;
  renderShared?(context: RenderContext): RenderedPart;
}

/** A mesh's objects, with what they are worth. */
export interface Rendering extends RenderedPart {
  readonly mesh: string;
}

/** Renders everything: all policies, all workloads. Objects come in a stable order, each name once. */
export function render(renderer: Renderer, context: RenderContext): Rendering {
  const parts: RenderedPart[] = [];
  if (renderer.renderShared !== undefined) parts.push(renderer.renderShared(context));
  for (const policy of context.set.policies) {
    const part = renderer.renderPolicy?.(policy, context);
    if (part !== undefined) parts.push(part);
  }
  for (const workload of context.inventory.workloads) {
    const part = renderer.renderWorkload?.(workload, context);
    if (part !== undefined) parts.push(part);
  }
  return { mesh: renderer.mesh, ...joinParts(parts) };
}

/** Several parts as one. */
export function joinParts(parts: readonly RenderedPart[]): RenderedPart {
  const instants = parts.flatMap(({ until }) => (until === undefined ? [] : [until]));
  return {
    objects: parts.flatMap(({ objects }) => objects),
    verdicts: mergeVerdicts(parts.flatMap(({ verdicts }) => verdicts)),
    ...(instants.length === 0 ? {} : { until: instants.reduce((a, b) => Math.min(a, b)) }),
  };
}

/** Verdicts that differ in nothing but their targets, as one. */
export function mergeVerdicts(verdicts: readonly Verdict[]): readonly Verdict[] {
  const merged = new Map<string, { verdict: Verdict; targets: string[] }>();
  for (const verdict of verdicts) {
    const { policy, rule, fidelity, reasons, targets } = verdict;
    const key = JSON.stringify([
      policyName(policy),
      policy.kind,
      rule,
      fidelity,
      reasons,
      targets === undefined,
    ]);
    const known = merged.get(key);
    if (known === undefined) merged.set(key, { verdict, targets: [...(targets ?? [])] });
    else known.targets.push(...(targets ?? []));
  }
  return [...merged.values()].map(({ verdict, targets }) =>
    verdict.targets === undefined ? verdict : { ...verdict, targets: [...new Set(targets)] },
  );
}

/** The fidelity of a policy as a whole: exact when all of it is, unsupported when all of its rules are. */
export function overallFidelity(verdicts: readonly Verdict[]): Fidelity {
  if (verdicts.every(({ fidelity }) => fidelity === 'Exact')) return 'Exact';
  return verdicts.every(({ fidelity }) => fidelity === 'Unsupported') ? 'Unsupported' : 'Narrower';
}
