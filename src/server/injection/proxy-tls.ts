import type { Fields } from './pod.js';
import type { ExpectedPeer, ProxyProtocol } from './proxy-settings.js';

export const SIGNET_CLUSTER = 'signet';

/** A message of Envoy's extensions, by its name below `envoy.extensions`. */
export function extension(type: string, message: Fields): Fields {
  return { '@type': `type.googleapis.com/envoy.extensions.${type}`, ...message };
}

export function socketAddress(address: string, port: number): Fields {
  return { socket_address: { address, port_value: port } };
}

export function loopback(port: number): Fields {
  return socketAddress('127.0.0.1', port);
}

export function assignment(name: string, endpoints: readonly Fields[]): Fields {
  return { cluster_name: name, endpoints: [{ lb_endpoints: endpoints }] };
}

export function http2Options(): Fields {
  return {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': extension(
      'upstreams.http.v3.HttpProtocolOptions',
      { explicit_http_config: { http2_protocol_options: {} } },
    ),
  };
}

/** What comes from the agent. It is waited for without end: a listener must not begin without it. */
export function fromSignet(): Fields {
  return {
    resource_api_version: 'V3',
    initial_fetch_timeout: '0s',
    api_config_source: {
      api_type: 'GRPC',
      transport_api_version: 'V3',
      grpc_services: [{ envoy_grpc: { cluster_name: SIGNET_CLUSTER } }],
    },
  };
}

/** TLS 1.3 alone, and no session that is resumed: each handshake shows and verifies anew. */
const BOUNDS = { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' };

function certificates(): Fields {
  return {
    tls_params: BOUNDS,
    tls_certificate_sds_secret_configs: [{ name: 'default', sds_config: fromSignet() }],
  };
}

/** Mutual TLS by the pod's SVID; callers by the bundle of their own trust domain. */
export function downstreamTls(protocol: ProxyProtocol): Fields {
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: extension('transport_sockets.tls.v3.DownstreamTlsContext', {
      require_client_certificate: true,
      disable_stateless_session_resumption: true,
      disable_stateful_session_resumption: true,
      common_tls_context: {
        ...certificates(),
        ...(protocol === 'tcp' ? {} : { alpn_protocols: ['h2', 'http/1.1'] }),
        validation_context_sds_secret_config: { name: 'ALL', sds_config: fromSignet() },
      },
    }),
  };
}

/** Mutual TLS to this peer and no other. */
export function upstreamTls(peer: ExpectedPeer): Fields {
  const matcher = peer.kind === 'id' ? { exact: peer.uri } : { prefix: `spiffe://${peer.name}/` };
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: extension('transport_sockets.tls.v3.UpstreamTlsContext', {
      max_session_keys: 0,
      common_tls_context: {
        ...certificates(),
        combined_validation_context: {
          default_validation_context: { match_typed_subject_alt_names: [{ san_type: 'URI', matcher }] },
          validation_context_sds_secret_config: { name: 'ALL', sds_config: fromSignet() },
        },
      },
    }),
  };
}
