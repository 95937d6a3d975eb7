import type { SignetError } from '../lib/errors.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { createHealth, type Health } from '../operate/health.js';
import type { MetricProgram } from '../operate/metrics/definition.js';
import { createMetrics, type Metrics } from '../operate/metrics/metrics.js';
import { operationsRoutes } from '../operate/routes.js';
import { createHttpServer } from '../rpc/http/server.js';
import { linuxPeerCredentials } from '../rpc/peer/linux.js';
import type { ListenAddress } from './listen-address.js';

/** How a program shows itself to operators. */
export interface OperationsParts {
  readonly program: MetricProgram;
  /** Where; nowhere unless said. */
  readonly address: ListenAddress | undefined;
  readonly version: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Health, metrics, and what is in mind, as a program shows them over HTTP. */
export interface Operations {
  readonly health: Health;
  readonly metrics: Metrics;
  /** `ip:port`; undefined when it is shown nowhere. */
  readonly address: string | undefined;
  /** A part of `/debug/state`. */
  show(name: string, read: () => unknown): void;
  /** Something that cannot be mended but by a restart. */
  failed(error: SignetError): void;
  /** From now on this program should not be asked any more. */
  stopping(): void;
  close(): Promise<void>;
}

/**
 * Opens it, before anything else: whoever waits for the program sees what the program waits for.
 *
 * @throws SignetError `ListenFailed`
 */
export async function openOperations(parts: OperationsParts): Promise<Operations> {
  const { program, address, clock, random, version } = parts;
  const logger = parts.logger.child({ component: 'operations' });
  const health = createHealth();
  // Metrics of the process are of a process, of which tests have many in one.
  const metrics = createMetrics(program, version, { process: address !== undefined });
  let failure: SignetError | undefined;
  let stops = false;
  health.live.add('tasks', () => failure?.message);
  health.ready.add('shutdown', () => (stops ? 'it is stopping' : undefined));
  metrics.read('ready', () =>
    health.ready
      .results()
      .map(({ name, problem }) => ({ labels: { check: name }, value: problem === undefined ? 1 : 0 })),
  );
  const state = new Map<string, () => unknown>();
  const routes = operationsRoutes({
    ...{ health, metrics },
    state: () => Object.fromEntries([...state].map(([name, read]) => [name, read()])),
  });
  const server = createHttpServer({ routes, clock, random, logger, peerCredentials: linuxPeerCredentials });
  const listener =
    address === undefined ? undefined : await server.listenPlain({ ...address, name: 'operations' });
  if (listener !== undefined) logger.info('health and metrics are served', { address: listener.path });
  return {
    health,
    metrics,
    address: listener?.path,
    show: (name, read) => void state.set(name, read),
    failed: (error) => void (failure ??= error),
    stopping: () => void (stops = true),
    close: () => server.close(),
  };
}
