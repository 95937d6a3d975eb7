import type { Fields } from './pod.js';
import { listenerPort, type ProxySettings } from './proxy-settings.js';

export const CAPTURE_CONTAINER = 'signet-capture';

/**
 * Has the pod's packet filter lead callers to the proxy, before anything else of the pod runs: when it fails, nothing does.
 * It is root, with one capability and no way to more: Kubernetes gives capabilities to root alone.
 */
export function captureContainer(image: string, proxy: ProxySettings): Fields {
  const listened = new Set(proxy.inbound.map(({ listen }) => listen));
  const closed = proxy.inbound.filter(({ program }) => !listened.has(program)).map(({ program }) => program);
  return {
    name: CAPTURE_CONTAINER,
    image,
    args: [
      'proxy-capture',
      ...proxy.inbound.map((port) => `--redirect=${port.listen}:${listenerPort(proxy, port)}`),
      ...[...new Set(closed)].map((port) => `--close=${port}`),
    ],
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] },
      readOnlyRootFilesystem: true,
      ...{ runAsNonRoot: false, runAsUser: 0, runAsGroup: 0 },
      seccompProfile: { type: 'RuntimeDefault' },
    },
    resources: { requests: { cpu: '10m', memory: '64Mi' }, limits: { memory: '256Mi' } },
    // A failure is told in the status of the pod, too.
    terminationMessagePolicy: 'FallbackToLogsOnError',
  };
}
