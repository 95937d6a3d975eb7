import { writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import * as rig from '../../rig/rig.js';
import { start, type Program } from './process.js';
import { until, type Scope } from './scope.js';

/** An Envoy that runs, with one listener on loopback. */
export interface Envoy {
  readonly process: Program;
  /** Where its listener is. */
  readonly port: number;
  /** A GET of its administration, over a unix socket. */
  admin(path: string): Promise<string>;
}

/** The answer of a plain HTTP request. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

type Json = Readonly<Record<string, unknown>>;

const type = (name: string): string => `type.googleapis.com/envoy.${name}`;

/** Where secrets come from: SDS over the pod's Workload API socket. */
const sds = (name: string): Json => ({
  name,
  sds_config: {
    resource_api_version: 'V3',
    api_config_source: {
      api_type: 'GRPC',
      transport_api_version: 'V3',
      grpc_services: [{ envoy_grpc: { cluster_name: 'signet' } }],
    },
  },
});

/** The workload's SVID, and the bundles with the SPIFFE validator; `peer`, if given, is the only SPIFFE ID accepted. */
function commonTls(peer?: string): Json {
  const names = [{ san_type: 'URI', matcher: { exact: peer } }];
  return {
    tls_certificate_sds_secret_configs: [sds('default')],
    ...(peer === undefined
      ? { validation_context_sds_secret_config: sds('ALL') }
      : {
          combined_validation_context: {
            default_validation_context: { match_typed_subject_alt_names: names },
            validation_context_sds_secret_config: sds('ALL'),
          },
        }),
  };
}

const pipeCluster = (socket: string): Json => ({
  name: 'signet',
  type: 'STATIC',
  connect_timeout: '5s',
  typed_extension_protocol_options: {
    [`envoy.extensions.upstreams.http.v3.HttpProtocolOptions`]: {
      '@type': type('extensions.upstreams.http.v3.HttpProtocolOptions'),
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
  load_assignment: {
    cluster_name: 'signet',
    endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: socket } } } }] }],
  },
});

function bootstrap(adminSocket: string, listener: Json, clusters: readonly Json[]): Json {
  return {
    node: { id: 'e2e', cluster: 'e2e' },
    admin: { address: { pipe: { path: adminSocket } } },
    static_resources: { listeners: [listener], clusters },
  };
}

function httpListener(route: Json, transportSocket?: Json): Json {
  const manager = {
    '@type': type('extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'),
    stat_prefix: 'in',
    route_config: {
      virtual_hosts: [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, ...route }] }],
    },
    http_filters: [
      {
        name: 'envoy.filters.http.router',
        typed_config: { '@type': type('extensions.filters.http.router.v3.Router') },
      },
    ],
  };
  return {
    name: 'in',
    address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    filter_chains: [
      {
        filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: manager }],
        ...(transportSocket === undefined ? {} : { transport_socket: transportSocket }),
      },
    ],
  };
}

const added = (name: string, value: string): Json => ({ header: { key: name, value } });

/** An Envoy that ends mutual TLS with its pod's SVID, and answers 200 with who called. */
export function serverConfig(adminSocket: string, workloadSocket: string): Json {
  const tls = {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': type('extensions.transport_sockets.tls.v3.DownstreamTlsContext'),
      require_client_certificate: true,
      common_tls_context: commonTls(),
    },
  };
  const route = {
    direct_response: { status: 200, body: { inline_string: 'hello' } },
    response_headers_to_add: [
      added('x-peer', '%DOWNSTREAM_PEER_URI_SAN%'),
      added('x-peer-serial', '%DOWNSTREAM_PEER_SERIAL%'),
      added('x-tls', '%DOWNSTREAM_TLS_VERSION%'),
    ],
  };
  return bootstrap(adminSocket, httpListener(route, tls), [pipeCluster(workloadSocket)]);
}

/** An Envoy that takes plain HTTP and calls `port` with its pod's SVID over mutual TLS, a new connection each time. */
export function clientConfig(adminSocket: string, workloadSocket: string, port: number, peer: string): Json {
  const cluster = {
    name: 'upstream',
    type: 'STATIC',
    connect_timeout: '5s',
    typed_extension_protocol_options: {
      [`envoy.extensions.upstreams.http.v3.HttpProtocolOptions`]: {
        '@type': type('extensions.upstreams.http.v3.HttpProtocolOptions'),
        common_http_protocol_options: { max_requests_per_connection: 1 },
        explicit_http_config: { http_protocol_options: {} },
      },
    },
    load_assignment: {
      cluster_name: 'upstream',
      endpoints: [
        {
          lb_endpoints: [
            { endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } },
          ],
        },
      ],
    },
    transport_socket: {
      name: 'envoy.transport_sockets.tls',
      typed_config: {
        '@type': type('extensions.transport_sockets.tls.v3.UpstreamTlsContext'),
        common_tls_context: {
          ...commonTls(peer),
          // As a client, Envoy offers TLS 1.2 at most unless told.
          tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
        },
      },
    },
  };
  const route = {
    route: { cluster: 'upstream', timeout: '10s' },
    response_headers_to_add: [added('x-server', '%UPSTREAM_PEER_URI_SAN%')],
  };
  return bootstrap(adminSocket, httpListener(route), [pipeCluster(workloadSocket), cluster]);
}

/** Starts Envoy and waits until its listener is there, which is after its secrets have come. */
export async function startEnvoy(scope: Scope, config: (adminSocket: string) => Json): Promise<Envoy> {
  const folder = scope.folder();
  const adminSocket = join(folder, 'admin.sock');
  const file = join(folder, 'envoy.json');
  writeFileSync(file, JSON.stringify(config(adminSocket)));
  // Without hot restart and with one worker: several run at once on a small machine.
  const args = ['-c', file, '--disable-hot-restart', '--concurrency', '1', '--log-level', 'warning'];
  const process = start(scope, [await rig.envoy(), ...args]);
  const admin = async (path: string): Promise<string> => (await get({ socketPath: adminSocket, path })).body;
  const port = await until('an Envoy with a listener', async () => {
    if (process.hasExited()) throw new Error(`Envoy ended: ${process.stderr().slice(-4000)}`);
    const { listener_statuses: statuses = [] } = JSON.parse(
      await admin('/listeners?format=json'),
    ) as ListenerList;
    const found = statuses[0]?.local_address?.socket_address?.port_value;
    // LIVE is said once the first secrets are there; before that, the listener would reset connections.
    return (await admin('/ready')).startsWith('LIVE') ? found : undefined;
  });
  return { process, port, admin };
}

interface ListenerList {
  readonly listener_statuses?: readonly {
    readonly local_address?: { readonly socket_address?: { readonly port_value?: number } };
  }[];
}

/** GET / on a port of loopback. */
export function getPort(port: number): Promise<Answer> {
  return get({ host: '127.0.0.1', port, path: '/' });
}

function get(options: { socketPath?: string; host?: string; port?: number; path: string }): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request({ ...options, agent: false, timeout: 15_000 }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
      );
    });
    call.on('timeout', () => call.destroy(new Error('no answer within 15 s')));
    call.on('error', reject);
    call.end();
  });
}
