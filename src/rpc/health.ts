import type { Watched } from '../lib/watched.js';
import { WatchedValue } from '../lib/watched.js';
import type { HandlersOf } from './definition.js';
import type { HealthService } from './gen/grpc/health/v1/health.js';
import { HealthCheckResponse_ServingStatus as Status } from './gen/grpc/health/v1/health.js';
import { StatusError } from './service.js';

/** The state behind the standard health service (grpc/doc/health-checking.md). */
export interface Health {
  readonly handlers: HandlersOf<typeof HealthService>;
  /** Says whether a service serves; the empty name stands for the whole server, which serves unless said. */
  set(service: string, serving: boolean): void;
  /** Everything stops to serve, for good. */
  stop(): void;
}

/** Creates the health of a server that serves. */
export function createHealth(): Health {
  const states = new WatchedValue<ReadonlyMap<string, Status>>(new Map([['', Status.SERVING]]));
  let stopped = false;
  return {
    handlers: {
      check({ service }) {
        const status = states.value.get(service);
        if (status === undefined)
          return Promise.reject(
            new StatusError('NotFound', `no service ${JSON.stringify(service.slice(0, 200))} is known here`),
          );
        return Promise.resolve({ status });
      },
      async watch({ service }, { signal }, sink) {
        let told: Status | undefined;
        while (!signal.aborted) {
          // The protocol keeps a stream for an unknown service open: the service may come.
          const status = states.value.get(service) ?? Status.SERVICE_UNKNOWN;
          if (status === told) await changed(states, signal);
          else {
            told = status;
            await sink.write({ status });
          }
        }
      },
    },
    set(service, serving) {
      if (stopped) return;
      states.set(new Map(states.value).set(service, serving ? Status.SERVING : Status.NOT_SERVING));
    },
    stop() {
      stopped = true;
      states.set(new Map([...states.value.keys()].map((service) => [service, Status.NOT_SERVING])));
    },
  };
}

/** Resolves at the next change, or when the signal is aborted. */
function changed(states: Watched<unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stop();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const stop = states.watch(done);
    signal.addEventListener('abort', done, { once: true });
  });
}
