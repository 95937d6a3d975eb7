import { SignetError } from '../../lib/errors.js';

/** The longest SPIFFE ID, in bytes (SPIFFE-ID §2.3: MUST support, SHOULD NOT generate longer). */
export const MAX_SPIFFE_ID_BYTES = 2048;
/** The longest trust domain name, in bytes (SPIFFE-ID §2.3). */
export const MAX_TRUST_DOMAIN_BYTES = 255;

/** Why a text is no SPIFFE ID or trust domain name. */
export class SpiffeIdError extends SignetError {}

/** A valid SPIFFE ID, taken apart. Make one with {@link parseSpiffeId} or {@link spiffeId} only. */
export interface SpiffeId {
  /** Lower case, no scheme. */
  readonly trustDomain: string;
  /** Starts with `/`, or is empty for the ID of the trust domain itself. */
  readonly path: string;
  /** The canonical text, `spiffe://trust-domain/path`. Compare IDs by this. */
  readonly uri: string;
}

const TRUST_DOMAIN = /^[a-z0-9._-]+$/;
const SEGMENT = /^[a-zA-Z0-9._-]+$/;
/** Most paths are of this shape, in which nothing can be wrong. */
const PLAIN_PATH = /^(?:\/[a-zA-Z0-9_-][a-zA-Z0-9._-]*)*$/;

function fail(code: string, message: string): never {
  throw new SpiffeIdError(code, message);
}

/**
 * A trust domain name, from `example.org` or `spiffe://example.org`. Names are lower case (SPIFFE-ID §2.1); upper case
 * is refused rather than folded, so that two spellings never meet in one policy.
 *
 * @throws SpiffeIdError `TrustDomainInvalid`
 */
export function parseTrustDomain(text: string): string {
  const name = text.startsWith('spiffe://') ? text.slice('spiffe://'.length) : text;
  if (name === '')
    fail('TrustDomainInvalid', 'the trust domain is empty; write a name such as "example.org"');
  if (name.length > MAX_TRUST_DOMAIN_BYTES) {
    fail(
      'TrustDomainInvalid',
      `the trust domain has ${name.length} characters; ${MAX_TRUST_DOMAIN_BYTES} are allowed`,
    );
  }
  if (!TRUST_DOMAIN.test(name)) {
    const hint = TRUST_DOMAIN.test(name.toLowerCase()) ? `; write "${name.toLowerCase()}"` : '';
    fail('TrustDomainInvalid', `trust domain "${name}" may hold only a-z, 0-9, ".", "-" and "_"${hint}`);
  }
  return name;
}

/** Checks a path: empty, or `/` and segments (SPIFFE-ID §2.2). Throws SpiffeIdError `SpiffeIdPathInvalid`. */
export function checkSpiffePath(path: string): void {
  if (PLAIN_PATH.test(path)) return;
  if (!path.startsWith('/')) fail('SpiffeIdPathInvalid', `path "${path}" must start with "/"`);
  for (const segment of path.slice(1).split('/')) {
    if (segment === '') {
      fail('SpiffeIdPathInvalid', `path "${path}" has an empty segment; remove "//" and any "/" at the end`);
    }
    if (segment === '.' || segment === '..')
      fail('SpiffeIdPathInvalid', `path "${path}" may not hold "${segment}" as a segment`);
    if (!SEGMENT.test(segment)) {
      fail('SpiffeIdPathInvalid', `path segment "${segment}" may hold only a-z, A-Z, 0-9, ".", "-" and "_"`);
    }
  }
}

/** Joins a trust domain name and a path, both checked. */
export function spiffeId(trustDomain: string, path: string): SpiffeId {
  const name = parseTrustDomain(trustDomain);
  checkSpiffePath(path);
  const uri = `spiffe://${name}${path}`;
  if (uri.length > MAX_SPIFFE_ID_BYTES) {
    fail('SpiffeIdTooLong', `the SPIFFE ID has ${uri.length} bytes; ${MAX_SPIFFE_ID_BYTES} are allowed`);
  }
  return { trustDomain: name, path, uri };
}

/**
 * Parses a SPIFFE ID (SPIFFE-ID §2).
 *
 * @throws SpiffeIdError `SpiffeIdInvalid`, `TrustDomainInvalid`, `SpiffeIdPathInvalid` or `SpiffeIdTooLong`
 */
export function parseSpiffeId(text: string): SpiffeId {
  // Bounded before anything walks it; an error must not echo megabytes.
  if (text.length > MAX_SPIFFE_ID_BYTES) {
    fail('SpiffeIdTooLong', `the SPIFFE ID has ${text.length} bytes; ${MAX_SPIFFE_ID_BYTES} are allowed`);
  }
  if (text === '') fail('SpiffeIdInvalid', 'the SPIFFE ID is empty');
  // The scheme compares without case (RFC 3986 §3.1); the canonical form is lower case.
  if (text.slice(0, 9).toLowerCase() !== 'spiffe://') {
    fail('SpiffeIdInvalid', `"${text}" is no SPIFFE ID; it must start with "spiffe://"`);
  }
  const rest = text.slice(9);
  const slash = rest.indexOf('/');
  return slash < 0 ? spiffeId(rest, '') : spiffeId(rest.slice(0, slash), rest.slice(slash));
}
