import { MAX_PATH_LENGTH } from '../../policy/path.js';
import { typed, type Json } from './predicate.js';

/**
 * What the HTTP connection manager has to say, so that the rules see what the upstream will see: the path as it came.
 * Envoy's own normalisation would resolve dot segments before any rule could refuse them.
 */
export const HTTP_CONNECTION_MANAGER: Json = {
  normalize_path: false,
  merge_slashes: false,
  path_with_escaped_slashes_action: 'REJECT_REQUEST',
  // With the peer's own address as the client's, X-Forwarded-For of a client is no address that anything trusts.
  use_remote_address: true,
  strip_trailing_host_dot: false,
};

/** The longest host that is looked at; as in `evaluate`. */
const MAX_HOST = 253;

const CANONICAL_PATH = `local plain = "[%w%-%._~]"
function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path") or ""
  local host = headers:get(":authority") or ""
  if #path > ${MAX_PATH_LENGTH} or (#host > ${MAX_HOST} and #host:gsub(":%d+$", ""):gsub("%.$", "") > ${MAX_HOST}) then
    handle:respond({[":status"] = "403"}, "the path or the host is too long")
    return
  end
  if not path:find("%", 1, true) then return end
  local query = path:find("?", 1, true) or #path + 1
  local canonical = path:sub(1, query - 1):gsub("%%(%x%x)", function(hex)
    local character = string.char(tonumber(hex, 16))
    return character:find(plain) and character or "%" .. hex:upper()
  end)
  headers:replace(":path", canonical .. path:sub(query))
end
`;

/**
 * Decodes path characters that need no encoding and writes the others in upper case (RFC 3986 §6.2.2), for the rules and
 * for the upstream alike. Without it, such paths are refused.
 */
export const CANONICAL_PATH_FILTER: Json = {
  name: 'envoy.filters.http.lua',
  typed_config: typed('envoy.extensions.filters.http.lua.v3.Lua', {
    default_source_code: { inline_string: CANONICAL_PATH },
  }),
};
