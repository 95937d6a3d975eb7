import type { Clock } from '../../src/lib/clock.js';
import { systemClock } from '../../src/lib/clock.js';
import { createKubernetesApi, type KubernetesApi } from '../../src/store/kubernetes/api.js';
import type { Connection } from '../../src/store/kubernetes/connection.js';
import type { KubeCredentials } from '../rig/kube-client.js';

/** The client under test, for an API server at this URL; by the machine's clock unless said. */
export function apiClient(server: string, who: KubeCredentials, clock: Clock = systemClock): KubernetesApi {
  const { token, ...tls } = who;
  const connection: Connection = {
    server: new URL(server),
    namespace: undefined,
    access: () =>
      Promise.resolve({ headers: token === undefined ? {} : { Authorization: `Bearer ${token}` }, tls }),
  };
  return createKubernetesApi(connection, clock);
}
