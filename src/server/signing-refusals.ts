/** Why signing was refused here last, by registration, until an SVID was signed. Old ones give way to new ones. */
export class SigningRefusals {
  readonly #max: number;
  readonly #known = new Map<string, string>();
  readonly #watchers = new Set<(registrationId: string) => void>();

  constructor(max = 10_000) {
    this.#max = max;
  }

  refused(registrationId: string, why: string): void {
    if (this.#known.get(registrationId) === why) return;
    this.#known.delete(registrationId);
    this.#known.set(registrationId, why);
    if (this.#known.size > this.#max) {
      const [oldest] = this.#known.keys();
      if (oldest !== undefined) this.#known.delete(oldest);
    }
    for (const watcher of [...this.#watchers]) watcher(registrationId);
  }

  signed(registrationId: string): void {
    this.#known.delete(registrationId);
  }

  get(registrationId: string): string | undefined {
    return this.#known.get(registrationId);
  }

  /** Calls `onRefused` for each refusal that is new. Returns what ends the watch. */
  watch(onRefused: (registrationId: string) => void): () => void {
    const watcher = (registrationId: string): void => onRefused(registrationId);
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }
}
