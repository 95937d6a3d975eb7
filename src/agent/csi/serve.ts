import { join } from 'node:path';
import { sleep, type Clock } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import type { Mounts } from '../../rpc/mount/mounts.js';
import { createRpcServer, type RpcServer } from '../../rpc/server.js';
import { csiIdentityService, csiNodeService, kubeletRegistrationService } from '../../rpc/services.js';
import { CSI_DRIVER, csiIdentityHandlers, csiNodeHandlers } from './node-service.js';
import { KeptSocket } from './kept-socket.js';
import { registrationHandlers } from './registration-service.js';
import type { VolumeKeeper } from './volume-keeper.js';

export interface CsiOptions {
  readonly volumes: VolumeKeeper;
  readonly mounts: Mounts;
  readonly kubeletDirectory: string;
  /** This node, as the server calls it. */
  readonly nodeName: string;
  /** Of Signet. */
  readonly version: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Who may call: root, which the kubelet is, unless said. */
  readonly callerUid?: number;
}

/** The driver, at its two sockets. */
export interface CsiServer {
  /** Resolves when it has ended: closed, or its socket was taken over by another agent. */
  readonly ended: Promise<void>;
  /** Closes the sockets and what the volumes hold; volumes stay mounted. May be called twice. */
  close(): Promise<void>;
}

/**
 * How long volumes may take to be served again before the kubelet's calls are taken. Who serves them until then ends when
 * these are taken.
 */
const RESTORE_MS = 30_000;
/** How often it looks whether its socket is still its own. */
const LOOK_MS = 1_000;
/** How often volumes of other agents are looked for: soon after a take-over, since one may still be at work; then seldom. */
const SOON_MS = 2_000;
const SOON_UNTIL_MS = 90_000;
const LATER_MS = 60_000;
/** Requests are small: a pod's attributes are bounded one by one. The kubelet has a connection for each call. */
const LIMITS = { maxRequestBytes: 512 * 1024, maxConnectionsPerListener: 1_024 } as const;

/** Where the driver and its registration are served; the kubelet looks for the second (KEP-595). */
export function csiSockets(kubeletDirectory: string): {
  readonly driver: string;
  readonly registration: string;
} {
  return {
    driver: join(kubeletDirectory, 'plugins', CSI_DRIVER, 'csi.sock'),
    registration: join(kubeletDirectory, 'plugins_registry', `${CSI_DRIVER}-reg.sock`),
  };
}

/**
 * Serves the volumes that there are, then takes the driver's sockets over, from a dead agent or from one that still
 * serves them, and from then on finds what that one published last. Rejects with SocketFileError, MountError.
 */
export async function serveCsi(options: CsiOptions): Promise<CsiServer> {
  const { volumes } = options;
  const logger = options.logger.child({ component: 'csi' });
  const paths = csiSockets(options.kubeletDirectory);
  const stop = new AbortController();
  const ended = Promise.withResolvers<undefined>();
  await restoreFirst(options, logger);
  const driver = new KeptSocket(driverServer(options), paths.driver, 'csi', options.callerUid ?? 0);
  const registrar = registrationServer(options, paths.driver, logger);
  const registration = new KeptSocket(
    registrar,
    paths.registration,
    'csi-registration',
    options.callerUid ?? 0,
  );
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= (async () => {
      stop.abort();
      await volumes.close();
      // The kubelet is to know that the driver is gone, unless there is another one.
      const mine = (await driver.state()) !== 'taken';
      await driver.close();
      if (mine) await registration.withdraw();
      await registration.close();
      ended.resolve(undefined);
    })();
    return closing;
  };
  try {
    await driver.open();
    await registration.open();
  } catch (error) {
    await close();
    throw error;
  }
  const current = async (): Promise<boolean> => {
    if ((await driver.state()) === 'taken') {
      logger.info('another agent has taken the CSI driver over');
      await close();
      return false;
    }
    for (const socket of [driver, registration])
      if ((await socket.state()) === 'missing') {
        logger.warn('a socket was removed, and is opened again', { path: socket.path });
        await socket.open();
      }
    return true;
  };
  void follow(options, logger, stop.signal, current);
  return { ended: ended.promise, close };
}

/** The kubelet's calls are not taken before most volumes are served again: it would be told to come again. */
async function restoreFirst({ volumes, clock }: CsiOptions, logger: Logger): Promise<void> {
  const enough = new AbortController();
  const restored = volumes.restore();
  try {
    await Promise.race([restored, sleep(clock, RESTORE_MS, enough.signal).catch(() => undefined)]);
  } finally {
    enough.abort();
  }
  restored.catch((error: unknown) => report(logger, error));
}

/** Looks after what other agents do, until it is stopped or `current` says no. */
async function follow(
  { volumes, clock }: CsiOptions,
  logger: Logger,
  signal: AbortSignal,
  current: () => Promise<boolean>,
): Promise<void> {
  const began = clock.monotonic();
  let restored = began - LATER_MS;
  try {
    while (!signal.aborted) {
      const now = clock.monotonic();
      if (now - restored >= (now - began < SOON_UNTIL_MS ? SOON_MS : LATER_MS)) {
        restored = now;
        // Not waited for: a volume may take its time to be served, and the socket is to be looked at meanwhile.
        volumes.restore().catch((error: unknown) => report(logger, error));
      }
      await sleep(clock, LOOK_MS, signal);
      if (!(await current())) return;
    }
  } catch (error) {
    if (!signal.aborted) report(logger, error);
  }
}

function report(logger: Logger, error: unknown): void {
  logger.error('volumes cannot be looked after', { reason: SignetError.from(error).message });
}

function driverServer(options: CsiOptions): RpcServer {
  const { clock, random, logger } = options;
  const server = createRpcServer({ clock, random, logger, limits: LIMITS, standardServices: false });
  server.service(csiIdentityService, csiIdentityHandlers(options));
  server.service(csiNodeService, csiNodeHandlers(options));
  return server;
}

function registrationServer({ clock, random, logger }: CsiOptions, driver: string, own: Logger): RpcServer {
  const server = createRpcServer({ clock, random, logger, limits: LIMITS, standardServices: false });
  server.service(kubeletRegistrationService, registrationHandlers(driver, own));
  return server;
}
