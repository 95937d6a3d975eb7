import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { KubernetesApi } from '../store/kubernetes/api.js';
import type { Discovery } from '../store/kubernetes/discovery.js';
import { createKubernetesStore, type KubernetesStore } from '../store/kubernetes/kubernetes-store.js';
import type { ObjectWriter } from '../store/kubernetes/object-writer.js';
import { trimObject } from '../store/kubernetes/trim.js';
import { GATEWAY } from '../store/kubernetes/types.js';
import type { ApiObject } from '../store/kubernetes/watch.js';
import type { Store, StoreChange, StoredObject } from '../store/store.js';

/** What Gateways are read with. */
export interface ServedGatewaysParts {
  /** What there is beside them. */
  readonly store: Store;
  readonly api: KubernetesApi;
  readonly writer: ObjectWriter;
  readonly discovery: Pick<Discovery, 'types'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** The store with the Gateways of the Gateway API, while the API server serves these. */
export interface ServedGateways {
  readonly store: Store;
  /** Follows Gateways until the signal is aborted; there are none before. */
  run(signal: AbortSignal): Promise<void>;
}

const { kind: KIND, group, version } = GATEWAY;

/** A cluster may have no Gateways, now or ever, so nothing waits for them. */
export function servedGateways(parts: ServedGatewaysParts): ServedGateways {
  const { api, writer, discovery, clock, random, logger } = parts;
  const subscribers = new Set<(changes: readonly StoreChange[]) => void>();
  let gateways: KubernetesStore | undefined;

  const follow = (): (() => Promise<void>) => {
    const stop = new AbortController();
    const followed = createKubernetesStore({
      ...{ api, writer, clock, random, logger },
      kinds: [{ type: GATEWAY, trim: withClassAlone }],
    });
    gateways = followed;
    const end = followed.subscribe((changes) => {
      for (const subscriber of [...subscribers]) subscriber(changes);
    });
    const done = followed.run(stop.signal);
    return async () => {
      end();
      stop.abort();
      gateways = undefined;
      const gone = followed.list(KIND).map((before) => ({ kind: KIND, key: keyOf(before), before }));
      if (gone.length > 0) for (const subscriber of [...subscribers]) subscriber(gone);
      await done;
    };
  };

  return {
    store: {
      synced: parts.store.synced,
      list: (kind) => (kind === KIND ? (gateways?.list(kind) ?? []) : parts.store.list(kind)),
      get: (kind, key) => (kind === KIND ? gateways?.get(kind, key) : parts.store.get(kind, key)),
      subscribe(onChanges) {
        const subscriber = (changes: readonly StoreChange[]): void => onChanges(changes);
        subscribers.add(subscriber);
        const end = parts.store.subscribe(onChanges);
        return () => {
          subscribers.delete(subscriber);
          end();
        };
      },
      writeStatus: (kind, key, status) => parts.store.writeStatus(kind, key, status),
      status: (kind, key) => parts.store.status(kind, key),
    },
    async run(signal) {
      let stop: (() => Promise<void>) | undefined;
      const stopped: Promise<void>[] = [];
      const choose = (): void => {
        const isServed = discovery.types.value?.find(group, KIND, version) !== undefined;
        if (isServed === (stop !== undefined)) return;
        if (stop !== undefined) stopped.push(stop());
        stop = isServed ? follow() : undefined;
      };
      const unwatch = discovery.types.watch(choose);
      choose();
      await new Promise<void>((resolve) => {
        if (signal.aborted) resolve();
        else signal.addEventListener('abort', () => resolve(), { once: true });
      });
      unwatch();
      await Promise.all([...stopped, stop?.()]);
    },
  };
}

/** Whether it is a waypoint, and of what: all else is for its controller. */
function withClassAlone(gateway: ApiObject): ApiObject {
  const { spec } = gateway as { readonly spec?: { readonly gatewayClassName?: unknown } };
  const trimmed = { spec: { gatewayClassName: spec?.gatewayClassName }, status: undefined };
  return { ...trimObject(gateway), ...trimmed };
}

const keyOf = ({ metadata }: StoredObject): string => `${metadata.namespace ?? ''}/${metadata.name}`;
