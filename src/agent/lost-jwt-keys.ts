/** So many are remembered; one is added whenever an authority ends. */
const REMEMBERED = 64;

/**
 * Tells of JWT keys that were in the bundle and are in it no more. One that has come to its end leaves it after the last token
 * that it signed; one that was lost, with others made in its place, leaves tokens behind that nobody takes. (A key that was
 * never in the bundle may be newer than the bundle.)
 */
export class LostJwtKeys {
  #present: readonly string[] = [];
  #lost: readonly string[] = [];

  /** The key IDs that are lost as of this bundle, the newest. One that is back, from a backup, is not. */
  asOf(present: readonly string[]): readonly string[] {
    const are = new Set(present);
    const were = new Set([...this.#lost, ...this.#present]);
    this.#lost = [...were].filter((id) => !are.has(id)).slice(-REMEMBERED);
    this.#present = present;
    return this.#lost;
  }
}
