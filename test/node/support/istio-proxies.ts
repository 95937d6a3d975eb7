/**
 * Envoys that get their secrets as Istio's proxies do where SPIRE is integrated: the sds cluster and the TLS contexts are those of
 * Istio 1.31's bootstrap, the pod has the socket in a volume where Istio's documentation has that of the SPIFFE CSI driver.
 */
import {
  answerHello,
  bootstrap,
  envoyType,
  headerValue,
  httpManager,
  listener,
  socketAddress,
  type Json,
} from '../../rig/envoy-config.js';
import { IMAGES } from '../../rig/images.js';
import type { Manifest, PodWanted } from './world.js';

const SOCKET_FOLDER = '/run/secrets/workload-spiffe-uds';
const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
export const PROXY_PORT = 15443;
/** Where the client's program finds its proxy. */
export const CLIENT_PORT = 9001;

const sds = (name: string): Json => ({
  name,
  sds_config: {
    api_config_source: {
      api_type: 'GRPC',
      grpc_services: [{ envoy_grpc: { cluster_name: 'sds-grpc' } }],
      set_node_on_first_message_only: true,
      transport_api_version: 'V3',
    },
    resource_api_version: 'V3',
  },
});

const sdsCluster: Json = {
  name: 'sds-grpc',
  type: 'STATIC',
  typed_extension_protocol_options: {
    [HTTP_OPTIONS]: {
      '@type': `type.googleapis.com/${HTTP_OPTIONS}`,
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
  connect_timeout: '1s',
  lb_policy: 'ROUND_ROBIN',
  load_assignment: {
    cluster_name: 'sds-grpc',
    endpoints: [
      {
        lb_endpoints: [
          // Relative, as Istio has it: the proxy runs in `/`.
          { endpoint: { address: { pipe: { path: './var/run/secrets/workload-spiffe-uds/socket' } } } },
        ],
      },
    ],
  },
};

const tls = (context: string, validation: Json, more: Json = {}): Json => ({
  name: 'envoy.transport_sockets.tls',
  typed_config: {
    '@type': envoyType(`extensions.transport_sockets.tls.v3.${context}`),
    ...more,
    common_tls_context: {
      tls_certificate_sds_secret_configs: [sds('default')],
      combined_validation_context: {
        default_validation_context: validation,
        validation_context_sds_secret_config: sds('ROOTCA'),
      },
    },
  },
});

/** Ends mutual TLS and says who called, in `x-peer`. */
export const istioServer: Json = bootstrap(
  [
    listener(httpManager(answerHello), {
      address: socketAddress('0.0.0.0', PROXY_PORT),
      transportSocket: tls('DownstreamTlsContext', {}, { require_client_certificate: true }),
    }),
  ],
  [sdsCluster],
);

/** Takes plain HTTP of its pod, and calls `address`, which must be `peer`. */
export function istioClient(address: string, peer: string): Json {
  const upstream = {
    name: 'upstream',
    type: 'STATIC',
    connect_timeout: '5s',
    load_assignment: {
      cluster_name: 'upstream',
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(address, PROXY_PORT) } }] }],
    },
    transport_socket: tls('UpstreamTlsContext', {
      match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: peer } }],
    }),
  };
  const route = {
    route: { cluster: 'upstream', timeout: '10s' },
    response_headers_to_add: [headerValue('x-server', '%UPSTREAM_PEER_URI_SAN%')],
  };
  const inbound = listener(httpManager(route), { address: socketAddress('127.0.0.1', CLIENT_PORT) });
  return bootstrap([inbound], [sdsCluster, upstream]);
}

/** The pod of a proxy, with a shell beside it, and the ConfigMap that it has its configuration from. */
export function istioPod(
  name: string,
  labels: Readonly<Record<string, string>>,
  config: Json,
): [Manifest, PodWanted] {
  const configMap = {
    ...{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default' } },
    data: { 'envoy.json': JSON.stringify(config) },
  };
  const proxy = {
    ...{ name: 'istio-proxy', image: IMAGES.envoy, workingDir: '/' },
    args: ['-c', '/etc/istio/envoy.json', '--log-level', 'warn'],
    volumeMounts: [
      { name: 'workload-socket', mountPath: SOCKET_FOLDER, readOnly: true },
      { name: 'config', mountPath: '/etc/istio', readOnly: true },
    ],
  };
  const csi = { driver: 'csi.signet.dev', readOnly: true, volumeAttributes: { socket: 'socket' } };
  const volumes = [
    { name: 'workload-socket', csi },
    { name: 'config', configMap: { name } },
  ];
  const containers = [{ name: 'main', image: IMAGES.busybox }, proxy];
  return [configMap, { name, labels, spec: { containers, volumes } }];
}
