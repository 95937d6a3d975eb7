import { isObject } from './json.js';
import { isLoopback, keyUrlProblem } from './url.js';

/** Where an issuer says what it is (OpenID Connect Discovery §4.1). */
export function discoveryUrl(issuer: string): string {
  return `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
}

/**
 * The `jwks_uri` of a discovery document (§3), which must be the issuer's own (§4.3): the same text to the last
 * character, or a tenant could pass for another one.
 *
 * @throws Error with a message that can be shown
 */
export function readDiscovery(document: unknown, issuer: string): string {
  if (!isObject(document)) throw new Error('the discovery document is no JSON object');
  if (document['issuer'] !== issuer)
    throw new Error('the discovery document is of another issuer; configure the issuer exactly as it says');
  const uri = document['jwks_uri'];
  if (typeof uri !== 'string') throw new Error('the discovery document has no "jwks_uri"');
  const problem = keyUrlProblem(uri, isLoopback(new URL(issuer)));
  if (problem !== undefined) throw new Error(`"jwks_uri" of the discovery document ${problem}`);
  return uri;
}
