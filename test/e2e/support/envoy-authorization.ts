/** Envoys that ask Signet over mutual TLS, as docs/policy/enforcement.md says. */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import {
  answerHello,
  bootstrap,
  envoyType,
  httpManager,
  listener,
  type Json,
} from '../../rig/envoy-config.js';

/** Who answers. */
export const SIGNET = 'spiffe://shop.test/signet/agent';

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

export const http2Cluster = (name: string, address: Json, more: Json = {}): Json => ({
  ...{ name, type: 'STATIC', connect_timeout: '1s' },
  // Of the retries of extAuthz below, Envoy would do no more than three at a time.
  circuit_breakers: { thresholds: [{ max_retries: 1000 }] },
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': envoyType('extensions.upstreams.http.v3.HttpProtocolOptions'),
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
  load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
  ...more,
});

export const tlsTo = (common: Json): Json => ({
  transport_socket: {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': envoyType('extensions.transport_sockets.tls.v3.UpstreamTlsContext'),
      common_tls_context: {
        alpn_protocols: ['h2'],
        // Envoy's clients go no further than 1.2 unless they are told.
        tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
        ...common,
      },
    },
  },
});

export const extAuthz: Json = {
  name: 'envoy.filters.http.ext_authz',
  typed_config: {
    '@type': envoyType('extensions.filters.http.ext_authz.v3.ExtAuthz'),
    transport_api_version: 'V3',
    grpc_service: {
      envoy_grpc: { cluster_name: 'authorization' },
      timeout: '2s',
      // A server that tells its clients to go refuses what it has not seen.
      retry_policy: { retry_on: 'refused-stream,connect-failure', num_retries: 2 },
    },
    failure_mode_allow: false,
    include_peer_certificate: true,
  },
};

export const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));
export const tcp = (port: number): Json => ({ socket_address: { address: '127.0.0.1', port_value: port } });

/** An Envoy that gets its SVID from its pod's socket and asks over TCP, as docs/policy/enforcement.md says. */
export function guardedConfig(socket: string, address: string, answering = SIGNET): Json {
  const authorization = http2Cluster(
    'authorization',
    tcp(portOf(address)),
    tlsTo({
      tls_certificate_sds_secret_configs: [sds('default')],
      combined_validation_context: {
        default_validation_context: {
          match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: answering } }],
        },
        validation_context_sds_secret_config: sds('ROOTCA'),
      },
    }),
  );
  const transportSocket = {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': envoyType('extensions.transport_sockets.tls.v3.DownstreamTlsContext'),
      require_client_certificate: true,
      common_tls_context: {
        tls_certificate_sds_secret_configs: [sds('default')],
        validation_context_sds_secret_config: sds('ALL'),
      },
    },
  };
  return bootstrap(
    [listener(httpManager(answerHello, [extAuthz]), { transportSocket })],
    [http2Cluster('signet', { pipe: { path: socket } }), authorization],
  );
}

/** The parts of the documented bootstrap that the test reaches into. */
interface DocumentedConfig {
  readonly static_resources: {
    readonly listeners: readonly {
      readonly filter_chains: readonly {
        readonly filters: readonly { readonly typed_config: { readonly http_filters: Json[] } }[];
      }[];
    }[];
    readonly clusters: Json[];
  };
}

/** The page's own configuration, for the pod whose socket it is, with an answer of Envoy's own in place of a workload. */
export function documentedConfig(socket: string, address: string): Json {
  const page = readFileSync('docs/policy/enforcement.md', 'utf8');
  const [whole = '', change = ''] = [...page.matchAll(/```yaml\n(.*?)```/gs)].map(([, text]) => text ?? '');
  const anchor = 'name: default\n                    sds_config: &sds';
  if (!whole.includes(anchor)) throw new Error('the page has no anchor for SDS where it is looked for');
  const config = parse(
    whole
      .replaceAll('socket_of_the_pod', socket)
      .replace(
        /(?<=filters:\n)( +)- name: envoy.filters.http.ext_authz.*?(?= +- name: envoy.filters.http.router)/s,
        '',
      )
      .replace('port_value: 8443', 'port_value: 0')
      .replace('0.0.0.0', '127.0.0.1')
      .replace('route: { cluster: workload }', 'direct_response: { status: 200 }'),
  ) as DocumentedConfig;
  // The anchor of the first block is used in the second.
  const sdsConfig = /sds_config: &sds\n(.*?grpc_services: [^\n]*)/s.exec(whole)?.[1] ?? '';
  const changed = parse(
    `anchor: &sds\n${sdsConfig}\n${change}`
      .replace('spiffe://example.org/', 'spiffe://shop.test/')
      .replace('port_value: 9191', `port_value: ${portOf(address)}`),
  ) as { readonly http_filters: readonly Json[]; readonly clusters: readonly Json[] };
  const [inbound] = config.static_resources.listeners;
  inbound?.filter_chains[0]?.filters[0]?.typed_config.http_filters.unshift(...changed.http_filters);
  config.static_resources.clusters.push(...changed.clusters);
  return { ...config, node: { id: 'docs', cluster: 'docs' } };
}
