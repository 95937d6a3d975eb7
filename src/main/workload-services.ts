import { sdsHandlers, workloadApiHandlers, type Agent } from '../agent/agent.js';
import { applicationRoutes } from '../agent/applications/routes.js';
import type { Authorization } from '../agent/authorization/decide.js';
import { extAuthzHandlers } from '../agent/authorization/ext-authz.js';
import { SHARED_LISTENER } from '../agent/session.js';
import type { ExtensionConfigHandlers } from '../agent/xds/extension-configs.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { createHttpServer, type HttpServer } from '../rpc/http/server.js';
import { linuxPeerCredentials } from '../rpc/peer/linux.js';
import { createRpcServer, type RpcServer } from '../rpc/server.js';
import {
  authorizationService,
  extensionConfigDiscoveryService,
  secretDiscoveryService,
  workloadApiService,
} from '../rpc/services.js';
import { closeAll, type OpenSocket } from './open-sockets.js';

/** What decisions and filters are served from. */
export interface Access {
  readonly authorization: Authorization;
  readonly extensionConfigs: ExtensionConfigHandlers;
}

/** What the services for workloads are composed of. */
export interface WorkloadServicesParts {
  readonly agent: Agent;
  readonly access: Access;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Of one listener; what the servers have by themselves unless said. */
  readonly maxConnectionsPerListener?: number;
}

/** All that a node's workloads are served, on sockets that are opened one by one. */
export interface WorkloadServices {
  /** Workload API, SDS, ext_authz, filters for Envoy. */
  readonly workloads: RpcServer;
  /** AuthZEN and OPA's Data API. */
  readonly applications: HttpServer;
  /** Ends all calls with `Unavailable`, so that clients come again, and closes everything. */
  close(): Promise<void>;
}

/** Creates the servers. They have no socket yet. */
export function createWorkloadServices(parts: WorkloadServicesParts): WorkloadServices {
  const { authorization, extensionConfigs } = parts.access;
  const { agent, clock, random, maxConnectionsPerListener } = parts;
  const limits = maxConnectionsPerListener === undefined ? {} : { limits: { maxConnectionsPerListener } };
  const workloads = createRpcServer({
    ...{ clock, random, logger: parts.logger, peerCredentials: linuxPeerCredentials },
    ...limits,
  });
  workloads.service(workloadApiService, workloadApiHandlers(agent));
  workloads.service(secretDiscoveryService, sdsHandlers(agent));
  workloads.service(authorizationService, extAuthzHandlers(authorization));
  workloads.service(extensionConfigDiscoveryService, extensionConfigs);
  const applications = createHttpServer({
    routes: applicationRoutes({ authorization, clock }),
    ...{ clock, random, peerCredentials: linuxPeerCredentials },
    logger: parts.logger.child({ component: 'applications' }),
    ...limits,
  });
  return {
    workloads,
    applications,
    // Streams never end by themselves, so there is nothing to wait for.
    async close() {
      await Promise.all([workloads.close(), applications.close()]);
    },
  };
}

/** Where the sockets are that all processes of a machine share. */
export interface SharedSocketPaths {
  readonly workloadApi: string;
  readonly applicationApi: string;
  /** See {@link ListenUnixOptions.takeOver}. */
  readonly takeOver?: boolean;
}

/** Connections of all processes together. */
const SHARED_CONNECTIONS = 8192;

/** Opens the sockets that everybody may connect to: who it is, the kernel says. */
export async function openSharedSockets(
  { workloads, applications }: Pick<WorkloadServices, 'workloads' | 'applications'>,
  { workloadApi, applicationApi, takeOver = false }: SharedSocketPaths,
): Promise<readonly OpenSocket[]> {
  const common = { mode: 0o666, name: SHARED_LISTENER, peerCredentials: true, takeOver };
  const first = await workloads.listenUnix({
    ...common,
    ...{ path: workloadApi, maxConnections: SHARED_CONNECTIONS, tellUnknown: true },
  });
  try {
    return [first, await applications.listenUnix({ ...common, path: applicationApi })];
  } catch (error) {
    await closeAll([first]);
    throw error;
  }
}
