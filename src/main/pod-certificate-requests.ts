import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import {
  POD_CERTIFICATE_REQUEST,
  type PodCertificateApi,
} from '../server/controllers/pod-certificates/controller.js';
import { ApiError } from '../store/kubernetes/api-error.js';
import type { KubernetesApi } from '../store/kubernetes/api.js';
import type { Discovery } from '../store/kubernetes/discovery.js';
import { createKubernetesStore, type KubernetesStore } from '../store/kubernetes/kubernetes-store.js';
import type { ObjectWriter } from '../store/kubernetes/object-writer.js';
import { apiVersionOf, type ResourceType } from '../store/kubernetes/resource-type.js';
import type { Store, StoreChange } from '../store/store.js';

/** What the requests are read with. */
export interface PodCertificateRequestsParts {
  readonly api: KubernetesApi;
  readonly writer: ObjectWriter;
  readonly discovery: Pick<Discovery, 'types'>;
  readonly signerName: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** PodCertificateRequests of one signer, in whichever version the API server serves. */
export type PodCertificateRequests = Pick<Store, 'list' | 'get' | 'subscribe'> &
  PodCertificateApi & { run(signal: AbortSignal): Promise<void> };

const GROUP = 'certificates.k8s.io';
/** Those that we can read, the best first. */
const VERSIONS = ['v1', 'v1beta1'];

/** Nothing is read before it runs. */
export function podCertificateRequests(parts: PodCertificateRequestsParts): PodCertificateRequests {
  const { api, writer, discovery, signerName, clock, random, logger } = parts;
  const subscribers = new Set<(changes: readonly StoreChange[]) => void>();
  let current: { readonly type: ResourceType; readonly store: KubernetesStore } | undefined;
  const served = (version: string): ResourceType | undefined =>
    discovery.types.value?.find(GROUP, POD_CERTIFICATE_REQUEST, version);

  /** Follows one version until it is stopped. */
  const follow = (type: ResourceType): (() => Promise<void>) => {
    const stop = new AbortController();
    const kinds = [{ type, fieldSelector: `spec.signerName=${signerName}` }];
    const store = createKubernetesStore({ api, writer, kinds, clock, random, logger });
    current = { type, store };
    const end = store.subscribe((changes) => subscribers.forEach((subscriber) => subscriber(changes)));
    logger.info('signing the certificates of pods', { signer: signerName, version: apiVersionOf(type) });
    const done = store.run(stop.signal);
    return async () => {
      end();
      stop.abort();
      await done;
    };
  };

  return {
    list: (kind) => current?.store.list(kind) ?? [],
    get: (kind, key) => current?.store.get(kind, key),
    subscribe(onChanges) {
      const subscriber = (changes: readonly StoreChange[]): void => onChanges(changes);
      subscribers.add(subscriber);
      return () => subscribers.delete(subscriber);
    },

    async answer({ namespace, name, uid }, status) {
      if (current === undefined) return false;
      try {
        await writer.applyStatus(current.type, { namespace, name }, { uid }, status);
        return true;
      } catch (thrown) {
        const { code } = ApiError.from(thrown);
        if (code === 'ApiNotFound' || code === 'ApiConflict') return false;
        throw thrown;
      }
    },

    async inBeta({ namespace, name }) {
      const type = served('v1beta1');
      return type === undefined ? undefined : writer.get(type, { namespace, name });
    },

    async run(signal) {
      let stop: (() => Promise<void>) | undefined;
      const stopped: Promise<void>[] = [];
      const choose = (): void => {
        const [type] = VERSIONS.flatMap((version) => served(version) ?? []);
        if (type?.version === current?.type.version) return;
        if (stop !== undefined) stopped.push(stop());
        current = undefined;
        stop = type === undefined ? undefined : follow(type);
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
