import { SIGNET_KINDS, type SignetKind } from '../../resources/kinds.js';
import { fixedStore } from '../fixed-store.js';
import type { Store } from '../store.js';
import type { KubernetesApi } from './api.js';
import { ApiError } from './api-error.js';
import { listAll } from './list.js';
import { missingRule } from './rbac.js';
import { collectionPath, type ResourceType } from './resource-type.js';
import { podTrimmer, trimObject } from './trim.js';
import { NAMESPACE, POD, SERVICE, signetType } from './types.js';
import type { ApiObject } from './watch.js';

const GATEWAY: ResourceType = {
  ...{ kind: 'Gateway', group: 'gateway.networking.k8s.io', version: 'v1', plural: 'gateways' },
  scope: 'Namespaced',
};

/** The kinds that {@link readCluster} reads. */
export const CLUSTER_KINDS: readonly string[] = [
  ...['Namespace', 'Pod', 'Service', 'Gateway'],
  ...Object.keys(SIGNET_KINDS),
];

/**
 * Reads once what access is decided by: Signet's resources, and the namespaces, pods and services that they are about.
 *
 * @throws ApiError; `ApiForbidden` with the rule to add, `ApiNotFound` where Signet's CRDs are not installed
 */
export async function readCluster(api: KubernetesApi, signal: AbortSignal): Promise<Store> {
  const read = async (type: ResourceType, trim: (object: ApiObject) => ApiObject = trimObject) => {
    const path = collectionPath(type);
    const { objects } = await listAll(api, path, { query: {} }, trim, signal).catch((thrown: unknown) => {
      throw explained(ApiError.from(thrown), type);
    });
    return objects;
  };
  const signet = (Object.keys(SIGNET_KINDS) as readonly SignetKind[]).map((kind) => signetType(kind));
  const lists = await Promise.all([
    ...signet.map((type) => read(type)),
    read(NAMESPACE),
    read(SERVICE),
    read(POD, podTrimmer()),
    // Not every cluster has them.
    read(GATEWAY).catch((thrown: unknown) => {
      if (ApiError.from(thrown).code === 'ApiNotFound') return [];
      throw thrown;
    }),
  ]);
  return fixedStore(lists.flat());
}

function explained(error: ApiError, type: ResourceType): ApiError {
  if (error.code === 'ApiForbidden') {
    const rule = missingRule(type, ['list']).replace("Signet's ClusterRole", 'a ClusterRole of yours');
    return new ApiError('ApiForbidden', `you may not list ${type.plural}: ${rule}`, { cause: error });
  }
  if (error.code === 'ApiNotFound')
    return new ApiError(
      'ApiNotFound',
      `the API server does not serve ${type.plural}.${type.group}; install Signet's CRDs (kubectl apply -f crds/)`,
      { cause: error },
    );
  return error;
}
