import type { Fields, ProbeKind } from './pod.js';
import { assignment, extension, http2Options, loopback } from './proxy-tls.js';

/** What is asked of the program. */
export type ProbeQuestion =
  | {
      readonly kind: 'http';
      readonly tls: boolean;
      readonly path: string;
      readonly host: string;
      readonly headers: readonly (readonly [name: string, value: string])[];
    }
  | { readonly kind: 'tcp' }
  | { readonly kind: 'grpc'; readonly service: string };

/** A probe that the proxy makes in the kubelet's place. */
export interface ProbeCheck {
  readonly container: string;
  readonly probe: ProbeKind;
  /** On 127.0.0.1. */
  readonly port: number;
  readonly question: ProbeQuestion;
  /** How often and how long it asks, in seconds. */
  readonly interval: number;
  readonly timeout: number;
}

/** Where the kubelet asks for the answer. */
export function probePath({ container, probe }: Pick<ProbeCheck, 'container' | 'probe'>): string {
  return `/probes/${container}/${probe}`;
}

function clusterName({ container, probe }: ProbeCheck): string {
  return `probe-${container}-${probe}`;
}

/**
 * Envoy asks the program by itself, as often as it is to. No route leads here: what comes from outside learns the last
 * answer, and can ask the program nothing, neither more often nor with other words.
 */
export function probeCluster(check: ProbeCheck): Fields {
  const name = clusterName(check);
  const { question } = check;
  const seconds = (value: number): string => `${value}s`;
  return {
    ...{ name, type: 'STATIC', connect_timeout: seconds(check.timeout) },
    ...(question.kind === 'grpc' ? { typed_extension_protocol_options: http2Options() } : {}),
    ...(question.kind === 'http' && question.tls ? { transport_socket: UNVERIFIED_TLS } : {}),
    health_checks: [
      {
        timeout: seconds(check.timeout),
        ...{ interval: seconds(check.interval), no_traffic_interval: seconds(check.interval) },
        // The kubelet counts.
        ...{ healthy_threshold: 1, unhealthy_threshold: 1, reuse_connection: false },
        ...asked(question),
      },
    ],
    load_assignment: assignment(name, [{ endpoint: { address: loopback(check.port) } }]),
  };
}

/** Answers 200 or 503 at the probe's path. */
export function probeFilter(check: ProbeCheck): Fields {
  return {
    name: `probe/${check.container}/${check.probe}`,
    typed_config: extension('filters.http.health_check.v3.HealthCheck', {
      pass_through_mode: false,
      cluster_min_healthy_percentages: { [clusterName(check)]: { value: 100 } },
      headers: [{ name: ':path', string_match: { exact: probePath(check) } }],
    }),
  };
}

/** As the kubelet does it: without a look at the certificate. */
const UNVERIFIED_TLS = {
  name: 'envoy.transport_sockets.tls',
  typed_config: extension('transport_sockets.tls.v3.UpstreamTlsContext', {}),
};

function asked(question: ProbeQuestion): Fields {
  switch (question.kind) {
    case 'tcp':
      return { tcp_health_check: {} };
    case 'grpc':
      return {
        grpc_health_check: question.service === '' ? {} : { service_name: literal(question.service) },
      };
    case 'http':
      return {
        http_health_check: {
          ...{ path: literal(question.path), host: literal(question.host) },
          // As the kubelet: 200 to 399.
          expected_statuses: [{ start: '200', end: '400' }],
          request_headers_to_add: question.headers.map(([key, value], index) => ({
            // Envoy puts a command in the place of what is between percent signs.
            header: { key, value: literal(value.replaceAll('%', '%%')) },
            append_action: question.headers.slice(0, index).some(([before]) => isSame(before, key))
              ? 'APPEND_IF_EXISTS_OR_ADD'
              : 'OVERWRITE_IF_EXISTS_OR_ADD',
            keep_empty_value: true,
          })),
        },
      };
  }
}

function isSame(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}

/** The kubelet puts a variable in the place of `$(NAME)`, and one dollar in the place of two. */
function literal(text: string): string {
  return text.replaceAll('$', '$$$$');
}
