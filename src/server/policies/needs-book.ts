/** Which topics the policies of a place ask for, and by how many policies each is asked for. */
export class NeedsBook {
  readonly #byPlace = new Map<string, Map<string, number>>();
  readonly #byPolicy = new Map<string, readonly string[]>();

  /** The topics that policies of the place ask for. */
  of(place: string): Iterable<string> {
    return this.#byPlace.get(place)?.keys() ?? [];
  }

  /** A policy of the place asks for these topics from now on. What is asked for the first time, and what no more. */
  set(
    place: string,
    policy: string,
    needs: readonly string[],
  ): { readonly come: readonly string[]; readonly gone: readonly string[] } {
    const before = this.#byPolicy.get(policy) ?? [];
    if (needs.length === 0) this.#byPolicy.delete(policy);
    else this.#byPolicy.set(policy, needs);
    const come = needs.filter((topic) => !before.includes(topic) && this.#count(place, topic, 1) === 1);
    const gone = before.filter((topic) => !needs.includes(topic) && this.#count(place, topic, -1) === 0);
    return { come, gone };
  }

  #count(place: string, topic: string, by: 1 | -1): number {
    const counts = this.#byPlace.get(place) ?? new Map<string, number>();
    this.#byPlace.set(place, counts);
    const count = (counts.get(topic) ?? 0) + by;
    if (count > 0) counts.set(topic, count);
    else counts.delete(topic);
    if (counts.size === 0) this.#byPlace.delete(place);
    return count;
  }
}
