import { ZoneClock } from '../../../access/policy/time-window.js';
import type { RenderContext } from '../../../access/mesh/renderer.js';
import type { RegistrationSource } from '../../../cluster/access-view.js';
import { renderedIssuers } from '../../../cluster/issuers.js';
import type { Clock, Timer } from '../../../lib/clock.js';
import { SignetError } from '../../../lib/errors.js';
import type { Logger } from '../../../lib/logger.js';
import type { Random } from '../../../lib/random.js';
import type { Watched } from '../../../lib/watched.js';
import type { AppliedSet } from '../../../store/kubernetes/applied-set.js';
import type { ServedTypes } from '../../../store/kubernetes/discovery.js';
import type { Store, StoreChange } from '../../../store/store.js';
import type { EventRecorder } from '../controller-events.js';
import { createController, type Controller, type ControllerOptions } from '../controller.js';
import { ACCESS_KINDS, AccessModel, WORLD_KINDS, type ModelUpdate } from './access-model.js';
import { AccessStatuses } from './access-statuses.js';
import { meshOf, ownerName } from './desired-objects.js';
import { MeshObjects } from './mesh-objects.js';
import { MeshRendering } from './mesh-rendering.js';
import { meshSettings } from '../../../cluster/mesh-settings.js';
import type { MeshOptionsSpec } from '../../../resources/identity.js';
import { chooseMeshes, type MeshChoice } from './meshes.js';

/** What the controller is made of. */
export interface AccessControllerOptions {
  /** Read before the controller runs. Its statuses are written. */
  readonly store: Store;
  /** In step with the store before its subscribers of later are told. */
  readonly registrations: RegistrationSource;
  /** The objects of meshes that there are; run by the controller. */
  readonly objects: Pick<AppliedSet, 'apply' | 'owners' | 'onDrift' | 'run'>;
  readonly served: Watched<ServedTypes | undefined>;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly observe?: ControllerOptions['observe'];
}

/** A change of policies is taken after this time, with all that come meanwhile. Milliseconds. */
const SOON_MS = 2;
/** Workloads come and go in crowds; who calls them is decided by rules that are there already. */
const WORLD_MS = 200;
/** What renders all of a mesh waits for the edits to end. */
const SLOW_MS = 2_000;
/** After a reading that took long the next waits so many times as long: there is more to do than this. */
const REST = 3;
/** A wait for an instant is cut in pieces, since the wall clock may jump. */
const LONGEST_WAIT_MS = 30_000;
const RETRY_MS = 5_000;

/**
 * Keeps the objects of meshes and the statuses of AccessPolicies, ClusterAccessPolicies and AccessRoles in step with the
 * store, for one term of leading: the first thing that it does is to compare all that there is with all that is to be.
 *
 * One queue holds both kinds of keys: `objects <mesh>/<namespace>` and `status <kind>/<key>`.
 */
export function createAccessController(options: AccessControllerOptions): Controller {
  return new AccessController(options);
}

class AccessController implements Controller {
  readonly name = 'access';
  readonly #options: AccessControllerOptions;
  readonly #queue: Controller;
  readonly #model: AccessModel;
  readonly #objects: MeshObjects;
  readonly #statuses: AccessStatuses;
  readonly #zones = new ZoneClock();
  readonly #renderings = new Map<string, MeshRendering>();
  #meshOptions = '{}';
  #problems: readonly string[] = [];
  /** Meshes that are there and not rendered for, with why. */
  #withheld: MeshChoice['withheld'] = new Map();
  /** Changes that are not read yet, by object; those of before are kept where several came. */
  #changes = new Map<string, StoreChange>();
  #timer: { readonly timer: Timer; readonly due: number } | undefined;
  #worldDue: number | undefined;
  #slowDue: number | undefined;
  #wake: Timer | undefined;
  #tookMs = 0;
  #time: number | undefined;
  #complaint = '';

  constructor(options: AccessControllerOptions) {
    const { store, registrations, clock, random, logger, observe } = options;
    this.#options = options;
    this.#model = new AccessModel(store, registrations);
    this.#queue = createController({
      ...{ name: this.name, clock, random, logger, concurrency: 8 },
      ...(observe === undefined ? {} : { observe }),
      reconcile: async (key, run) => {
        const space = key.indexOf(' ');
        const what = key.slice(space + 1);
        return key.startsWith('objects ')
          ? this.#objects.reconcile(what, run)
          : this.#statuses.reconcile(what);
      },
    });
    this.#objects = new MeshObjects({
      ...{ model: this.#model, store, renderings: this.#renderings },
      ...{ objects: options.objects, events: options.events, logger },
      mayPrune: (mesh) =>
        this.#time !== undefined && !this.#renderings.has(mesh) && !this.#withheld.has(mesh),
      tell: (policies) => this.#tellStatuses(policies),
    });
    this.#statuses = new AccessStatuses({
      ...{ model: this.#model, store, renderings: this.#renderings, objects: this.#objects },
      ...{ events: options.events, clock },
      meshProblems: () => ({ problems: this.#problems, withheld: [...this.#withheld.values()] }),
    });
  }

  get length(): number {
    return this.#queue.length;
  }

  enqueue(key: string): void {
    this.#queue.enqueue(key);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { store, objects, served } = this.#options;
    const ends = [
      store.subscribe((changes) => this.#hear(changes)),
      served.watch(() => this.#within(SOON_MS)),
      objects.onDrift((owner) => this.#queue.enqueue(`objects ${owner}`)),
    ];
    this.#within(0);
    await Promise.all([objects.run(signal), this.#queue.run(signal)]);
    for (const end of ends) end();
    this.#timer?.timer.cancel();
    this.#wake?.cancel();
    this.#statuses.close();
  }

  #hear(changes: readonly StoreChange[]): void {
    let soon = false;
    let world = false;
    for (const change of changes) {
      const { kind, key } = change;
      soon ||= ACCESS_KINDS.has(kind);
      world ||= WORLD_KINDS.has(kind);
      if (!ACCESS_KINDS.has(kind) && !WORLD_KINDS.has(kind)) continue;
      const id = `${kind}/${key}`;
      this.#changes.set(id, joined(this.#changes.get(id), change));
      if (kind === 'Namespace' && change.before === undefined) this.#arrived(key);
    }
    if (world) {
      const wait = Math.max(WORLD_MS, this.#tookMs * REST);
      this.#worldDue ??= this.#options.clock.monotonic() + wait;
      this.#within(wait);
    }
    if (soon) this.#within(SOON_MS);
  }

  /** What is to be in a namespace could not be while there was none. */
  #arrived(namespace: string): void {
    for (const { mesh, desired } of this.#renderings.values())
      if (desired.has(ownerName(mesh.name, namespace)))
        this.#queue.enqueue(`objects ${ownerName(mesh.name, namespace)}`);
  }

  /** Refreshes within this time. */
  #within(ms: number): void {
    const { clock } = this.#options;
    const due = clock.monotonic() + ms;
    if (this.#timer !== undefined && this.#timer.due <= due) return;
    this.#timer?.timer.cancel();
    this.#timer = { due, timer: clock.after(ms, () => this.#refresh()) };
  }

  #refresh(): void {
    this.#timer = undefined;
    const { clock, logger } = this.#options;
    const began = clock.monotonic();
    const changes = this.#take(began);
    try {
      this.#read(changes);
      this.#complaint = '';
    } catch (thrown) {
      const { code, message } = SignetError.from(thrown);
      // What is applied stays: it is what somebody wrote, and nothing newer can be read.
      if (message !== this.#complaint)
        logger.error('the access policies cannot be read; what is applied stays', { code, reason: message });
      this.#complaint = message;
      this.#within(RETRY_MS);
    }
    this.#tookMs = clock.monotonic() - began;
    if (this.#worldDue !== undefined) this.#within(Math.max(0, this.#worldDue - clock.monotonic()));
    if (this.#slowDue !== undefined) this.#within(Math.max(0, this.#slowDue - clock.monotonic()));
  }

  /** The changes that are to be read now: those of policies, and those of workloads once it is their time. */
  #take(now: number): readonly StoreChange[] {
    const all = this.#worldDue !== undefined && this.#worldDue <= now;
    if (all || this.#worldDue === undefined) {
      const changes = [...this.#changes.values()];
      this.#changes = new Map();
      this.#worldDue = undefined;
      return changes;
    }
    const changes: StoreChange[] = [];
    for (const [id, change] of this.#changes) {
      if (!ACCESS_KINDS.has(change.kind)) continue;
      changes.push(change);
      this.#changes.delete(id);
    }
    return changes;
  }

  #read(changes: readonly StoreChange[]): void {
    const { clock, served } = this.#options;
    const types = served.value;
    const first = this.#model.view === undefined;
    const touched = this.#model.update(first ? [] : changes);
    const { view, settings } = this.#model;
    if (types === undefined || view === undefined || settings === undefined) return;
    const choice = chooseMeshes(this.#model.meshes, types, settings.defaultAction);
    const otherMeshes = this.#choose(choice.meshes, settings.meshOptions);
    const otherWithheld = choice.withheld.size !== this.#withheld.size;
    this.#withheld = choice.withheld;
    const problems = [...choice.problems];
    const now = clock.now();
    const policies = new Set(touched.policies);
    for (const key of this.#model.boundaries(this.#time ?? now, now)) policies.add(key);
    const context: RenderContext = {
      ...{ set: view.policies, inventory: view.inventory, time: now, zones: this.#zones },
      issuers: renderedIssuers(settings.tokenIssuers),
    };
    for (const rendering of this.#renderings.values())
      for (const key of this.#render(rendering, context, changes.length > 0, problems)) policies.add(key);
    const otherProblems = otherWithheld || problems.join() !== this.#problems.join();
    this.#problems = problems;
    const everything = this.#time === undefined || otherMeshes || otherProblems;
    const known = this.#time === undefined ? this.#options.objects.owners() : [];
    this.#time = now;
    // Until now nobody knew whether they are wanted.
    for (const owner of known) this.#queue.enqueue(`objects ${owner}`, 'background');
    this.#tellTouched({ ...touched, policies }, everything);
    this.#wakeAt(now);
  }

  /** Has the statuses looked at that may be other than before: at once where somebody waits for it. */
  #tellTouched(touched: ModelUpdate, everything: boolean): void {
    if (everything) this.#tellStatuses(this.#model.keys());
    else if (touched.everything) this.#statuses.later(() => this.#tellStatuses(this.#model.keys()));
    this.#tellStatuses(touched.policies);
    if (!everything && !touched.roles) return;
    const roles = this.#options.store.list('AccessRole');
    this.#tellStatuses(roles.map(({ metadata }) => `AccessRole/${metadata.name}`));
  }

  /** Renders one mesh; returns the policies of which something else is said. One that cannot be does not keep the others. */
  #render(
    rendering: MeshRendering,
    context: RenderContext,
    changed: boolean,
    problems: string[],
  ): readonly string[] {
    const { clock } = this.#options;
    if (rendering.mesh.slow === true && rendering.done) {
      const now = clock.monotonic();
      if (changed) this.#slowDue ??= now + Math.max(SLOW_MS, this.#tookMs * REST);
      if (this.#slowDue === undefined || this.#slowDue > now) return [];
    }
    if (rendering.mesh.slow === true) this.#slowDue = undefined;
    try {
      const { owners, policies } = rendering.update(context);
      for (const owner of owners) {
        this.#objects.expect(owner);
        this.#queue.enqueue(`objects ${owner}`);
      }
      return policies;
    } catch (thrown) {
      const { code, message } = SignetError.from(thrown);
      const { name } = rendering.mesh;
      problems.push(`${name} cannot be rendered, so what is applied stays: ${message}`);
      this.#options.logger.error('a mesh cannot be rendered; what is applied stays', {
        ...{ mesh: name, code, reason: message },
      });
      return [];
    }
  }

  /** Begins to render for meshes that are new, and takes back what was rendered for those that are no more. */
  #choose(meshes: readonly MeshRendering['mesh'][], options: MeshOptionsSpec): boolean {
    const wanted = new Map(meshes.map((mesh) => [mesh.name, mesh]));
    let other = false;
    for (const [name, rendering] of this.#renderings) {
      if (wanted.has(name)) continue;
      this.#renderings.delete(name);
      this.#objects.forget(name);
      const owners = new Set([...rendering.desired.owners(), ...this.#options.objects.owners()]);
      for (const owner of owners)
        if (meshOf(owner) === name) this.#queue.enqueue(`objects ${owner}`, 'background');
      this.#options.logger.info('no longer rendered for a mesh', { mesh: name });
      other = true;
    }
    const text = JSON.stringify(options);
    if (text !== this.#meshOptions) this.#renewRenderings();
    this.#meshOptions = text;
    for (const [name, mesh] of wanted) {
      if (this.#renderings.has(name)) continue;
      this.#renderings.set(name, new MeshRendering(mesh, meshSettings(options)));
      this.#options.logger.info('rendered for a mesh', { mesh: name });
      other = true;
      // What is there of it and is not wanted any more.
      for (const owner of this.#options.objects.owners())
        if (meshOf(owner) === name) this.#queue.enqueue(`objects ${owner}`, 'background');
    }
    return other;
  }

  /** Everything is rendered anew; what was applied stays until that is there. */
  #renewRenderings(): void {
    for (const { desired } of this.#renderings.values())
      for (const owner of desired.owners()) this.#queue.enqueue(`objects ${owner}`, 'background');
    this.#renderings.clear();
  }

  #tellStatuses(policies: Iterable<string>): void {
    for (const key of policies) this.#queue.enqueue(`status ${key}`, 'background');
  }

  /** Looks again when some policy begins or ends to hold. */
  #wakeAt(now: number): void {
    this.#wake?.cancel();
    this.#wake = undefined;
    const instants = [
      this.#model.nextBoundary(now),
      ...[...this.#renderings.values()].map(({ until }) => until),
    ].filter((instant) => instant !== undefined);
    if (instants.length === 0) return;
    const next = instants.reduce((a, b) => Math.min(a, b));
    const { clock } = this.#options;
    const wait = (): void => {
      const left = next - clock.now();
      if (left <= 0) this.#within(0);
      else this.#wake = clock.after(Math.min(left, LONGEST_WAIT_MS), wait);
    };
    wait();
  }
}

/** Two changes of one object as one. */
function joined(first: StoreChange | undefined, second: StoreChange): StoreChange {
  const { kind, key, after } = second;
  const before = first === undefined ? second.before : first.before;
  return {
    ...{ kind, key },
    ...(before === undefined ? {} : { before }),
    ...(after === undefined ? {} : { after }),
  };
}
