import { MAX_PATH_LENGTH } from '../../policy/path.js';

/** Characters whose percent-encoding says the same as they do (RFC 3986 §2.3), by their encoding. */
const UNRESERVED = Object.fromEntries(
  Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~').map((character) => [
    `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
    character,
  ]),
);

/** Bytes that are UTF-8, percent-encoded (RFC 3629 §4), but for ASCII. */
const UTF8 = [
  '%[cC][2-9a-fA-F]T',
  '%[dD][0-9a-fA-F]T',
  '%[eE]0%[aAbB][0-9a-fA-F]T',
  '%[eE][1-9a-cA-CeEfF]TT',
  '%[eE][dD]%[89][0-9a-fA-F]T',
  '%[fF]0%[9aAbB][0-9a-fA-F]TT',
  '%[fF][1-3]TTT',
  '%[fF]4%8[0-9a-fA-F]TT',
]
  .join('|')
  .replaceAll('T', '%[89aAbB][0-9a-fA-F]');

/** Reading what is asked: the same in Rego as `readFacts` is here. */
export const FACTS = String.raw`# Written by Signet; do not edit. What is asked, in canonical form. The input is described in docs/policy/opa.md.
package signet.facts

is_envoy if input.attributes.request

jwt := input.attributes.metadataContext.filterMetadata["envoy.filters.http.jwt_authn"]

asked_http := input.http if not is_envoy

# Envoy's own words for the path are not taken: parsed_path is decoded in another way than servers do.
asked_http := object.union({"headers": {}}, input.attributes.request.http) if is_envoy

source_text := input.source if {
	not is_envoy
	input.source != null
}

source_text := input.attributes.source.principal if {
	is_envoy
	startswith(input.attributes.source.principal, "spiffe://")
}

source_ip := input.sourceIp if not is_envoy

source_ip := input.attributes.source.address.socketAddress.address if is_envoy

port := input.port if not is_envoy

port := input.attributes.destination.address.socketAddress.portValue if is_envoy

target_name := sprintf("%s/%s", [input.target.namespace, input.target.name]) if not is_envoy

target_name := input.attributes.contextExtensions["signet.dev/target"] if is_envoy

# Milliseconds since the epoch.
now := input.time

now := floor(time.now_ns() / 1000000) if not input.time

now_ns := now * 1000000

source_workload := input.sourceWorkload if not is_envoy

application := input.application if not is_envoy

no_token if {
	not is_envoy
	input.token == null
}

claims := input.token.claims if not is_envoy

claims := jwt[data.signet.policy.config.jwtPayload] if is_envoy

# Why nothing is decided, whatever the policies say.
refused contains "the time is not known" if not is_number(now)

refused contains "the time is not known" if abs(now) > 8640000000000000

refused contains "the source is no valid SPIFFE ID" if {
	source_text
	not is_spiffe_id(source_text)
}

refused contains "the token has no claims" if {
	not is_envoy
	input.token != null
	not has_claims
}

# "not" before a call is undefined, not true, where what the call is given is undefined.
has_claims if is_object(input.token.claims)

refused contains "the HTTP part has no method and path" if {
	asked_http
	not is_http(asked_http)
}

refused contains "the method is not written in upper-case letters, at most 32 of them" if {
	not regex.match("^[A-Z][A-Z0-9_-]{0,31}$", asked_http.method)
}

refused contains reason if some reason in path_refused

refused contains "the host is not a valid host name" if {
	host_text
	not host
}

refused contains "the application's request has no action and resource" if {
	application
	not is_application(application)
}

is_http(http) if {
	is_string(http.method)
	is_string(http.path)
}

is_application(asked) if {
	is_string(asked.action.name)
	is_string(asked.resource.type)
	is_string(asked.resource.id)
}

is_spiffe_id(text) if {
	is_string(text)
	count(text) <= 2048
	regex.match("^spiffe://[a-z0-9._-]{1,255}(/[a-zA-Z0-9._-]+)*$", text)
	not regex.match("/\\.\\.?(/|$)", substring(text, 9, -1))
}

source := {"id": source_text, "trustDomain": domain, "path": path} if {
	is_spiffe_id(source_text)
	rest := substring(source_text, 9, -1)
	domain := split(rest, "/")[0]
	path := substring(rest, count(domain), -1)
}

# The namespace of /ns/<namespace>/<more>.
source_namespace := parts[2] if {
	parts := split(source.path, "/")
	parts[1] == "ns"
	count(parts) > 3
}

raw_path := split(asked_http.path, "?")[0]

query_text := substring(asked_http.path, count(raw_path) + 1, -1) if contains(asked_http.path, "?")

query_text := "" if not contains(asked_http.path, "?")

path_refused contains "the path is too long" if count(asked_http.path) > ${MAX_PATH_LENGTH}

path_refused contains "the path does not start with \"/\"" if not startswith(raw_path, "/")

path_refused contains "the path holds a character that programs read differently" if {
	not regex.match("^[A-Za-z0-9._~!$&'()*+,=:@/%-]*$", raw_path)
}

path_refused contains "the path holds \"%\" without two hex digits" if {
	regex.match("%(?:[^0-9A-Fa-f]|.[^0-9A-Fa-f]|.?$)", raw_path)
}

path_refused contains "the path holds an encoded slash, backslash, \";\" or control character" if {
	regex.match("%(?:2[Ff]|5[Cc]|3[Bb]|[01][0-9A-Fa-f]|7[Ff])", raw_path)
}

path_refused contains "the path is percent-encoded twice" if regex.match("%25[0-9A-Fa-f]{2}", path)

path_refused contains "the path holds the segment \".\" or \"..\"" if regex.match("/\\.\\.?(/|$)", path)

path_refused contains "the path holds \"//\"" if contains(path, "//")

unreserved := ${JSON.stringify(UNRESERVED)}

path := strings.replace_n(changes, raw_path) if {
	changes := {text: object.get(unreserved, upper(text), upper(text)) |
		some text in regex.find_n("%[0-9A-Fa-f]{2}", raw_path, -1)
	}
}

host_text := asked_http.host if asked_http.host != ""

host := name if {
	regex.match("^[\\x21-\\x7e]{1,260}$", host_text)
	bare := regex.replace(lower(host_text), ":[0-9]{1,5}$", "")
	name := regex.replace(bare, "\\.$", "")
	regex.match("^(?:[a-z0-9_][a-z0-9._-]{0,252}|\\[[0-9a-f:.]{2,45}\\])$", name)
}

http := object.union({"method": asked_http.method, "path": path}, hosts) if {
	hosts := {"host": h | h := host}
}

is_decodable if {
	rest := regex.replace(query_text, "${UTF8}", "_")
	not regex.match("%[89a-fA-F]", rest)
	not regex.match("%(?:[^0-9A-Fa-f]|.[^0-9A-Fa-f]|.?$)", rest)
}

# Each value with its parameter; undefined when the query cannot be decoded in one way.
query := pairs if {
	is_decodable
	pairs := [[urlquery.decode(name), urlquery.decode(value)] |
		some part in split(query_text, "&")
		part != ""
		name := split(part, "=")[0]
		value := substring(part, count(name) + 1, -1)
	]
}
`;
