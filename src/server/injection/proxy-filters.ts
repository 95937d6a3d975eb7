import type { Fields } from './pod.js';
import type { InboundPort, ProxySettings } from './proxy-settings.js';
import { extension, fromSignet, SIGNET_CLUSTER } from './proxy-tls.js';

/** What comes behind the TLS of a port. */
export interface InboundChain {
  readonly port: InboundPort;
  /** Where the program is. */
  readonly cluster: string;
  readonly authorization: ProxySettings['authorization'];
}

const RBAC_HTTP = 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC';
const RBAC_NETWORK = 'type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC';
const WITH_MATCHER = 'type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher';

/** HTTP: policies decide on each request. */
export function httpChain({ port, cluster, authorization }: InboundChain): readonly Fields[] {
  return [
    {
      name: 'envoy.filters.network.http_connection_manager',
      typed_config: extension('filters.network.http_connection_manager.v3.HttpConnectionManager', {
        stat_prefix: `in_${port.listen}`,
        // As the decision needs them: what could be read in two ways is refused, not resolved.
        ...{ normalize_path: false, merge_slashes: false },
        path_with_escaped_slashes_action: 'REJECT_REQUEST',
        use_remote_address: true,
        // The program is told who calls, and whatever the caller says of it is taken away.
        forward_client_cert_details: 'SANITIZE_SET',
        set_current_client_cert_details: { uri: true },
        request_headers_timeout: '10s',
        common_http_protocol_options: { headers_with_underscores_action: 'REJECT_REQUEST' },
        http2_protocol_options: {
          max_concurrent_streams: 100,
          initial_stream_window_size: 65_536,
          initial_connection_window_size: 1_048_576,
        },
        upgrade_configs: [{ upgrade_type: 'websocket' }],
        route_config: {
          virtual_hosts: [
            {
              name: 'program',
              domains: ['*'],
              routes: [{ match: { prefix: '/' }, route: { cluster, timeout: '0s' } }],
            },
          ],
        },
        http_filters: [
          ...(authorization === 'service'
            ? [asked]
            : [served('prepare', port, WITH_MATCHER), served('http', port, RBAC_HTTP)]),
          {
            name: 'envoy.filters.http.router',
            typed_config: extension('filters.http.router.v3.Router', {}),
          },
        ],
      }),
    },
  ];
}

/** No HTTP: policies decide on each connection, by the filter that the agent serves. */
export function networkChain({ port, cluster }: InboundChain): readonly Fields[] {
  return [
    served('network', port, RBAC_NETWORK),
    {
      name: 'envoy.filters.network.tcp_proxy',
      typed_config: extension('filters.network.tcp_proxy.v3.TcpProxy', {
        stat_prefix: `in_${port.listen}`,
        cluster,
        // The filter before it decides at the first byte of the client: nothing reaches the program before.
        upstream_connect_mode: 'ON_DOWNSTREAM_DATA',
        max_early_data_bytes: 16_384,
      }),
    },
  ];
}

/** A filter that the agent serves for the program's port. Without it Envoy answers nothing. */
function served(kind: 'prepare' | 'http' | 'network', { program }: InboundPort, type: string): Fields {
  return {
    name: `signet/${kind}/${program}`,
    config_discovery: { config_source: fromSignet(), type_urls: [type] },
  };
}

/** Asks for each request; fails closed. */
const asked: Fields = {
  name: 'envoy.filters.http.ext_authz',
  typed_config: extension('filters.http.ext_authz.v3.ExtAuthz', {
    transport_api_version: 'V3',
    grpc_service: { envoy_grpc: { cluster_name: SIGNET_CLUSTER }, timeout: '2s' },
    failure_mode_allow: false,
    include_peer_certificate: true,
  }),
};
