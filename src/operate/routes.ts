import { isIPv4 } from 'node:net';
import type { HttpAnswer, HttpCall, HttpRoute } from '../rpc/http/route.js';
import { StatusError } from '../rpc/service.js';
import { healthText, type Health, type HealthChecks } from './health.js';
import type { Metrics } from './metrics/metrics.js';

/** What operators may look at. */
export interface OperationsOptions {
  readonly health: Health;
  readonly metrics: Metrics;
  /** What the program has in mind, for people who look for a fault. Never a key, a token, or an SVID. */
  readonly state: () => unknown;
}

/**
 * `/livez`, `/readyz` and `/metrics` for everybody who reaches the port, since they say nothing of any workload; and
 * `/debug/state`, which does, for this machine alone: `kubectl port-forward` comes from it.
 */
export function operationsRoutes({ health, metrics, state }: OperationsOptions): readonly HttpRoute[] {
  return [
    { method: 'GET', path: '/livez', handle: (call) => healthAnswer('livez', health.live, call) },
    { method: 'GET', path: '/readyz', handle: (call) => healthAnswer('readyz', health.ready, call) },
    {
      method: 'GET',
      path: '/metrics',
      handle: async () => ({
        status: 200,
        body: await metrics.text(),
        contentType: metrics.contentType,
      }),
    },
    {
      method: 'GET',
      path: '/debug/state',
      handle({ context }) {
        if (!isLoopback(context.peer.remoteAddress))
          throw new StatusError(
            'PermissionDenied',
            'this is told on localhost alone; use kubectl port-forward',
          );
        return { status: 200, body: state() };
      },
    },
  ];
}

function healthAnswer(name: string, checks: HealthChecks, { query }: HttpCall): HttpAnswer {
  const results = checks.results();
  const failed = results.some(({ problem }) => problem !== undefined);
  const verbose = failed || query.has('verbose');
  return { status: failed ? 503 : 200, body: verbose ? healthText(name, results) : 'ok\n' };
}

function isLoopback(address: string | undefined): boolean {
  // An IPv4 client of an IPv6 socket.
  const plain = address?.replace(/^::ffff:/, '') ?? '';
  return plain === '::1' || (isIPv4(plain) && plain.startsWith('127.'));
}
