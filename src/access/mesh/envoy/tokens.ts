import type { RenderedIssuer } from '../renderer.js';
import type { ClaimMatch, TokenMatch } from '../../policy/model.js';
import { allOf, exact, unsaid, type Leaf } from './leaf.js';
import { all, any, claimIs, not, typed, type Json, type Predicate } from './predicate.js';

/** Where the jwt_authn filter puts the claims of a token that it has verified. */
const CLAIMS = 'signet';
/** The JSON text of a number. */
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:e[+-]?\d+)?$/;

const inClaim = (path: readonly string[], value: Json): Predicate => claimIs([CLAIMS, ...path], value);
/** null is as good as no claim. */
const isThere = (path: readonly string[]): Predicate =>
  all([inClaim(path, { present_match: true }), not(inClaim(path, { null_match: {} }))]);
/** Every token that is verified has an issuer, since it is by that that its keys are found. */
const HAS_TOKEN = isThere(['iss']);

/** A scalar whose JSON text, or for strings whose value, is this one. */
function scalars(text: string): readonly Json[] {
  const number = NUMBER.test(text) && JSON.stringify(Number(text)) === text;
  return [
    { string_match: { exact: text } },
    ...(text === 'true' || text === 'false' ? [{ bool_match: text === 'true' }] : []),
    ...(number ? [{ double_match: { exact: Number(text) } }] : []),
  ];
}

/** The claim has this value, or is a list with an item that has it. */
const holds = (path: readonly string[], text: string): Predicate =>
  any(
    scalars(text).flatMap((value) => [
      inClaim(path, value),
      inClaim(path, { list_match: { one_of: value } }),
    ]),
  );

function claimPredicate({ path, operator, values }: ClaimMatch): Predicate {
  switch (operator) {
    case 'In':
      return any(values.map((value) => holds(path, value)));
    case 'ContainsAll':
      return all(values.map((value) => holds(path, value)));
    case 'NotIn':
      return all([HAS_TOKEN, not(any(values.map((value) => holds(path, value))))]);
    case 'Exists':
      return isThere(path);
    case 'DoesNotExist':
      return all([HAS_TOKEN, not(isThere(path))]);
  }
}

const REFUSES =
  'requests with a token that is not valid are refused (401, or 403 for another audience), whatever the policies say';

/** A claim of the token. */
export function claimLeaf(claim: ClaimMatch, issuers: readonly RenderedIssuer[]): Leaf {
  const blind = cannotSee(issuers);
  return blind ?? { ...exact(claimPredicate(claim)), notes: [REFUSES] };
}

function cannotSee(issuers: readonly RenderedIssuer[]): Leaf | undefined {
  if (issuers.some(isUsable)) return undefined;
  return unsaid('no token issuer is configured whose keys Envoy could get, so it cannot verify tokens');
}

/** What the end user's token must be like. */
export function tokenLeaf(token: TokenMatch, issuers: readonly RenderedIssuer[]): Leaf {
  const blind = cannotSee(issuers);
  if (blind !== undefined) return blind;
  const oneOf = (claim: string, values: readonly string[] | undefined): readonly Predicate[] =>
    values === undefined ? [] : [any(values.map((value) => holds([claim], value)))];
  const known = all([
    HAS_TOKEN,
    ...oneOf('iss', token.issuers),
    ...oneOf('aud', token.audiences),
    ...oneOf('sub', token.subjects),
    ...oneOf('acr', token.acr),
    ...(token.amr ?? []).map((value) => holds(['amr'], value)),
    ...(token.claims ?? []).map(claimPredicate),
  ]);
  const leaf: Leaf = { ...exact(known), notes: [REFUSES] };
  if (token.maxAuthAge === undefined) return leaf;
  return allOf([leaf, unsaid('Envoy cannot compare auth_time with the time of the request (maxAuthAge)')]);
}

/** Whether Envoy can get the keys. */
export const isUsable = (issuer: RenderedIssuer): boolean =>
  issuer.jwksUri !== undefined || publicKeys(issuer) !== undefined;

/** The issuer's public keys, as JSON text. Shared secrets are left out: whoever verifies with one could sign with it. */
function publicKeys({ jwks }: RenderedIssuer): string | undefined {
  if (jwks === undefined) return undefined;
  const keys = (JSON.parse(jwks) as { readonly keys?: readonly Json[] }).keys ?? [];
  const usable = keys.filter(({ kty }) => kty !== 'oct');
  return usable.length === 0 ? undefined : JSON.stringify({ keys: usable });
}

/**
 * The jwt_authn filter: a request with a token of one of the issuers, or with none, goes on; one with any other token is
 * answered 401 (403 when it is for another audience). Undefined when there is no issuer whose keys Envoy could get.
 */
export function jwtFilter(issuers: readonly RenderedIssuer[]): Json | undefined {
  const usable = issuers.filter(isUsable);
  if (usable.length === 0) return undefined;
  const providers = usable.map((issuer, index): readonly [string, Json] => [
    `issuer-${index}`,
    {
      issuer: issuer.issuer,
      ...(issuer.audiences === undefined ? {} : { audiences: issuer.audiences }),
      ...keySource(issuer),
      require_expiration: true,
      // The upstream may want to read the token too.
      forward: true,
      // Only here: a token in the query would end up in logs.
      from_headers: [{ name: 'Authorization', value_prefix: 'Bearer ' }],
      payload_in_metadata: CLAIMS,
    },
  ]);
  const requirements = [...providers.map(([name]) => ({ provider_name: name })), { allow_missing: {} }];
  return {
    name: 'envoy.filters.http.jwt_authn',
    typed_config: typed('envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication', {
      providers: Object.fromEntries(providers),
      rules: [{ match: { prefix: '/' }, requires: { requires_any: { requirements } } }],
    }),
  };
}

function keySource(issuer: RenderedIssuer): Json {
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
export function keyClusters(issuers: readonly RenderedIssuer[], trustedCa: string): readonly Json[] {
  const uris = issuers.filter((issuer) => isUsable(issuer) && publicKeys(issuer) === undefined);
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
