import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import type { CertificateAuthority } from '../identity/ca/certificate-authority.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { Watched } from '../lib/watched.js';
import { createReadinessController } from '../server/controllers/readiness/controller.js';
import type { ObjectWriter } from '../store/kubernetes/object-writer.js';
import type { Store } from '../store/store.js';
import { POD } from '../store/kubernetes/types.js';
import type { Operations } from './operations.js';
import type { ControllerRunner } from './server-controllers.js';
import type { NodeService } from './server-node-service.js';
import { openWebhook, type RunningWebhook, type WebhookOptions } from './server-webhook.js';
import { runTask, type TaskFailed } from './tasks.js';

/** What is done for pods that come into being. */
export interface ServerPodsParts {
  readonly store: Store;
  readonly writer: Pick<ObjectWriter, 'applyStatus'>;
  readonly node: NodeService;
  readonly ca: CertificateAuthority;
  readonly settings: Watched<TrustDomainSettings>;
  readonly leading: Watched<boolean>;
  /** No webhook unless said. */
  readonly webhook: WebhookOptions | undefined;
  readonly operations: Operations;
  readonly controllers: Pick<ControllerRunner, 'observe'>;
  readonly failed: TaskFailed;
  /** Called with what ends a part of it. */
  readonly closing: (close: () => unknown) => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Injects what pods need to have an identity, where that is asked for, and tells pods that wait for theirs. On every replica. */
export async function servePods(parts: ServerPodsParts): Promise<RunningWebhook | undefined> {
  const { store, writer, node, ca, settings, leading, operations, clock, random, logger } = parts;
  const { controller, close } = createReadinessController({
    ...{ store, leading, clock, random, logger, ...node.readiness },
    observe: parts.controllers.observe('readiness'),
    async write({ namespace, name, uid }, condition) {
      const written = await writer.applyStatus(
        POD,
        { namespace, name },
        { uid },
        { conditions: [condition] },
      );
      return written.metadata.resourceVersion;
    },
  });
  parts.closing(runTask('telling pods of their identity', (signal) => controller.run(signal), parts.failed));
  parts.closing(close);
  if (parts.webhook === undefined) return undefined;
  let isServed = false;
  operations.health.ready.add('webhook', () => (isServed ? undefined : 'the webhook is not served yet'));
  const webhook = await openWebhook(parts.webhook, {
    ...{ ca, metrics: operations.metrics, clock, random, logger },
    ttlSeconds: () => settings.value.ttlSeconds.x509Svid,
    ...{ bundleOf: node.bundleOf, onTrustChange: node.onTrustChange },
  });
  isServed = true;
  parts.closing(webhook.close);
  return webhook;
}
