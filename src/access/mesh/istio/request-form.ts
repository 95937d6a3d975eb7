import { MAX_PATH_LENGTH } from '../../policy/path.js';
import { objectMetadata, objectName } from '../objects.js';
import type { KubernetesObject } from '../renderer.js';

/**
 * An EnvoyFilter that refuses the requests which `evaluate` refuses whatever the policies say: paths, methods and hosts
 * that programs read in two ways. AuthorizationPolicy cannot say it (its patterns have no "contains"), and without it
 * `/api/*` would let `/api/x;/..%2Fadmin` in. Istio's own normalisation comes first, so that the rules and the workload
 * see the same path: dot segments are resolved, also as `..;`, and "\" is a slash.
 */
export function requestForm(root: string): KubernetesObject {
  return {
    apiVersion: 'networking.istio.io/v1alpha3',
    kind: 'EnvoyFilter',
    metadata: objectMetadata('signet-request-form', root, []),
    spec: {
      configPatches: [
        // Each goes before those that are there, so the first of these comes second.
        patch(MARK),
        patch(FILTER),
      ],
    },
  };
}

const patch = (value: unknown): unknown => ({
  applyTo: 'HTTP_FILTER',
  match: {
    context: 'SIDECAR_INBOUND',
    listener: {
      filterChain: { filter: { name: 'envoy.filters.network.http_connection_manager' } },
    },
  },
  patch: { operation: 'INSERT_FIRST', value },
});

const path = (regex: string): unknown => ({ url_path: { path: { safe_regex: { regex } } } });
const header = (name: string, regex: string): unknown => ({
  header: { name, string_match: { safe_regex: { regex } } },
});
const not = (rule: unknown): unknown => ({ not_rule: rule });

// Each is small: Envoy refuses a regex of more than 100 instructions unless it is told otherwise (re2.max_program_size).
const RULES: readonly unknown[] = [
  // pchar of RFC 3986 §3.3 without ";"; and without "*", which Envoy's path templates do not match.
  path("/[A-Za-z0-9._~!$&'()+,=:@/%-]*"),
  not(path('.*//.*')),
  // Encoded "/", "\", ";", control characters; encoded twice.
  not(path('.*%(?:[01].|2[Ff]|5[Cc]|3[Bb]|7[Ff]|25[0-9A-Fa-f][0-9A-Fa-f]).*')),
  // "%" without two hex digits.
  not(path('.*%(?:[^0-9A-Fa-f].*|.[^0-9A-Fa-f].*|.?)')),
  // Envoy has resolved these; should it have been told not to, they are refused.
  not(path('(?:.*/)?\\.\\.?(?:/.*)?')),
  header(':method', '[A-Z][A-Z0-9_-]*'),
  header(':authority', '(?:[A-Za-z0-9_][A-Za-z0-9._-]*|\\[[0-9A-Fa-f:.]+\\])(?::[0-9]{1,5})?'),
];

const field = (name: string): unknown => ({
  select_expr: { operand: { ident_expr: { name: 'request' } }, field: name },
});
const call = (name: string, ...args: readonly unknown[]): unknown => ({
  call_expr: { function: name, args },
});
const atMost = (name: string, length: number): unknown =>
  call('_<=_', call('size', field(name)), { const_expr: { int64_value: length } });

/** `size(request.path) <= 8192 && …`, which a regex cannot count. */
const LENGTHS = call(
  '_&&_',
  atMost('path', MAX_PATH_LENGTH),
  call('_&&_', atMost('method', 32), atMost('host', 253)),
);

/** Lets the rules see that the filter is there: WELL_FORMED in language.ts. */
const MARK = {
  name: 'signet.request-form.mark',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config',
    metadata: [{ metadata_namespace: 'envoy.filters.signet', value: { form: 'well' } }],
  },
};

const FILTER = {
  name: 'signet.request-form',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC',
    rules: {
      action: 'ALLOW',
      policies: {
        form: {
          permissions: [{ and_rules: { rules: RULES } }],
          principals: [{ any: true }],
          condition: LENGTHS,
        },
      },
    },
  },
};

/**
 * The same for a waypoint, on which Istio has no EnvoyFilter (istio/istio#43720): a TrafficExtension, which runs before the
 * tokens and the rules are looked at. A script that fails lets the request on, but without the mark.
 */
export function waypointForm(namespace: string, gateway: string): KubernetesObject {
  return {
    apiVersion: 'extensions.istio.io/v1alpha1',
    kind: 'TrafficExtension',
    metadata: objectMetadata(objectName('signet-request-form', gateway), namespace, []),
    spec: {
      targetRefs: [{ group: 'gateway.networking.k8s.io', kind: 'Gateway', name: gateway }],
      phase: 'AUTHN',
      // Before other extensions, which may change what is asked.
      priority: 2_000_000_000,
      lua: { inlineCode: SCRIPT },
    },
  };
}

const SCRIPT = `local function well(whole, method, host)
  if #whole > ${MAX_PATH_LENGTH} or #method > 32 or #host > 253 then return false end
  local path = whole:match("^[^?#]*")
  if not path:find("^/[A-Za-z0-9._~!$&'()+,=:@/%%-]*$") then return false end
  if path:find("//", 1, true) or (path .. "/"):find("/%.%.?/") then return false end
  if path:gsub("%%%x%x", ""):find("%", 1, true) or path:find("%%25%x%x") then return false end
  for code in path:gmatch("%%(%x%x)") do
    code = code:lower()
    if code:find("^[01]") or code == "2f" or code == "5c" or code == "3b" or code == "7f" then return false end
  end
  if not method:find("^[A-Z][A-Z0-9_-]*$") then return false end
  local name = host:gsub(":%d%d?%d?%d?%d?$", "")
  return (name:find("^[A-Za-z0-9_][A-Za-z0-9._-]*$") or name:find("^%[[0-9A-Fa-f:.]+%]$")) ~= nil
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if well(headers:get(":path") or "", headers:get(":method") or "", headers:get(":authority") or "") then
    handle:streamInfo():dynamicMetadata():set("envoy.filters.signet", "form", "well")
  else
    handle:respond({ [":status"] = "403" }, "")
  end
end
`;
