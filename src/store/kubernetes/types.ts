import { DEFINITIONS } from '../../resources/definitions.js';
import { SIGNET_KINDS, type SignetKind } from '../../resources/kinds.js';
import { SIGNET_GROUP, SIGNET_VERSION } from '../../resources/meta.js';
import type { ResourceType } from './resource-type.js';

function namespaced(kind: string, group: string, version: string, plural: string): ResourceType {
  return { kind, group, version, plural, scope: 'Namespaced' };
}

function clusterScoped(kind: string, group: string, version: string, plural: string): ResourceType {
  return { kind, group, version, plural, scope: 'Cluster' };
}

/** A kind of Signet's, as the API server serves it. */
export function signetType(kind: SignetKind): ResourceType {
  const { plural } = DEFINITIONS[kind];
  return { kind, group: SIGNET_GROUP, version: SIGNET_VERSION, plural, scope: SIGNET_KINDS[kind] };
}

export const POD = namespaced('Pod', '', 'v1', 'pods');
export const NAMESPACE = clusterScoped('Namespace', '', 'v1', 'namespaces');
export const SECRET = namespaced('Secret', '', 'v1', 'secrets');
export const CONFIG_MAP = namespaced('ConfigMap', '', 'v1', 'configmaps');
export const SERVICE = namespaced('Service', '', 'v1', 'services');
export const GATEWAY = namespaced('Gateway', 'gateway.networking.k8s.io', 'v1', 'gateways');
export const LEASE = namespaced('Lease', 'coordination.k8s.io', 'v1', 'leases');
export const EVENT = namespaced('Event', 'events.k8s.io', 'v1', 'events');
export const CUSTOM_RESOURCE_DEFINITION = clusterScoped(
  'CustomResourceDefinition',
  'apiextensions.k8s.io',
  'v1',
  'customresourcedefinitions',
);
