/**
 * Whether Node's HTTP/2 server takes this `:authority`. It resets a call whose authority holds any other byte, such as
 * the `/` of a socket path, or none at all, and tells nobody. (A test asks Node about each byte.)
 */
export function isLegalAuthority(authority: string): boolean {
  return /^[-A-Za-z0-9._~!$&'()*+,;=:[\]%]+$/.test(authority);
}
