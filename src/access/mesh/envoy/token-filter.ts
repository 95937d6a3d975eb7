import { CLAIMS, headerKey, publicKeys, type EnvoyIssuer } from './issuers.js';
import { typed, type Json } from './predicate.js';

const hasKeys = (issuer: EnvoyIssuer): boolean =>
  issuer.jwksUri !== undefined || publicKeys(issuer) !== undefined;

/**
 * How far clocks may differ, in seconds. One less than in our own validator: Envoy counts whole seconds, and takes a
 * token still in the second in which its time is over.
 */
const CLOCK_SKEW = 29;

/** How the filter deals with tokens. */
export interface JwtFilterOptions {
  /** Requests with a token that is not valid go on as well, to be judged by the rules. They are answered here unless said. */
  readonly lenient?: boolean;
}

/**
 * The jwt_authn filter: a request with a token of one of the issuers, or with none, goes on; one with any other token is
 * answered 401 (403 when it is for another audience). Undefined when there is no issuer whose keys Envoy could get.
 */
export function jwtFilter(
  issuers: readonly EnvoyIssuer[],
  { lenient = false }: JwtFilterOptions = {},
): Json | undefined {
  const usable = issuers.filter(hasKeys);
  if (usable.length === 0) return undefined;
  const providers = usable.map((issuer): readonly [string, Json] => [
    issuer.issuer,
    {
      issuer: issuer.issuer,
      ...(issuer.audiences === undefined ? {} : { audiences: issuer.audiences }),
      ...keySource(issuer),
      require_expiration: true,
      clock_skew_seconds: CLOCK_SKEW,
      // The upstream may want to read the token too.
      forward: true,
      // Only here: a token in the query would end up in logs.
      from_headers: ['Bearer ', 'bearer '].map((prefix) => ({ name: 'Authorization', value_prefix: prefix })),
      payload_in_metadata: CLAIMS,
      header_in_metadata: headerKey(issuer),
    },
  ]);
  const without = lenient ? { allow_missing_or_failed: {} } : { allow_missing: {} };
  const requirements = [...providers.map(([name]) => ({ provider_name: name })), without];
  return {
    name: 'envoy.filters.http.jwt_authn',
    typed_config: typed('envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication', {
      providers: Object.fromEntries(providers),
      rules: [{ match: { prefix: '/' }, requires: { requires_any: { requirements } } }],
    }),
  };
}

function keySource(issuer: EnvoyIssuer): Json {
  const keys = publicKeys(issuer);
  if (keys !== undefined) return { local_jwks: { inline_string: keys } };
  const uri = issuer.jwksUri ?? '';
  return {
    remote_jwks: {
      http_uri: { uri, cluster: clusterName(uri), timeout: '5s' },
      cache_duration: '600s',
      async_fetch: { fast_listener: true },
    },
  };
}

const clusterName = (uri: string): string => `jwks ${new URL(uri).host}`;

/** The clusters from which keys are fetched, over TLS that is verified against `trustedCa`, a file. */
export function keyClusters(issuers: readonly EnvoyIssuer[], trustedCa: string): readonly Json[] {
  const uris = issuers.filter((issuer) => issuer.jwksUri !== undefined && publicKeys(issuer) === undefined);
  const hosts = new Map(uris.map(({ jwksUri = '' }) => [clusterName(jwksUri), new URL(jwksUri)]));
  return [...hosts].map(([name, { hostname, port, protocol }]) => {
    const secure = protocol === 'https:';
    const address = { address: hostname, port_value: Number(port || (secure ? 443 : 80)) };
    return {
      name,
      type: 'STRICT_DNS',
      connect_timeout: '5s',
      load_assignment: {
        cluster_name: name,
        endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: address } } }] }],
      },
      ...(secure ? { transport_socket: tls(hostname, trustedCa) } : {}),
    };
  });
}

function tls(hostname: string, trustedCa: string): Json {
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: typed('envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext', {
      sni: hostname,
      common_tls_context: {
        validation_context: {
          trusted_ca: { filename: trustedCa },
          match_typed_subject_alt_names: [{ san_type: 'DNS', matcher: { exact: hostname } }],
        },
      },
    }),
  };
}
