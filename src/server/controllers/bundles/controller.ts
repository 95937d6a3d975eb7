import type { TrustBundle } from '../../../identity/spiffe/bundle.js';
import type { Clock } from '../../../lib/clock.js';
import { SignetError } from '../../../lib/errors.js';
import type { Logger } from '../../../lib/logger.js';
import type { Random } from '../../../lib/random.js';
import type { Watched } from '../../../lib/watched.js';
import type { DesiredObject } from '../../../store/kubernetes/applied-content.js';
import type { AppliedSet } from '../../../store/kubernetes/applied-set.js';
import type { Store } from '../../../store/store.js';
import {
  createController,
  type Controller,
  type ReconcileOutcome,
  type ReconcileResult,
} from '../controller.js';
import type { Distribution } from './distribution.js';
import { bundleConfigMap, clusterTrustBundle, INJECT_BUNDLE_LABEL } from './plan.js';

/** What the controller is made of. */
export interface BundleControllerOptions {
  /** Has the Namespaces. */
  readonly store: Store;
  readonly bundle: Watched<TrustBundle>;
  /** Of this controller alone. */
  readonly objects: Pick<AppliedSet, 'apply' | 'onDrift' | 'owners' | 'typeOf'>;
  /** Called when the API server serves other kinds. */
  readonly served: Watched<unknown>;
  readonly distribution: Distribution;
  /** Signet's own, where agents mount the ConfigMap. */
  readonly namespace: string;
  readonly configMapName: string;
  /** Of the ClusterTrustBundle. */
  readonly signerName: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly observe?: (outcome: ReconcileOutcome, seconds: number) => void;
}

/** How soon what the API server has not told yet is looked for again. */
const UNREAD_MS = 100;

const CLUSTER = 'cluster';
const IN_NAMESPACE = 'namespace/';

/**
 * Puts the bundle where workloads and the API server look for it: a ConfigMap in each namespace that asks for it and in
 * Signet's own, and a ClusterTrustBundle. For one term of leading: run it, then close it.
 */
export function createBundleController(options: BundleControllerOptions): {
  readonly controller: Controller;
  close(): void;
} {
  const { store, bundle, objects, distribution, namespace } = options;

  const asks = (name: string): boolean =>
    name === namespace || store.get('Namespace', name)?.metadata.labels?.[INJECT_BUNDLE_LABEL] === 'true';
  const desired = (key: string): readonly DesiredObject[] => {
    if (key === CLUSTER) {
      const type = objects.typeOf('certificates.k8s.io', 'ClusterTrustBundle');
      return type === undefined ? [] : [clusterTrustBundle(type, options.signerName, bundle.value)];
    }
    const name = key.slice(IN_NAMESPACE.length);
    return asks(name) ? [bundleConfigMap(name, options.configMapName, bundle.value)] : [];
  };

  const reconcile = async (key: string): Promise<ReconcileResult | undefined> => {
    const { sequence } = bundle.value;
    const wanted = desired(key);
    const { failures } = await objects.apply(key, wanted);
    const [first] = failures;
    if (first === undefined) {
      if (wanted.length === 0) distribution.forget(key);
      else distribution.published(key, sequence);
      return undefined;
    }
    const message = `${first.object}: ${first.message}`;
    const retry = failures.some((failure) => failure.retry);
    if (first.code === 'NamespaceGone' || wanted.length === 0) distribution.forget(key);
    else distribution.failed(key, { reason: first.code, message }, retry);
    // So it is in the first moments of each term; who waits for the bundle is told.
    if (retry && failures.every(({ code }) => code === 'NotSynced')) return { requeueAfterMs: UNREAD_MS };
    if (retry) throw new SignetError(first.code, message);
    if (first.code !== 'NamespaceGone')
      options.logger.warn('the bundle is not where it should be', { code: first.code, reason: message });
    return undefined;
  };

  const controller = createController({ ...options, name: 'bundles', reconcile });
  const namespaces = (): readonly string[] => {
    const names = store.list('Namespace').map(({ metadata }) => metadata.name);
    return [...new Set([namespace, ...names.filter(asks)])].map((name) => `${IN_NAMESPACE}${name}`);
  };
  const all = (): void => {
    const keys = [CLUSTER, ...namespaces()];
    for (const key of keys) if (desired(key).length > 0) distribution.expect(key);
    for (const key of new Set([...keys, ...objects.owners()])) controller.enqueue(key);
  };
  const ends = [
    bundle.watch(all),
    options.served.watch(all),
    objects.onDrift((owner) => controller.enqueue(owner)),
    store.subscribe((changes) => {
      for (const { kind, key, before, after } of changes) {
        if (kind !== 'Namespace') continue;
        const label = (object: typeof before): unknown => object?.metadata.labels?.[INJECT_BUNDLE_LABEL];
        if (label(before) !== label(after) || key === namespace) controller.enqueue(`${IN_NAMESPACE}${key}`);
      }
    }),
  ];
  distribution.reset();
  all();
  return { controller, close: () => ends.forEach((end) => end()) };
}
