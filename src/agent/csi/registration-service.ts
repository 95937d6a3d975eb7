import type { Logger } from '../../lib/logger.js';
import type { HandlersOf } from '../../rpc/definition.js';
import type { kubeletRegistrationService } from '../../rpc/services.js';
import { CSI_DRIVER } from './node-service.js';

/** What the kubelet asks of a plugin that it finds, and tells it (k8s.io/kubelet pluginregistration/v1). */
export function registrationHandlers(
  driverSocket: string,
  logger: Logger,
): HandlersOf<typeof kubeletRegistrationService> {
  return {
    getInfo: () =>
      Promise.resolve({
        type: 'CSIPlugin',
        name: CSI_DRIVER,
        endpoint: driverSocket,
        // Of CSI; the kubelet takes the newest that it knows.
        supportedVersions: ['1.0.0'],
      }),
    notifyRegistrationStatus: ({ pluginRegistered, error }) => {
      if (pluginRegistered) logger.info('the kubelet has registered the CSI driver');
      else
        logger.error('the kubelet does not take the CSI driver: pods with its volumes cannot start here', {
          reason: error.slice(0, 500),
        });
      return Promise.resolve({});
    },
  };
}
