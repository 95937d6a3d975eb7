/** Pieces of Envoy's configuration (v3 API), as JSON. */
import type { Credentials } from './credentials.js';

/** A message of Envoy's configuration. */
export type Json = Readonly<Record<string, unknown>>;

/** The type URL of one of Envoy's messages, e.g. `extensions.filters.http.rbac.v3.RBAC`. */
export const envoyType = (name: string): string => `type.googleapis.com/envoy.${name}`;

/** Where a listener listens: a port of an IPv4 address, 0 for any that is free. */
export const socketAddress = (address: string, port: number): Json => ({
  socket_address: { address, port_value: port },
});

/** A bootstrap with nothing but these; the program that starts Envoy adds the administration. */
export function bootstrap(listeners: readonly Json[], clusters: readonly Json[] = []): Json {
  return { node: { id: 'rig', cluster: 'rig' }, static_resources: { listeners, clusters } };
}

/** What a listener has besides its last filter. */
export interface ListenerOptions {
  /** `in` unless given. */
  readonly name?: string;
  /** A free port of 127.0.0.1 unless given. */
  readonly address?: Json;
  readonly listenerFilters?: readonly Json[];
  /** Network filters before the last. */
  readonly networkFilters?: readonly Json[];
  readonly transportSocket?: Json;
}

/** A listener with one filter chain that ends in `last`. */
export function listener(last: Json, options: ListenerOptions = {}): Json {
  const { name = 'in', address = socketAddress('127.0.0.1', 0), listenerFilters = [] } = options;
  const { networkFilters = [], transportSocket } = options;
  return {
    name,
    address,
    listener_filters: listenerFilters,
    filter_chains: [
      {
        filters: [...networkFilters, last],
        ...(transportSocket === undefined ? {} : { transport_socket: transportSocket }),
      },
    ],
  };
}

/** A network filter that sends back what comes: reached when nothing before it closes the connection. */
export const echo: Json = {
  name: 'envoy.filters.network.echo',
  typed_config: { '@type': envoyType('extensions.filters.network.echo.v3.Echo') },
};

/** A header with a value in which Envoy fills in its command operators. */
export const headerValue = (key: string, value: string): Json => ({ header: { key, value } });

/** Answers 200 `hello` itself, saying who called in `x-peer`. */
export const answerHello: Json = {
  direct_response: { status: 200, body: { inline_string: 'hello' } },
  response_headers_to_add: [headerValue('x-peer', '%DOWNSTREAM_PEER_URI_SAN%')],
};

/** HTTP, ended by one route for everything (CONNECT excluded). What Envoy itself answers says why in `x-details`. */
export function httpManager(route: Json, httpFilters: readonly Json[] = [], more: Json = {}): Json {
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      '@type': envoyType('extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'),
      stat_prefix: 'in',
      route_config: {
        virtual_hosts: [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, ...route }] }],
      },
      local_reply_config: {
        mappers: [
          {
            filter: { not_health_check_filter: {} },
            headers_to_add: [headerValue('x-details', '%RESPONSE_CODE_DETAILS%')],
          },
        ],
      },
      http_filters: [
        ...httpFilters,
        {
          name: 'envoy.filters.http.router',
          typed_config: { '@type': envoyType('extensions.filters.http.router.v3.Router') },
        },
      ],
      ...more,
    },
  };
}

/**
 * TLS with this certificate, for clients whose SVID one of the trust domains' authorities has signed, by Envoy's SPIFFE
 * validator. Clients without a certificate are let in only if `optional`; the SPIFFE validator cannot do that, so then
 * Envoy's own takes its place, which does not hold authorities and trust domains together.
 */
export function serverTls(
  server: Credentials,
  trust: Readonly<Record<string, string>>,
  { optional = false }: { readonly optional?: boolean } = {},
): Json {
  const trustDomains = Object.entries(trust).map(([name, pem]) => ({
    name,
    trust_bundle: { inline_string: pem },
  }));
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': envoyType('extensions.transport_sockets.tls.v3.DownstreamTlsContext'),
      require_client_certificate: !optional,
      common_tls_context: {
        tls_certificates: [
          {
            certificate_chain: { inline_string: server.cert },
            private_key: { inline_string: server.key },
          },
        ],
        validation_context: optional
          ? { trusted_ca: { inline_string: Object.values(trust).join('\n') } }
          : {
              custom_validator_config: {
                name: 'envoy.tls.cert_validator.spiffe',
                typed_config: {
                  '@type': envoyType('extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig'),
                  trust_domains: trustDomains,
                },
              },
            },
      },
    },
  };
}
