import { policyName, type PolicyRef, type TargetWorkload } from '../policy/model.js';
import { mergeVerdicts, type KubernetesObject, type RenderedPart, type Verdict } from './renderer.js';
import type { SetReads } from './watched-set.js';

/** A part of a rendering, with where it stands among all, and what it was made by. */
export interface Part extends RenderedPart {
  /** The policy or workload that it is the part of. */
  readonly of: object;
  /** Parts stand in order of these, the first first. */
  readonly place: Place;
  readonly reads: SetReads;
  /** Its verdicts by what they are about. */
  readonly said: ReadonlyMap<string, readonly Verdict[]>;
}

/** A part as it was rendered, with its verdicts sorted. */
export function createPart(rendered: RenderedPart, of: object, place: Place, reads: SetReads): Part {
  return {
    ...rendered,
    of,
    place,
    reads,
    said: Map.groupBy(rendered.verdicts, ({ policy }) => policyKey(policy)),
  };
}

/** The shared part, then those of policies by name, then those of workloads by number. */
export type Place = readonly [tier: 0 | 1 | 2, name: string, index: number];

/** What became of one policy. */
export interface PolicyVerdicts {
  readonly policy: PolicyRef;
  /** All of them; empty when nothing is said of the policy any more. */
  readonly verdicts: readonly Verdict[];
}

/** What is other than before. */
export interface PartChanges {
  /** Objects that are new, or other than before. */
  readonly changed: readonly KubernetesObject[];
  /** Objects that are no more, as they were last. */
  readonly removed: readonly KubernetesObject[];
  /** The policies whose verdicts are other than before. */
  readonly verdicts: readonly PolicyVerdicts[];
}

/** All parts of a rendering, findable by what they depend on. */
export class PartBook {
  readonly #parts = new Map<object, Part>();
  /** The parts that asked for the policies of a workload. */
  readonly #readers = new Map<TargetWorkload, Set<object>>();
  readonly #readEverything = new Set<object>();
  readonly #until = new Map<object, number>();
  readonly #objects = new Map<string, { readonly object: KubernetesObject; readonly parts: number }>();
  /** The parts that say something of a policy. */
  readonly #speakers = new Map<string, Set<object>>();

  get(of: object): Part | undefined {
    return this.#parts.get(of);
  }

  /** What all the parts are of. */
  keys(): Iterable<object> {
    return this.#parts.keys();
  }

  /** What those parts are of that depend on the policies of one of these workloads, or on all policies. */
  dependents(targets: Iterable<TargetWorkload>): ReadonlySet<object> {
    const found = new Set(this.#readEverything);
    for (const target of targets) for (const of of this.#readers.get(target) ?? []) found.add(of);
    return found;
  }

  /** What those parts are of that do not hold at an instant any more. */
  due(time: number): readonly object[] {
    return [...this.#until].filter(([, until]) => until <= time).map(([of]) => of);
  }

  /** When the first part ends to hold; undefined when none ever does. */
  get until(): number | undefined {
    let first: number | undefined;
    for (const until of this.#until.values()) if (first === undefined || until < first) first = until;
    return first;
  }

  /** Takes parts out and puts others in, each in place of the one that is of the same. */
  replace(gone: Iterable<object>, parts: readonly Part[]): PartChanges {
    const old = [...new Set([...gone, ...parts.map(({ of }) => of)])].flatMap(
      (of) => this.#parts.get(of) ?? [],
    );
    const about = policiesOf(old, parts);
    const said = new Map([...about].map(([key]) => [key, this.#verdictsOf(key)]));
    const objects = new Map<string, KubernetesObject | undefined>();
    for (const part of old) this.#takeOut(part, objects);
    for (const part of parts) this.#putIn(part, objects);
    const verdicts = [...about].flatMap(([key, policy]): readonly PolicyVerdicts[] => {
      const now = this.#verdictsOf(key);
      return isSame(now, said.get(key)) ? [] : [{ policy, verdicts: now }];
    });
    return { ...this.#objectChanges(objects), verdicts };
  }

  #objectChanges(before: ReadonlyMap<string, KubernetesObject | undefined>): Omit<PartChanges, 'verdicts'> {
    const changed: KubernetesObject[] = [];
    const removed: KubernetesObject[] = [];
    for (const [key, object] of before) {
      const now = this.#objects.get(key)?.object;
      if (now === undefined) {
        if (object !== undefined) removed.push(object);
      } else if (object === undefined || !isSame(now, object)) changed.push(now);
    }
    return { changed, removed };
  }

  #verdictsOf(policy: string): readonly Verdict[] {
    const parts = [...(this.#speakers.get(policy) ?? [])].flatMap((of) => this.#parts.get(of) ?? []);
    parts.sort((a, b) => inOrder(a.place, b.place));
    return mergeVerdicts(parts.flatMap(({ said }) => said.get(policy) ?? []));
  }

  #putIn(part: Part, objects: Map<string, KubernetesObject | undefined>): void {
    const { of, reads, until } = part;
    this.#parts.set(of, part);
    for (const target of reads.targets) addTo(this.#readers, target, of);
    if (reads.everything) this.#readEverything.add(of);
    if (until !== undefined) this.#until.set(of, until);
    for (const policy of part.said.keys()) addTo(this.#speakers, policy, of);
    for (const object of part.objects) {
      const key = objectKey(object);
      const known = this.#objects.get(key);
      if (!objects.has(key)) objects.set(key, known?.object);
      this.#objects.set(key, { object, parts: (known?.parts ?? 0) + 1 });
    }
  }

  #takeOut(part: Part, objects: Map<string, KubernetesObject | undefined>): void {
    const { of, reads } = part;
    this.#parts.delete(of);
    for (const target of reads.targets) removeFrom(this.#readers, target, of);
    this.#readEverything.delete(of);
    this.#until.delete(of);
    for (const policy of part.said.keys()) removeFrom(this.#speakers, policy, of);
    for (const object of part.objects) {
      const key = objectKey(object);
      const known = this.#objects.get(key);
      if (known === undefined) continue;
      if (!objects.has(key)) objects.set(key, known.object);
      if (known.parts === 1) this.#objects.delete(key);
      else this.#objects.set(key, { object: known.object, parts: known.parts - 1 });
    }
  }
}

/** The policies of which parts say something other than those that they replace. */
function policiesOf(old: readonly Part[], parts: readonly Part[]): ReadonlyMap<string, PolicyRef> {
  const before = new Map(old.map((part) => [part.of, part]));
  const found = new Map<string, PolicyRef>();
  const add = (part: Part, other: Part | undefined): void => {
    for (const [key, verdicts] of part.said) {
      const [first] = verdicts;
      if (first === undefined || found.has(key)) continue;
      if (!isSame(verdicts, other?.said.get(key))) found.set(key, first.policy);
    }
  };
  const now = new Map(parts.map((part) => [part.of, part]));
  for (const part of old) add(part, now.get(part.of));
  for (const part of parts) add(part, before.get(part.of));
  return found;
}

const policyKey = (ref: PolicyRef): string => `${ref.kind} ${policyName(ref)}`;

const objectKey = ({ apiVersion, kind, metadata: { namespace, name } }: KubernetesObject): string =>
  `${apiVersion} ${kind} ${namespace ?? ''}/${name}`;

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

function inOrder([tier, name, index]: Place, [otherTier, otherName, otherIndex]: Place): number {
  if (tier !== otherTier) return tier - otherTier;
  return index - otherIndex || (name < otherName ? -1 : name > otherName ? 1 : 0);
}

function addTo<K>(map: Map<K, Set<object>>, key: K, of: object): void {
  const known = map.get(key);
  if (known === undefined) map.set(key, new Set([of]));
  else known.add(of);
}

function removeFrom<K>(map: Map<K, Set<object>>, key: K, of: object): void {
  const known = map.get(key);
  known?.delete(of);
  if (known?.size === 0) map.delete(key);
}
