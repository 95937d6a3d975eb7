import { MAX_PATH_LENGTH } from '../../policy/path.js';
import { objectMetadata } from '../objects.js';
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
        {
          applyTo: 'HTTP_FILTER',
          match: {
            context: 'SIDECAR_INBOUND',
            listener: {
              filterChain: { filter: { name: 'envoy.filters.network.http_connection_manager' } },
            },
          },
          patch: { operation: 'INSERT_FIRST', value: FILTER },
        },
      ],
    },
  };
}

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
