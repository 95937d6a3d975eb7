import { isDeepStrictEqual } from 'node:util';
import type { Clock, Timer } from '../../../lib/clock.js';
import type { Condition } from '../../../resources/meta.js';
import type { AccessPolicyStatus, AccessRoleStatus } from '../../../resources/policy.js';
import type { Store, StoredObject } from '../../../store/store.js';
import type { EventRecorder } from '../controller-events.js';
import type { AccessModel } from './access-model.js';
import { referenceTo, type MeshObjects } from './mesh-objects.js';
import type { MeshRendering } from './mesh-rendering.js';
import { policyStatus } from './policy-status.js';
import { roleStatus } from './role-status.js';

/** What writes statuses. */
export interface AccessStatusesOptions {
  readonly model: AccessModel;
  readonly store: Store;
  readonly renderings: ReadonlyMap<string, MeshRendering>;
  readonly objects: Pick<MeshObjects, 'isPending' | 'failuresOf'>;
  readonly events: EventRecorder;
  readonly clock: Clock;
  /** Why some mesh cannot be rendered for, and which is there and is not. */
  readonly meshProblems: () => { readonly problems: readonly string[]; readonly withheld: readonly string[] };
}

/** Pods come and go; people look at how many there are far less often. Milliseconds. */
const LATER_MS = 2_000;

type Status = AccessPolicyStatus | AccessRoleStatus;

/** Writes the statuses of policies and roles: what is not other than before is not written. */
export class AccessStatuses {
  readonly #options: AccessStatusesOptions;
  #later: Timer | undefined;

  constructor(options: AccessStatusesOptions) {
    this.#options = options;
  }

  /** Calls `tell` in a while, once for all calls that come meanwhile. */
  later(tell: () => void): void {
    this.#later ??= this.#options.clock.after(LATER_MS, () => {
      this.#later = undefined;
      tell();
    });
  }

  close(): void {
    this.#later?.cancel();
  }

  /** Writes the status of one object, `kind/key`. A policy whose objects are being applied is told of when they are. */
  async reconcile(id: string): Promise<undefined> {
    const { store } = this.#options;
    const slash = id.indexOf('/');
    const kind = id.slice(0, slash);
    const key = id.slice(slash + 1);
    const object = store.get(kind, key);
    if (object === undefined) return;
    const previous = store.status(kind, key) as Status | undefined;
    const status = kind === 'AccessRole' ? this.#role(id, key, previous) : this.#policy(id, previous);
    if (status === undefined || isDeepStrictEqual(status, previous)) return;
    await store.writeStatus(kind, key, status);
    this.#tell(object, readyOf(status), readyOf(previous));
  }

  #policy(id: string, previous: Status | undefined): AccessPolicyStatus | undefined {
    const { model, renderings, objects, clock, meshProblems } = this.#options;
    const policy = model.policy(id);
    const generation = model.generation(id);
    if (policy === undefined || generation === undefined || objects.isPending(id)) return undefined;
    // In an order that does not depend on which mesh came first.
    const inOrder = [...renderings].sort(([a], [b]) => (a < b ? -1 : 1));
    const meshes = inOrder.map(([, rendering]) => ({
      mesh: rendering.mesh.name,
      verdicts: rendering.verdictsOf(id),
      objects: rendering.desired.countOf(id),
      failures: objects.failuresOf(rendering, id),
    }));
    const { problems, withheld } = meshProblems();
    return policyStatus(
      {
        ...{ policy, generation, meshes, withheld, meshProblems: problems },
        roleProblems: model.roleProblems(id),
        pods: model.pods(policy),
        unheld: model.unheld(policy),
      },
      previous,
      clock.now(),
    );
  }

  #role(id: string, name: string, previous: Status | undefined): AccessRoleStatus | undefined {
    const { model, clock } = this.#options;
    const generation = model.generation(id);
    if (generation === undefined) return undefined;
    const facts = {
      ...{ generation, resolved: model.roles.resolve(name), policies: model.roleUse(name) },
      problems: model.roles.problems.get(name) ?? [],
    };
    return roleStatus(facts, previous, clock.now());
  }

  /** Whoever runs `kubectl describe` sees when something went wrong, and when it was mended. */
  #tell(object: StoredObject, now: Condition | undefined, before: Condition | undefined): void {
    if (now === undefined || (now.status === before?.status && now.reason === before.reason)) return;
    const mended = now.status === 'True';
    if (mended && before?.status !== 'False') return;
    this.#options.events.record({
      regarding: referenceTo(object),
      type: mended ? 'Normal' : 'Warning',
      ...{ reason: now.reason, action: 'Reconcile', note: now.message },
    });
  }
}

function readyOf(status: Status | undefined): Condition | undefined {
  return status?.conditions?.find(({ type }) => type === 'Ready');
}
