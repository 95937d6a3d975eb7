import { request } from 'node:http';
import {
  answerHello,
  bootstrap,
  echo,
  envoyType,
  headerValue,
  httpManager,
  listener,
  type Json,
} from '../../rig/envoy-config.js';
import { startEnvoyProxy, type EnvoyProxy } from '../../rig/envoy-proxy.js';
import type { Scope } from './scope.js';

/** An Envoy that runs, with one listener on loopback. */
export interface Envoy extends Pick<EnvoyProxy, 'admin'> {
  /** Where its listener is. */
  readonly port: number;
}

/** The answer of a plain HTTP request. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

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

/** The cluster `signet`: gRPC over a unix socket. */
export const pipeCluster = (socket: string): Json => ({
  name: 'signet',
  type: 'STATIC',
  connect_timeout: '5s',
  typed_extension_protocol_options: {
    [`envoy.extensions.upstreams.http.v3.HttpProtocolOptions`]: {
      '@type': envoyType('extensions.upstreams.http.v3.HttpProtocolOptions'),
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
  load_assignment: {
    cluster_name: 'signet',
    endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: socket } } } }] }],
  },
});

/**
 * An Envoy that ends mutual TLS with its pod's SVID, and answers 200 with who called, if `filters` let it. With network
 * filters there is a second listener, `raw`, that sends back what comes if they let it.
 */
export function serverConfig(
  workloadSocket: string,
  filters: readonly Json[] = [],
  networkFilters: readonly Json[] = [],
): Json {
  const tls = {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': envoyType('extensions.transport_sockets.tls.v3.DownstreamTlsContext'),
      require_client_certificate: true,
      common_tls_context: commonTls(),
    },
  };
  const route = {
    ...answerHello,
    response_headers_to_add: [
      headerValue('x-peer', '%DOWNSTREAM_PEER_URI_SAN%'),
      headerValue('x-peer-serial', '%DOWNSTREAM_PEER_SERIAL%'),
      headerValue('x-tls', '%DOWNSTREAM_TLS_VERSION%'),
    ],
  };
  const http = listener(httpManager(route, filters), { transportSocket: tls });
  const raw = listener(echo, { name: 'raw', transportSocket: tls, networkFilters });
  return bootstrap(networkFilters.length === 0 ? [http] : [http, raw], [pipeCluster(workloadSocket)]);
}

/** An Envoy that takes plain HTTP and calls `port` with its pod's SVID over mutual TLS, a new connection each time. */
export function clientConfig(workloadSocket: string, port: number, peer: string): Json {
  const cluster = {
    name: 'upstream',
    type: 'STATIC',
    connect_timeout: '5s',
    typed_extension_protocol_options: {
      [`envoy.extensions.upstreams.http.v3.HttpProtocolOptions`]: {
        '@type': envoyType('extensions.upstreams.http.v3.HttpProtocolOptions'),
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
        '@type': envoyType('extensions.transport_sockets.tls.v3.UpstreamTlsContext'),
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
    response_headers_to_add: [headerValue('x-server', '%UPSTREAM_PEER_URI_SAN%')],
  };
  return bootstrap([listener(httpManager(route))], [pipeCluster(workloadSocket), cluster]);
}

/** Starts Envoy and waits until its listener is there, which is after its secrets have come; the scope stops it. */
export async function startEnvoy(scope: Scope, config: Json): Promise<Envoy> {
  const proxy = await startEnvoyProxy(config);
  scope.onEnd(() => proxy.stop());
  return { port: proxy.port('in'), admin: (path) => proxy.admin(path) };
}

/** GET / on a port of loopback. */
export function getPort(port: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path: '/', agent: false, timeout: 15_000 };
    const call = request(options, (response) => {
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
