/** Filters as the agent serves them, of many workloads at once: the same bytes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Inventory } from '../../src/access/mesh/inventory.js';
import type { EnvoyIssuer } from '../../src/access/mesh/envoy/issuers.js';
import type { TargetWorkload } from '../../src/access/policy/model.js';
import type { PolicySet } from '../../src/access/policy/policy-set.js';
import { FILTER_TYPE_URL, serveFilters, type ServedFilter } from '../../src/agent/xds/filters.js';
import { silentLogger } from '../../src/lib/logger.js';
import { DeltaDiscoveryResponse } from '../../src/rpc/gen/envoy/discovery/discovery.js';
import { createRpcServer } from '../../src/rpc/server.js';
import { extensionConfigDiscoveryService } from '../../src/rpc/services.js';
import { pipeCluster } from '../e2e/support/envoy.js';
import { envoyType, type Json } from '../rig/envoy-config.js';
import { WORLD } from '../support/policies.js';

/** One workload, and what its filters are made from. */
export interface ServedWorkload {
  readonly sources: {
    readonly set: PolicySet;
    readonly inventory: Inventory;
    readonly target: TargetWorkload;
    readonly issuers: readonly EnvoyIssuer[];
  };
  readonly plaintext: boolean;
}

/** The type of each kind of filter. */
export const FILTER_TYPES = {
  prepare: 'extensions.common.matching.v3.ExtensionWithMatcher',
  http: 'extensions.filters.http.rbac.v3.RBAC',
  network: 'extensions.filters.network.rbac.v3.RBAC',
} as const;

type FilterKind = keyof typeof FILTER_TYPES;

/** A filter that comes over the cluster `signet`. */
export const discovered = (
  kind: FilterKind,
  name: string,
  api: 'GRPC' | 'DELTA_GRPC',
  more: { readonly source?: Json; readonly discovery?: Json } = {},
): Json => ({
  name,
  config_discovery: {
    config_source: {
      resource_api_version: 'V3',
      api_config_source: {
        api_type: api,
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'signet' } }],
      },
      ...more.source,
    },
    ...more.discovery,
    type_urls: [envoyType(FILTER_TYPES[kind])],
  },
});

/** A server of many workloads' filters, each under a name of its own. */
export class FilterServer {
  readonly #folder = mkdtempSync(join(tmpdir(), 'xds-'));
  readonly #path = join(this.#folder, 'api.sock');
  readonly #filters = new Map<string, Promise<ServedFilter>>();
  readonly #server = createRpcServer({
    logger: silentLogger,
    standardServices: false,
    limits: { maxStreamsPerConnection: 100_000, maxSessionMemoryMiB: 512 },
  });

  async open(): Promise<void> {
    this.#server.service(extensionConfigDiscoveryService, {
      deltaExtensionConfigs: async (requests, _, sink) => {
        for await (const { resourceNamesSubscribe } of requests) {
          const wanted = resourceNamesSubscribe.flatMap((name) => this.#filters.get(name) ?? []);
          const resources = await Promise.all(wanted);
          if (resources.length === 0) continue;
          const response = {
            systemVersionInfo: '',
            typeUrl: FILTER_TYPE_URL,
            nonce: '1',
            removedResources: [],
          };
          await sink.write(
            DeltaDiscoveryResponse.encode({ ...response, resources: [...resources] }).finish(),
          );
        }
      },
    });
    await this.#server.listenUnix({ path: this.#path, mode: 0o600, name: 'xds', peerCredentials: false });
  }

  /** Where Envoy finds it. */
  get cluster(): Json {
    return pipeCluster(this.#path);
  }

  /** Chains of filters that come from here, for a listener of this name. */
  chains(
    listener: string,
    workload: ServedWorkload,
  ): { readonly http: readonly Json[]; readonly network: readonly Json[] } {
    const filter = (kind: FilterKind): Json => {
      const text = `${listener}/${kind}`;
      if (!this.#filters.has(text)) this.#filters.set(text, serve(text, kind, workload));
      return discovered(kind, text, 'DELTA_GRPC');
    };
    return { http: [filter('prepare'), filter('http')], network: [filter('network')] };
  }

  async close(): Promise<void> {
    await this.#server.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function serve(
  text: string,
  kind: FilterKind,
  { sources: { set, inventory, target, issuers }, plaintext }: ServedWorkload,
): Promise<ServedFilter> {
  const none = (): undefined => undefined;
  const view = { policies: set, inventory, pod: none, target: none, source: none };
  const sources = { view, target, issuers, time: WORLD.now };
  const { filters } = await serveFilters([{ text, kind, plaintext }], sources);
  const [filter] = filters;
  if (filter === undefined) throw new Error('no filter was rendered');
  return filter;
}
