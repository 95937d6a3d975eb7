import type { CertificateAuthority } from '../identity/ca/certificate-authority.js';
import type { TrustDomainSettings } from '../cluster/trust-domain.js';
import type { Clock } from '../lib/clock.js';
import type { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import type { Watched } from '../lib/watched.js';
import { createBundleController } from '../server/controllers/bundles/controller.js';
import type { Distribution } from '../server/controllers/bundles/distribution.js';
import { createWebhookCaController, WEBHOOK_CONFIGURATIONS } from '../server/controllers/bundles/webhooks.js';
import type { EventRecorder } from '../server/controllers/controller-events.js';
import { createPodCertificateController } from '../server/controllers/pod-certificates/controller.js';
import { createRevocationController } from '../server/controllers/revocation/controller.js';
import { createTrustDomainController } from '../server/controllers/trust-domain/controller.js';
import type { KubernetesApi } from '../store/kubernetes/api.js';
import { createAppliedSet } from '../store/kubernetes/applied-set.js';
import type { Discovery } from '../store/kubernetes/discovery.js';
import { createKubernetesStore } from '../store/kubernetes/kubernetes-store.js';
import type { ObjectWriter } from '../store/kubernetes/object-writer.js';
import type { Store } from '../store/store.js';
import type { ClusterAuthorities } from './cluster-ca.js';
import { podCertificateRequests } from './pod-certificate-requests.js';
import type { NodeService } from './server-node-service.js';
import type { ControllerRunner, Term } from './server-controllers.js';

/** What the controllers of trust are made of. */
export interface ServerTrustParts {
  readonly api: KubernetesApi;
  readonly writer: ObjectWriter;
  /** The writer's. */
  readonly fieldManager: string;
  readonly store: Store;
  readonly settings: Watched<TrustDomainSettings>;
  /** Signet's own. */
  readonly namespace: string;
  /** `namespace/name` of the Lease. */
  readonly installation: string;
  readonly bundleConfigMap: string;
  readonly signerName: string;
  /** Why nothing may be signed by the clock as it is. */
  readonly clockProblem: () => SignetError | undefined;
  readonly authorities: ClusterAuthorities;
  readonly distribution: Distribution;
  readonly discovery: Discovery;
  readonly events: EventRecorder;
  readonly controllers: ControllerRunner;
  /** Called with what ends a controller. */
  readonly closing: (close: () => unknown) => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Tells of the trust domain, and changes it on request: before there are authorities too, since they may be lost. */
export function leadTrustDomain(parts: ServerTrustParts): void {
  const { store, settings, installation, authorities, events, distribution, clock, random, logger } = parts;
  const { unpublished } = distribution;
  parts.closing(
    parts.controllers.lead('trust-domain', (observe) =>
      createTrustDomainController({
        ...{
          store,
          settings,
          installation,
          authorities,
          unpublished,
          events,
          clock,
          random,
          logger,
          observe,
        },
      }),
    ),
  );
}

/** Puts the bundle where it is looked for, and signs for pods whose keys the kubelet holds. */
export function leadPublishing(
  parts: ServerTrustParts,
  ca: CertificateAuthority,
  { pods, revocations }: Pick<NodeService, 'pods' | 'revocations'>,
): void {
  const { controllers, closing } = parts;
  const { bundle } = ca;
  // In this order: what is known of where the bundle stands begins with the first.
  closing(
    controllers.lead('bundles', (observe) => {
      const { store, distribution, namespace, signerName, discovery, api, writer, fieldManager } = parts;
      const { clock, random, logger } = parts;
      const objects = createAppliedSet({
        ...{ api, writer, fieldManager, discovery, clock, random, logger },
        set: 'bundles',
        kinds: [
          { group: '', kind: 'ConfigMap', versions: ['v1'] },
          { group: 'certificates.k8s.io', kind: 'ClusterTrustBundle', versions: ['v1', 'v1beta1'] },
        ],
      });
      return beside(
        (signal) => objects.run(signal),
        createBundleController({
          ...{ store, bundle, objects, distribution, namespace, signerName, clock, random, logger, observe },
          served: discovery.types,
          configMapName: parts.bundleConfigMap,
        }),
      );
    }),
  );
  closing(
    controllers.lead('revocations', (observe) => {
      const { store, clock, random, logger } = parts;
      return createRevocationController({
        ...{ store, ca, clock, random, logger, observe, reach: revocations.reach },
      });
    }),
  );
  closing(
    controllers.lead('webhook-ca', (observe) => {
      const { writer, distribution, api, clock, random, logger } = parts;
      const kinds = WEBHOOK_CONFIGURATIONS.map((type) => ({ type }));
      const store = createKubernetesStore({ api, writer, kinds, clock, random, logger });
      return beside(
        (signal) => store.run(signal),
        createWebhookCaController({
          ...{ store, writer, bundle, distribution, clock, random, logger, observe },
        }),
      );
    }),
  );
  closing(
    controllers.lead('pod-certificates', (observe) => {
      const { signerName, events, clockProblem, clock, random, logger } = parts;
      const requests = podCertificateRequests(parts);
      return beside(
        (signal) => requests.run(signal),
        createPodCertificateController({
          ...{
            requests,
            api: requests,
            ca,
            ...pods,
            signerName,
            events,
            clockProblem,
            clock,
            random,
            logger,
            observe,
          },
        }),
      );
    }),
  );
}

/** Runs what a controller reads from for as long as the controller runs. */
/** A controller, with something that runs for as long as it does. */
export function beside(run: (signal: AbortSignal) => Promise<void>, { controller, close }: Term): Term {
  const stop = new AbortController();
  const done = run(stop.signal);
  return {
    controller,
    async close() {
      await close();
      stop.abort();
      await done;
    },
  };
}
