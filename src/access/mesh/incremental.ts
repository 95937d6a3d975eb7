import { policyName, type Policy, type TargetWorkload } from '../policy/model.js';
import type { Inventory, InventoryWorkload } from './inventory.js';
import { createPart, PartBook, type Part, type PartChanges, type Place } from './part-book.js';
import {
  joinParts,
  type RenderContext,
  type RenderedPart,
  type Renderer,
  type Rendering,
} from './renderer.js';
import { WatchedSet } from './watched-set.js';

/** What a rendering has become other than the one before. */
export interface RenderingChange extends PartChanges {
  /** How many parts were rendered. */
  readonly parts: number;
  /** When something has to be rendered again though nothing changes; undefined when nothing ever has. */
  readonly until?: number;
}

/** A mesh's rendering that follows what it is made of. */
export interface IncrementalRender {
  /**
   * Renders what the difference to the context before touches; the first time everything. A changed policy touches its own
   * part and those that ask for the policies of a workload that it concerns; a later time, the parts that hold until then.
   * Another inventory, other issuers, another default and an earlier time touch every part, and still only what comes out
   * otherwise is a change. A call that throws leaves the rendering as it was.
   */
  update(context: RenderContext): RenderingChange;
  /** All of it, as `render` gives it. */
  rendering(): Rendering;
}

/** Renders a mesh again and again, each time only what changed. */
export function createIncrementalRender(renderer: Renderer): IncrementalRender {
  return new Incremental(renderer);
}

/** What the shared part is of. */
const SHARED = {};

class Incremental implements IncrementalRender {
  readonly #renderer: Renderer;
  readonly #book = new PartBook();
  #context: RenderContext | undefined;
  /** The workloads of the inventory, by where they stand. */
  #order: ReadonlyMap<TargetWorkload, number> = new Map();

  constructor(renderer: Renderer) {
    this.#renderer = renderer;
  }

  update(context: RenderContext): RenderingChange {
    const before = this.#context;
    const all = before === undefined || touchesAll(before, context);
    const order = before?.inventory === context.inventory ? this.#order : orderOf(context.inventory);
    const { gone, touched } = all
      ? { gone: [...this.#book.keys()], touched: this.#all(context) }
      : this.#difference(before, context);
    const parts = this.#render(touched, context, order);
    const changes = this.#book.replace(gone, parts);
    this.#context = context;
    this.#order = order;
    const { until } = this.#book;
    return { ...changes, parts: parts.length, ...(until === undefined ? {} : { until }) };
  }

  rendering(): Rendering {
    const all = this.#context === undefined ? [] : this.#all(this.#context);
    return { mesh: this.#renderer.mesh, ...joinParts(all.flatMap((of) => this.#book.get(of) ?? [])) };
  }

  /** What there are parts of, in order. */
  #all({ set, inventory }: RenderContext): readonly object[] {
    const { renderShared, renderPolicy, renderWorkload } = this.#renderer;
    return [
      ...(renderShared === undefined ? [] : [SHARED]),
      ...(renderPolicy === undefined ? [] : set.policies),
      ...(renderWorkload === undefined ? [] : inventory.workloads),
    ];
  }

  #difference(
    before: RenderContext,
    { set, inventory, time }: RenderContext,
  ): { readonly gone: readonly Policy[]; readonly touched: readonly object[] } {
    const { removed, added } = changedPolicies(before.set.policies, set.policies);
    const concerned = new Set([...removed, ...added].flatMap(({ target }) => inventory.selected(target)));
    const touched = new Set<object>(this.#renderer.renderPolicy === undefined ? [] : added);
    if (concerned.size > 0 || removed.length + added.length > 0) {
      for (const of of this.#book.dependents(concerned)) touched.add(of);
    }
    for (const of of this.#book.due(time)) touched.add(of);
    for (const policy of removed) touched.delete(policy);
    return { gone: removed, touched: [...touched] };
  }

  #render(
    touched: readonly object[],
    context: RenderContext,
    order: ReadonlyMap<object, number>,
  ): readonly Part[] {
    const set = new WatchedSet(context.set);
    // Another object each time, since renderers may keep things by context.
    const watched = { ...context, set };
    return touched.flatMap((of) => {
      const { place, part } = this.#renderOne(of, order.get(of), watched);
      const { targets, everything } = set.take();
      if (part === undefined) return [];
      // Whoever asks about a workload that is not of the inventory would not be found by what policies select there.
      const stray = [...targets].some((target) => !order.has(target));
      return [createPart(part, of, place, { targets, everything: everything || stray })];
    });
  }

  #renderOne(
    of: object,
    index: number | undefined,
    context: RenderContext,
  ): { readonly place: Place; readonly part: RenderedPart | undefined } {
    if (of === SHARED) return { place: [0, '', 0], part: this.#renderer.renderShared?.(context) };
    if (index !== undefined) {
      return {
        place: [2, '', index],
        part: this.#renderer.renderWorkload?.(of as InventoryWorkload, context),
      };
    }
    const policy = of as Policy;
    return { place: [1, policyName(policy.ref), 0], part: this.#renderer.renderPolicy?.(policy, context) };
  }
}

function orderOf({ workloads }: Inventory): ReadonlyMap<TargetWorkload, number> {
  return new Map(workloads.map((workload, index) => [workload, index]));
}

/** Whether anything is other that every part may depend on. */
function touchesAll(before: RenderContext, after: RenderContext): boolean {
  return (
    before.inventory !== after.inventory ||
    before.set.defaultAction !== after.set.defaultAction ||
    after.time < before.time ||
    JSON.stringify(before.issuers) !== JSON.stringify(after.issuers)
  );
}

/** Which policies are in one list only. Both are in order, so what is the same at both ends need not be looked at. */
export function changedPolicies(
  before: readonly Policy[],
  after: readonly Policy[],
): { readonly removed: readonly Policy[]; readonly added: readonly Policy[] } {
  let start = 0;
  let end = 0;
  const most = Math.min(before.length, after.length);
  while (start < most && before[start] === after[start]) start++;
  while (end < most - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  const old = before.slice(start, before.length - end);
  const now = after.slice(start, after.length - end);
  const known = new Set(old);
  const kept = new Set(now);
  return {
    removed: old.filter((policy) => !kept.has(policy)),
    added: now.filter((policy) => !known.has(policy)),
  };
}
