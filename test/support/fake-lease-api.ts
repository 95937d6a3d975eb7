import type { Clock } from '../../src/lib/clock.js';
import type { Random } from '../../src/lib/random.js';
import { ApiError, errorOfAnswer } from '../../src/store/kubernetes/api-error.js';
import type { ApiRequest } from '../../src/store/kubernetes/api.js';

interface Lease {
  readonly metadata: { readonly name: string; readonly uid: string; readonly resourceVersion: string };
  readonly spec?: { readonly holderIdentity?: string };
}

/** How a request fares on its way. Times in milliseconds; Infinity never comes. */
export interface Fate {
  readonly thereMs: number;
  readonly backMs: number;
  /** The API server refuses instead. */
  readonly status?: number;
}

/** An API server with one Lease, behind a network that delays, loses and refuses as a test says. */
export class FakeLeaseApi {
  lease: Lease | undefined;
  /** Of those that came through. */
  readonly writes: { readonly at: number; readonly holder: string | undefined }[] = [];
  readonly #clock: Clock;
  #version = 1;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A client of it. What hangs is given up when its time is over, and may come through later all the same. */
  client(fate: () => Fate): { send(request: ApiRequest): Promise<unknown> } {
    return {
      send: (request) =>
        new Promise((resolve, reject) => {
          const { thereMs, backMs, status } = fate();
          this.#clock.after(request.timeoutMs ?? 30_000, () =>
            reject(new ApiError('ApiTimeout', 'no answer')),
          );
          const onAbort = (): void => reject(new ApiError('ApiUnreachable', 'given up'));
          request.signal?.addEventListener('abort', onAbort, { once: true });
          if (request.signal?.aborted === true) onAbort();
          if (!Number.isFinite(thereMs)) return;
          this.#clock.after(thereMs, () => {
            let done: () => void;
            try {
              if (status !== undefined) throw errorOfAnswer(status, {}, request.method);
              const answer = this.#handle(request);
              done = () => resolve(answer);
            } catch (thrown) {
              const error = ApiError.from(thrown);
              done = () => reject(error);
            }
            if (Number.isFinite(backMs)) this.#clock.after(backMs, done);
          });
        }),
    };
  }

  #handle({ method, body }: ApiRequest): Lease {
    if (method === 'GET') {
      if (this.lease === undefined) throw errorOfAnswer(404, {}, 'GET');
      return this.lease;
    }
    const sent = body as Lease;
    if (method === 'POST' && this.lease !== undefined) throw errorOfAnswer(409, {}, 'POST');
    if (method === 'PUT') {
      if (this.lease === undefined) throw errorOfAnswer(404, {}, 'PUT');
      if (this.lease.metadata.resourceVersion !== sent.metadata.resourceVersion)
        throw errorOfAnswer(409, {}, 'PUT');
    }
    this.#version++;
    const uid = this.lease?.metadata.uid ?? `lease-${this.#version}`;
    this.lease = {
      ...sent,
      metadata: { ...sent.metadata, uid, resourceVersion: String(this.#version) },
    };
    this.writes.push({ at: this.#clock.monotonic(), holder: sent.spec?.holderIdentity });
    return this.lease;
  }
}

/** As {@link anyFate}, and now and then the network is away for a while, of this client alone. */
export function partitionedFate(clock: Clock, random: Random, trouble: number): () => Fate {
  let changesAt = 0;
  let away = false;
  return () => {
    if (clock.monotonic() >= changesAt) {
      away = !away && random.fraction() < 0.5;
      changesAt = clock.monotonic() + 25_000 * random.fraction();
    }
    return away ? { thereMs: Infinity, backMs: 0 } : anyFate(random, trouble);
  };
}

/** Mostly well, sometimes slow, lost on either way, or refused. */
function anyFate(random: Random, trouble: number): Fate {
  const draw = random.fraction();
  const soon = (): number => 1 + 30 * random.fraction();
  if (draw >= trouble) return { thereMs: soon(), backMs: soon() };
  const late = 20_000 * random.fraction();
  switch (Math.floor((draw / trouble) * 5)) {
    case 0:
      return { thereMs: late, backMs: soon() };
    case 1:
      return { thereMs: soon(), backMs: late };
    case 2:
      return { thereMs: Infinity, backMs: 0 };
    case 3:
      return { thereMs: soon(), backMs: Infinity };
    default:
      return { thereMs: soon(), backMs: soon(), status: [409, 429, 500, 403][Math.floor(late) % 4] ?? 500 };
  }
}
