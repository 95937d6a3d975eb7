import type { Fields } from './pod.js';
import { proxyBootstrap } from './proxy-bootstrap.js';
import type { ProbeCheck } from './proxy-probe-checks.js';
import { listenerPort, PROXY_HEALTH_PORT, type ProxySettings } from './proxy-settings.js';

export const PROXY_CONTAINER = 'signet-proxy';

/** What the proxy of a pod is made of. */
export interface ProxyParts {
  readonly image: string;
  readonly proxy: ProxySettings;
  /** What it asks the program in the kubelet's place. */
  readonly probes: readonly ProbeCheck[];
  /** Name of the volume with the pod's socket. */
  readonly volume: string;
  readonly mountPath: string;
  /** File name of the socket in it. */
  readonly socket: string;
}

/**
 * Envoy as a native side-car: an init container that goes on running (restartPolicy Always, Kubernetes 1.29). It is started
 * before all others and ended after them, and the others wait until it serves, which is when the identity has come.
 */
export function proxyContainer({ image, proxy, probes, volume, mountPath, socket }: ProxyParts): Fields {
  const bootstrap = proxyBootstrap(proxy, `${mountPath}/${socket}`, probes);
  const field = (name: string, fieldPath: string): Fields => ({
    name,
    valueFrom: { fieldRef: { fieldPath } },
  });
  return {
    name: PROXY_CONTAINER,
    image,
    restartPolicy: 'Always',
    command: ['envoy'],
    // The kubelet puts the pod's address in the place of $(POD_IP).
    args: [
      ...['--config-yaml', JSON.stringify(bootstrap)],
      ...['--disable-hot-restart', '--concurrency', '2', '--log-level', 'warning'],
    ],
    env: [
      field('POD_IP', 'status.podIP'),
      field('POD_NAME', 'metadata.name'),
      field('POD_NAMESPACE', 'metadata.namespace'),
      { name: 'SPIFFE_ENDPOINT_SOCKET', value: `unix://${mountPath}/${socket}` },
    ],
    ports: [...proxy.inbound.map((port) => listenerPort(proxy, port)), PROXY_HEALTH_PORT].map(
      (containerPort) => ({
        containerPort,
        protocol: 'TCP',
      }),
    ),
    // Ten minutes: until then the identity may come, and starting again would not bring it sooner.
    startupProbe: {
      httpGet: { path: '/startup', port: PROXY_HEALTH_PORT },
      periodSeconds: 1,
      failureThreshold: 600,
    },
    readinessProbe: {
      httpGet: { path: '/ready', port: PROXY_HEALTH_PORT },
      periodSeconds: 2,
      failureThreshold: 1,
    },
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      runAsUser: 65532,
      runAsGroup: 65532,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    resources: { requests: { cpu: '10m', memory: '64Mi' }, limits: { memory: '256Mi' } },
    volumeMounts: [{ name: volume, mountPath, readOnly: true }],
  };
}
