/** A binary heap: the smallest key comes out first. */
export class MinHeap<T> {
  readonly #entries: { readonly key: number; readonly value: T }[] = [];

  get size(): number {
    return this.#entries.length;
  }

  peek(): { readonly key: number; readonly value: T } | undefined {
    return this.#entries[0];
  }

  push(key: number, value: T): void {
    const entries = this.#entries;
    const entry = { key, value };
    let at = entries.push(entry) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = entries[above];
      if (parent === undefined || parent.key <= key) break;
      entries[at] = parent;
      at = above;
    }
    entries[at] = entry;
  }

  pop(): { readonly key: number; readonly value: T } | undefined {
    const entries = this.#entries;
    const first = entries[0];
    const last = entries.pop();
    if (last === undefined || entries.length === 0) return first;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      const child = this.#smaller(left, left + 1);
      const entry = entries[child];
      if (entry === undefined || entry.key >= last.key) break;
      entries[at] = entry;
      at = child;
    }
    entries[at] = last;
    return first;
  }

  #smaller(one: number, other: number): number {
    const a = this.#entries[one];
    const b = this.#entries[other];
    return a !== undefined && b !== undefined && b.key < a.key ? other : one;
  }
}
