import type { Watched } from '../lib/watched.js';
import type { RevocationMark } from '../rpc/node-api.js';
import type { StateSource } from './state-stream.js';

/**
 * The same source, each of whose updates says which revocations it takes into account. A new mark is told even when nothing else
 * has changed, with `nothing`, once the state itself was told.
 */
export function markedSource<T extends { readonly revocations?: RevocationMark | undefined }>(
  source: StateSource<T>,
  mark: Watched<RevocationMark> | undefined,
  nothing: T,
): StateSource<T> {
  if (mark === undefined) return source;
  let told: RevocationMark | undefined;
  return {
    subscribe(wake) {
      const ends = [source.subscribe(wake), mark.watch(wake)];
      return () => ends.forEach((end) => end());
    },
    take() {
      const revocations = mark.value;
      const next = source.take();
      if (next === undefined && (told === undefined || told === revocations)) return undefined;
      told = revocations;
      return { ...(next ?? nothing), revocations };
    },
  };
}
