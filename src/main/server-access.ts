import type { RegistrationSource } from '../cluster/access-view.js';
import { createAccessController } from '../server/controllers/access/controller.js';
import { MESH_KINDS } from '../server/controllers/access/meshes.js';
import { createAppliedSet } from '../store/kubernetes/applied-set.js';
import type { ServerTrustParts } from './server-trust.js';

/** Has policies enforced by the meshes that the cluster has, and tells in their statuses how faithfully. */
export function leadAccess(
  { api, writer, fieldManager, store, discovery, events, controllers, closing, ...parts }: ServerTrustParts,
  registrations: RegistrationSource,
): void {
  const { clock, random, logger } = parts;
  closing(
    controllers.lead('access', (observe) => ({
      controller: createAccessController({
        ...{ store, registrations, events, clock, random, logger, observe },
        objects: createAppliedSet({
          ...{ api, writer, fieldManager, discovery, clock, random, logger },
          ...{ set: 'mesh', kinds: MESH_KINDS },
        }),
        served: discovery.types,
      }),
      close: () => undefined,
    })),
  );
}
