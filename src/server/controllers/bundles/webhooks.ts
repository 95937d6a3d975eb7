import type { TrustBundle } from '../../../identity/spiffe/bundle.js';
import type { Clock } from '../../../lib/clock.js';
import { SignetError } from '../../../lib/errors.js';
import type { Logger } from '../../../lib/logger.js';
import type { Random } from '../../../lib/random.js';
import type { Watched } from '../../../lib/watched.js';
import type { ObjectWriter } from '../../../store/kubernetes/object-writer.js';
import type { ResourceType } from '../../../store/kubernetes/resource-type.js';
import type { Store } from '../../../store/store.js';
import { createController, type Controller, type ReconcileOutcome } from '../controller.js';
import type { Distribution } from './distribution.js';
import { INJECT_CA_ANNOTATION, withCaBundle } from './plan.js';

const GROUP = { group: 'admissionregistration.k8s.io', version: 'v1', scope: 'Cluster' } as const;

/** The kinds that a webhook's authority is written into. */
export const WEBHOOK_CONFIGURATIONS: readonly ResourceType[] = [
  { ...GROUP, kind: 'ValidatingWebhookConfiguration', plural: 'validatingwebhookconfigurations' },
  { ...GROUP, kind: 'MutatingWebhookConfiguration', plural: 'mutatingwebhookconfigurations' },
];

/** What the controller is made of. */
export interface WebhookCaOptions {
  /** Has the webhook configurations. */
  readonly store: Store;
  readonly writer: Pick<ObjectWriter, 'get' | 'replace'>;
  readonly bundle: Watched<TrustBundle>;
  readonly distribution: Distribution;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly observe?: (outcome: ReconcileOutcome, seconds: number) => void;
}

/**
 * Keeps `caBundle` of webhook configurations that ask for it, so that the API server trusts webhooks with SVIDs. Written
 * as an update of the newest object: nothing else of it changes, and no field becomes ours to take away. For one term of
 * leading: run it, then close it.
 */
export function createWebhookCaController(options: WebhookCaOptions): {
  readonly controller: Controller;
  close(): void;
} {
  const { store, writer, bundle, distribution } = options;

  const reconcile = async (key: string): Promise<undefined> => {
    const [kind = '', name = ''] = key.split('/');
    const type = WEBHOOK_CONFIGURATIONS.find((one) => one.kind === kind);
    const seen = store.get(kind, name);
    if (type === undefined || seen === undefined || !asks(seen)) {
      distribution.forget(key);
      return undefined;
    }
    const { sequence } = bundle.value;
    if (withCaBundle(seen, bundle.value) !== undefined) {
      try {
        const present = await writer.get(type, { namespace: '', name });
        const changed = withCaBundle(present, bundle.value);
        if (changed !== undefined) await writer.replace(type, changed);
      } catch (thrown) {
        const { code, message } = SignetError.from(thrown);
        distribution.failed(key, { reason: code, message: `${kind} ${name}: ${message}` }, true);
        throw thrown;
      }
    }
    distribution.published(key, sequence);
    return undefined;
  };

  const controller = createController({ ...options, name: 'webhook-ca', reconcile });
  const all = (): void => {
    for (const { kind } of WEBHOOK_CONFIGURATIONS)
      for (const object of store.list(kind)) if (asks(object)) take(kind, object.metadata.name);
  };
  const take = (kind: string, name: string): void => {
    distribution.expect(`${kind}/${name}`);
    controller.enqueue(`${kind}/${name}`);
  };
  const ends = [
    bundle.watch(all),
    store.subscribe((changes) => {
      for (const { kind, key, before, after } of changes)
        if ((before !== undefined && asks(before)) || (after !== undefined && asks(after))) take(kind, key);
    }),
  ];
  all();
  return { controller, close: () => ends.forEach((end) => end()) };
}

function asks({
  metadata,
}: {
  readonly metadata: { readonly annotations?: Readonly<Record<string, string>> };
}): boolean {
  return metadata.annotations?.[INJECT_CA_ANNOTATION] === 'true';
}
