import type { Fields } from './pod.js';
import { httpChain, networkChain, type InboundChain } from './proxy-filters.js';
import { probeCluster, probeFilter, type ProbeCheck } from './proxy-probe-checks.js';
import {
  listenerPort,
  PROXY_HEALTH_PORT,
  type InboundPort,
  type OutboundPort,
  type ProxySettings,
} from './proxy-settings.js';
import {
  assignment,
  downstreamTls,
  extension,
  loopback,
  http2Options,
  SIGNET_CLUSTER,
  socketAddress,
  upstreamTls,
} from './proxy-tls.js';

/** Is replaced by the pod's address before Envoy sees it. */
const POD_IP = '$(POD_IP)';
/** Enough for a pod, and a bound on what callers can make the proxy hold. */
const MOST_CONNECTIONS = 10_000;
/** The longest that the proxy does not notice a program which can be reached around it. */
const LOOK_INTERVAL = '2s';
const EXPOSED_CLUSTER = 'exposed';

/**
 * The whole configuration of a pod's proxy. It has no administration port. Nothing is listened on before the first
 * certificate and the first filters are there, however long they take: what is missing, refuses.
 */
export function proxyBootstrap(
  proxy: ProxySettings,
  socketPath: string,
  probes: readonly ProbeCheck[],
): Fields {
  const lookedAt = exposable(proxy);
  return {
    node: { id: '$(POD_NAMESPACE)/$(POD_NAME)', cluster: 'signet-proxy' },
    static_resources: {
      listeners: [
        ...proxy.inbound.map((port) => inboundListener(port, proxy)),
        ...proxy.outbound.map(outboundListener),
        healthListener(lookedAt, probes),
      ],
      clusters: [
        signetCluster(socketPath),
        ...proxy.inbound.map(programCluster),
        ...proxy.outbound.map(outboundCluster),
        ...exposedCluster(lookedAt),
        ...probes.map(probeCluster),
      ],
    },
    overload_manager: {
      resource_monitors: [
        {
          name: 'envoy.resource_monitors.global_downstream_max_connections',
          typed_config: extension('resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig', {
            max_active_downstream_connections: String(MOST_CONNECTIONS),
          }),
        },
      ],
    },
  };
}

function inboundListener(port: InboundPort, proxy: ProxySettings): Fields {
  const chain: InboundChain = { port, cluster: programName(port), authorization: proxy.authorization };
  return {
    name: `in-${port.listen}`,
    address: socketAddress(POD_IP, listenerPort(proxy, port)),
    // Nobody shares the port, not even a program of the same user.
    enable_reuse_port: false,
    per_connection_buffer_limit_bytes: 1_048_576,
    // The port that the caller came to is the one that is decided about.
    ...(proxy.capture ? { listener_filters: [ORIGINAL_DESTINATION] } : {}),
    filter_chains: [
      {
        transport_socket: downstreamTls(port.protocol),
        transport_socket_connect_timeout: '10s',
        filters: port.protocol === 'tcp' ? networkChain(chain) : httpChain(chain),
      },
    ],
  };
}

function outboundListener({ listen }: OutboundPort): Fields {
  return {
    name: `out-${listen}`,
    address: loopback(listen),
    per_connection_buffer_limit_bytes: 1_048_576,
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.tcp_proxy',
            typed_config: extension('filters.network.tcp_proxy.v3.TcpProxy', {
              stat_prefix: `out_${listen}`,
              cluster: `out-${listen}`,
            }),
          },
        ],
      },
    ],
  };
}

/** Where the agent is: SDS, the filters and the authorization service are all on the pod's own socket. */
function signetCluster(path: string): Fields {
  return {
    name: SIGNET_CLUSTER,
    type: 'STATIC',
    connect_timeout: '1s',
    typed_extension_protocol_options: http2Options(),
    load_assignment: assignment(SIGNET_CLUSTER, [{ endpoint: { address: { pipe: { path } } } }]),
  };
}

function programName({ listen }: InboundPort): string {
  return `program-${listen}`;
}

function programCluster(port: InboundPort): Fields {
  const name = programName(port);
  return {
    name,
    type: 'STATIC',
    connect_timeout: '5s',
    ...(port.protocol === 'http2' ? { typed_extension_protocol_options: http2Options() } : {}),
    load_assignment: assignment(name, [{ endpoint: { address: loopback(port.program) } }]),
  };
}

function outboundCluster({ listen, host, port, peer }: OutboundPort): Fields {
  const name = `out-${listen}`;
  return {
    name,
    type: 'STRICT_DNS',
    dns_lookup_family: 'V4_PREFERRED',
    connect_timeout: '5s',
    transport_socket: upstreamTls(peer),
    load_assignment: assignment(name, [{ endpoint: { address: socketAddress(host, port) } }]),
  };
}

/**
 * Where the kubelet asks. `/startup`: Envoy serves, so it has its certificate. `/ready`: and no program can be reached
 * around it, which is looked at all the time, since programs begin to listen when they like. `/probes/…`: how the program
 * does, as Envoy has asked it. Nothing that is asked here is passed on.
 */
function healthListener(lookedAt: readonly number[], probes: readonly ProbeCheck[]): Fields {
  const answer = (status: number, body: string): Fields => ({ status, body: { inline_string: body } });
  const ready =
    lookedAt.length === 0
      ? { direct_response: answer(200, 'ready\n') }
      : { route: { cluster: EXPOSED_CLUSTER, timeout: '1s' } };
  const mapper = (flag: string, status: number, body: string): Fields => ({
    filter: { response_flag_filter: { flags: [flag] } },
    status_code: status,
    body: { inline_string: body },
  });
  return {
    name: 'health',
    address: socketAddress(POD_IP, PROXY_HEALTH_PORT),
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: extension('filters.network.http_connection_manager.v3.HttpConnectionManager', {
              stat_prefix: 'health',
              request_headers_timeout: '5s',
              common_http_protocol_options: { idle_timeout: '30s', max_headers_count: 50 },
              http_filters: [...probes.map(probeFilter), ROUTER],
              route_config: {
                virtual_hosts: [
                  {
                    name: 'health',
                    domains: ['*'],
                    routes: [
                      { match: { path: '/startup' }, direct_response: answer(200, 'started\n') },
                      { match: { path: '/ready' }, ...ready },
                    ],
                  },
                ],
              },
              local_reply_config: {
                mappers: [
                  // No program answers: that is what is wanted.
                  mapper('UH', 200, 'ready\n'),
                  mapper(
                    'UF',
                    503,
                    'the program can be reached around the proxy: let it listen on 127.0.0.1\n',
                  ),
                ],
              },
            }),
          },
        ],
      },
    ],
  };
}

const ROUTER = {
  name: 'envoy.filters.http.router',
  typed_config: extension('filters.http.router.v3.Router', {}),
};

const ORIGINAL_DESTINATION = {
  name: 'envoy.filters.listener.original_dst',
  typed_config: extension('filters.listener.original_dst.v3.OriginalDst', {}),
};

/**
 * The ports at which a program could be reached around the proxy: a program that listened on the pod's address could not,
 * where the proxy has the same port, nor where what comes from outside is captured.
 */
function exposable({ inbound, capture }: ProxySettings): readonly number[] {
  if (capture) return [];
  return [
    ...new Set(inbound.filter(({ listen, program }) => listen !== program).map(({ program }) => program)),
  ];
}

/**
 * Knocks at the pod's address. An endpoint is healthy when the program answers there, so to be without any is to be well.
 * The endpoints themselves are where nobody listens: no request of ours ever reaches a program.
 */
function exposedCluster(ports: readonly number[]): readonly Fields[] {
  if (ports.length === 0) return [];
  return [
    {
      name: EXPOSED_CLUSTER,
      type: 'STATIC',
      connect_timeout: '0.5s',
      // Without it Envoy would ask everybody once nobody is healthy.
      common_lb_config: { healthy_panic_threshold: { value: 0 } },
      health_checks: [
        {
          timeout: '1s',
          ...{ interval: LOOK_INTERVAL, no_traffic_interval: LOOK_INTERVAL },
          ...{ healthy_threshold: 1, unhealthy_threshold: 1 },
          tcp_health_check: {},
        },
      ],
      load_assignment: assignment(
        EXPOSED_CLUSTER,
        ports.map((port, index) => ({
          endpoint: {
            address: loopback(index + 1),
            health_check_config: { address: socketAddress(POD_IP, port) },
          },
        })),
      ),
    },
  ];
}
