import { createIncrementalRender, type IncrementalRender } from '../../../access/mesh/incremental.js';
import type { RenderContext, Verdict } from '../../../access/mesh/renderer.js';
import { policyName } from '../../../access/policy/model.js';
import type { MeshSettings } from '../../../cluster/mesh-settings.js';
import { DesiredObjects, type PolicyKey } from './desired-objects.js';
import type { Mesh } from './meshes.js';

/** What an update of a rendering touched. */
export interface RenderingUpdate {
  /** Owners whose objects are other than before. */
  readonly owners: ReadonlySet<string>;
  /** Policies of which something else is said than before. */
  readonly policies: readonly PolicyKey[];
}

/** The rendering of one mesh, in step with the policies. */
export class MeshRendering {
  readonly mesh: Mesh;
  readonly desired: DesiredObjects;
  /** When something has to be rendered again though nothing changes; milliseconds since the epoch. */
  until: number | undefined;
  readonly #render: IncrementalRender;
  readonly #verdicts = new Map<PolicyKey, readonly Verdict[]>();
  #done = false;

  constructor(mesh: Mesh, settings: MeshSettings) {
    this.mesh = mesh;
    this.desired = new DesiredObjects(mesh);
    this.#render = createIncrementalRender(mesh.renderer(settings));
  }

  /** False until it was rendered once: until then nobody knows what is no longer wanted. */
  get done(): boolean {
    return this.#done;
  }

  /** Renders what is other than before; one that throws leaves everything as it was. */
  update(context: RenderContext): RenderingUpdate {
    const { changed, removed, verdicts, until } = this.#render.update(context);
    const first = !this.#done;
    this.#done = true;
    this.until = until;
    const owners = this.desired.change({ changed, removed });
    const policies = verdicts.map(({ policy, verdicts: said }) => {
      const key = `${policy.kind}/${policyName(policy)}`;
      if (said.length === 0) this.#verdicts.delete(key);
      else this.#verdicts.set(key, said);
      return key;
    });
    return { owners: first ? new Set(this.desired.owners()) : owners, policies };
  }

  verdictsOf(policy: PolicyKey): readonly Verdict[] {
    return this.#verdicts.get(policy) ?? [];
  }
}
