import type { RegistrationSource } from '../cluster/access-view.js';
import { createAccessController } from '../server/controllers/access/controller.js';
import { MESH_KINDS } from '../server/controllers/access/meshes.js';
import { createAppliedSet } from '../store/kubernetes/applied-set.js';
import { servedGateways } from './served-gateways.js';
import { beside, type ServerTrustParts } from './server-trust.js';

/** Has policies enforced by the meshes that the cluster has, and tells in their statuses how faithfully. */
export function leadAccess(
  { api, writer, fieldManager, store, discovery, events, controllers, closing, ...parts }: ServerTrustParts,
  registrations: RegistrationSource,
): void {
  const { clock, random, logger } = parts;
  closing(
    controllers.lead('access', (observe) => {
      const gateways = servedGateways({ store, api, writer, discovery, clock, random, logger });
      const controller = createAccessController({
        ...{ store: gateways.store, registrations, events, clock, random, logger, observe },
        objects: createAppliedSet({
          ...{ api, writer, fieldManager, discovery, clock, random, logger },
          ...{ set: 'mesh', kinds: MESH_KINDS },
        }),
        served: discovery.types,
      });
      return beside((signal) => gateways.run(signal), { controller, close: () => undefined });
    }),
  );
}
