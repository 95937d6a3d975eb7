import { objectMetadata, objectName } from '../objects.js';
import type { Renderer } from '../renderer.js';
import { envoyFilters, type EnvoyOptions } from './filters.js';

/**
 * Renders, for each workload that policies concern, a ConfigMap that holds Envoy's filters for it, ready for the
 * workload's listener.
 */
export function envoyRenderer(options: EnvoyOptions = {}): Renderer {
  return {
    mesh: 'envoy',
    renderWorkload(workload, context) {
      const { verdicts, until, http, connectionManager, network, clusters } = envoyFilters(
        workload,
        context,
        options,
      );
      const policies = context.set.concerning(workload).map(({ ref }) => ref);
      if (policies.length === 0 && context.set.defaultAction === 'Allow')
        return { objects: [], verdicts: [] };
      const name = objectName(workload.name, 'envoy');
      const object = {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: objectMetadata(name, workload.namespace, policies),
        // JSON, which Envoy reads as it does YAML: of ten thousand workloads YAML would take most of the time.
        data: {
          'filters.json': JSON.stringify({ http, connectionManager, network, clusters }, undefined, 2),
        },
      };
      return { objects: [object], verdicts, ...(until === undefined ? {} : { until }) };
    },
  };
}
