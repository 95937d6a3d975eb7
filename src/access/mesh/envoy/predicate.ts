/** A message of Envoy's configuration, as JSON. */
export type Json = Readonly<Record<string, unknown>>;

/** A message with its type, as configuration holds extensions. */
export const typed = (type: string, fields: Json = {}): Json => ({
  '@type': `type.googleapis.com/${type}`,
  ...fields,
});

/** What is looked at (a data input of the unified matcher), and what it must be like. */
export interface Test {
  readonly kind: 'test';
  readonly input: Json;
  /** `value_match` or `custom_match` of a single predicate. A test of what is not there does not hold. */
  readonly match: Json;
}

/** A condition that Envoy's unified matcher can decide. */
export type Predicate =
  | Test
  | { readonly kind: 'always' }
  | { readonly kind: 'never' }
  | { readonly kind: 'and' | 'or'; readonly of: readonly Predicate[] }
  | { readonly kind: 'not'; readonly of: Predicate };

export const ALWAYS: Predicate = { kind: 'always' };
export const NEVER: Predicate = { kind: 'never' };

/** All of these; of none: always. */
export function all(predicates: readonly Predicate[]): Predicate {
  const left = flatten('and', predicates).filter(({ kind }) => kind !== 'always');
  if (left.some(({ kind }) => kind === 'never')) return NEVER;
  return left.length > 1 ? { kind: 'and', of: left } : (left[0] ?? ALWAYS);
}

/** One of these; of none: never. */
export function any(predicates: readonly Predicate[]): Predicate {
  const left = flatten('or', predicates).filter(({ kind }) => kind !== 'never');
  if (left.some(({ kind }) => kind === 'always')) return ALWAYS;
  return left.length > 1 ? { kind: 'or', of: left } : (left[0] ?? NEVER);
}

export function not(predicate: Predicate): Predicate {
  if (predicate.kind === 'always') return NEVER;
  if (predicate.kind === 'never') return ALWAYS;
  return predicate.kind === 'not' ? predicate.of : { kind: 'not', of: predicate };
}

function flatten(kind: 'and' | 'or', predicates: readonly Predicate[]): readonly Predicate[] {
  return predicates.flatMap((predicate) => (predicate.kind === kind ? predicate.of : [predicate]));
}

/** The predicate of an entry of a matcher list. Those that always or never hold have no such form. */
export function predicateJson(predicate: Predicate): Json {
  switch (predicate.kind) {
    case 'test':
      return { single_predicate: { input: predicate.input, ...predicate.match } };
    case 'and':
      return { and_matcher: { predicate: predicate.of.map(predicateJson) } };
    case 'or':
      return { or_matcher: { predicate: predicate.of.map(predicateJson) } };
    case 'not':
      return { not_matcher: predicateJson(predicate.of) };
    case 'always':
    case 'never':
      throw new Error('a condition that is decided has no predicate');
  }
}

const input = (name: string, type: string, fields: Json = {}): Json => ({
  name: `envoy.matching.inputs.${name}`,
  typed_config: typed(type, fields),
});

const common = 'envoy.extensions.matching.common_inputs';

/** The URI SANs of the peer's verified certificate, joined by ",": of an SVID, its SPIFFE ID. */
export const URI_SAN = input('uri_san', `${common}.ssl.v3.UriSanInput`);
/** The port that the connection was made to, after a redirect was undone by the `original_dst` listener filter. */
export const DESTINATION_PORT = input('destination_port', `${common}.network.v3.DestinationPortInput`);
/** The address of the peer of the TCP connection, whatever a header or the PROXY protocol says. */
const SOURCE_IP = input('direct_source_ip', `${common}.network.v3.DirectSourceIPInput`);

/** A header of the request: all lines of that name, joined by ",". */
export const header = (name: string): Json =>
  input('request_headers', 'envoy.type.matcher.v3.HttpRequestHeaderMatchInput', { header_name: name });

/** The path with the query. */
export const PATH = header(':path');

/** A value of the token's claims, which the jwt_authn filter puts into the request's metadata. */
const claimInput = (path: readonly string[]): Json =>
  input('dynamic_metadata', `${common}.network.v3.DynamicMetadataInput`, {
    filter: 'envoy.filters.http.jwt_authn',
    path: path.map((key) => ({ key })),
  });

/** A value is as a `StringMatcher` says. */
export const textTest = (of: Json, matcher: Json): Predicate => ({
  kind: 'test',
  input: of,
  match: { value_match: matcher },
});

export const equals = (of: Json, value: string): Predicate => textTest(of, { exact: value });

export const startsWith = (of: Json, value: string): Predicate => textTest(of, { prefix: value });

/** The whole value matches an expression of RE2. */
export const matches = (of: Json, regex: string): Predicate =>
  textTest(of, { safe_regex: { google_re2: {}, regex } });

/** There is a value, and it is not empty. `\C` is a byte: "." would not match one that is no UTF-8. */
export const isPresent = (of: Json): Predicate => matches(of, '\\C+');

/** The peer's address is in one of these ranges: a text and the length of its prefix. */
export const inRanges = (ranges: readonly (readonly [address: string, length: number])[]): Predicate => ({
  kind: 'test',
  input: SOURCE_IP,
  match: {
    custom_match: {
      name: 'envoy.matching.matchers.ip',
      typed_config: typed('envoy.extensions.matching.input_matchers.ip.v3.Ip', {
        stat_prefix: 'signet',
        cidr_ranges: ranges.map(([address, length]) => ({ address_prefix: address, prefix_len: length })),
      }),
    },
  },
});

/** The peer has an address at all. */
export const HAS_IP: Predicate = isPresent(SOURCE_IP);

/** A claim, from the outside in, is as a `ValueMatcher` says. */
export const claimIs = (path: readonly string[], value: Json): Predicate => ({
  kind: 'test',
  input: claimInput(path),
  match: {
    custom_match: {
      name: 'envoy.matching.matchers.metadata_matcher',
      typed_config: typed('envoy.extensions.matching.input_matchers.metadata.v3.Metadata', { value }),
    },
  },
});

/**
 * The value that Envoy's CEL attributes call `object.field` has more bytes than this. An expression of RE2 cannot count
 * so far, CEL can.
 */
export function longerThan(object: string, field: string, bytes: number): Predicate {
  let id = 0;
  const node = (kind: Json): Json => ({ id: ++id, ...kind });
  const call = (name: string, ...args: readonly Json[]): Json =>
    node({ call_expr: { function: name, args } });
  const attribute = node({ select_expr: { operand: node({ ident_expr: { name: object } }), field } });
  // Of bytes: to count the characters of what is no UTF-8 is an error, and what ends in an error does not match.
  const size = call('size', call('bytes', attribute));
  const expression = call('_>_', size, node({ const_expr: { int64_value: bytes } }));
  return {
    kind: 'test',
    input: input('cel_data_input', 'xds.type.matcher.v3.HttpAttributesCelMatchInput'),
    match: {
      custom_match: {
        name: 'envoy.matching.matchers.cel_matcher',
        typed_config: typed('xds.type.matcher.v3.CelMatcher', {
          expr_match: { cel_expr_parsed: { expr: expression } },
        }),
      },
    },
  };
}

/** A text as RE2 matches itself. */
export const literal = (text: string): string => text.replaceAll(/[^A-Za-z0-9_/ -]/g, '\\$&');

/** The longest program that Envoy compiles an expression to unless its runtime says otherwise. */
export const MAX_PROGRAM = 100;
