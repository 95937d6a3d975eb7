import { serviceAccountUri } from '../../policy/spiffe-namespace.js';
import { formatIpAddress } from '../../../lib/ip-address.js';
import { MAX_SPIFFE_ID_BYTES, parseSpiffeId } from '../../../identity/spiffe/id.js';
import { namespaceOf } from '../../policy/match.js';
import type { Effect, IpBlock, Principal, Source, SourceMatch } from '../../policy/model.js';
import {
  all,
  ALWAYS,
  any,
  equals,
  HAS_IP,
  inRanges,
  isPresent,
  longerThan,
  matches,
  NEVER,
  not,
  startsWith,
  URI_SAN,
  type Predicate,
} from './predicate.js';

const ID_SEGMENT = '(?:[A-Za-z0-9_-][A-Za-z0-9._-]*|\\.[A-Za-z0-9_-][A-Za-z0-9._-]*|\\.\\.[A-Za-z0-9._-]+)';

/** A certificate with URI SANs that are not one SPIFFE ID (X.509-SVID §2): two of them are joined by ",". */
export const REFUSED_IDENTITY: Predicate = all([
  isPresent(URI_SAN),
  not(matches(URI_SAN, `spiffe://[a-z0-9._-]+(?:/${ID_SEGMENT})*`)),
]);

/** A SPIFFE ID that is longer than one may be (SPIFFE-ID §2.3). Only an HTTP filter can tell. */
export const LONG_IDENTITY: Predicate = all([
  matches(URI_SAN, '\\C{90,}'),
  longerThan('connection', 'uri_san_peer_certificate', MAX_SPIFFE_ID_BYTES),
]);

/** Under what a rule is found, by the peer's SPIFFE ID. */
export type SourceKey =
  | { readonly kind: 'uri'; readonly uri: string }
  /** Ends in "/", so that it ends where a segment does. */
  | { readonly kind: 'prefix'; readonly prefix: string }
  | { readonly kind: 'authenticated' }
  | { readonly kind: 'anyone' };

/** One way for a request to come from a source. */
export interface KeyedSource {
  readonly key: SourceKey;
  /** What else must hold: its address, and that it is none of those excepted. */
  readonly when: Predicate;
}

/** A source by what its rule is found under. What the key decides is not asked again. */
export function keyedSources(source: Source, effect: Effect, identified: boolean): readonly KeyedSource[] {
  const address = source.ipBlocks === undefined ? ALWAYS : inBlocks(source.ipBlocks, effect === 'Deny');
  const keys = source.any.flatMap(keysOf).filter(({ kind }) => identified || kind === 'anyone');
  return keys.flatMap((key) => {
    const place = { key, identified, unknown: effect === 'Allow' };
    const excepted = source.except.map((match) => matchPredicate(match, place));
    const when = all([address, not(any(excepted))]);
    return when.kind === 'never' ? [] : [{ key, when }];
  });
}

function keysOf(principal: Principal): readonly SourceKey[] {
  switch (principal.kind) {
    case 'anyone':
    case 'authenticated':
      return [{ kind: principal.kind }];
    case 'spiffeId':
      return [{ kind: 'uri', uri: principal.uri }];
    case 'identity':
      return principal.uris.map((uri) => ({ kind: 'uri', uri }));
    case 'serviceAccount':
      return [{ kind: 'uri', uri: serviceAccountUri(principal) }];
    case 'namespace':
      return [{ kind: 'prefix', prefix: `spiffe://${principal.trustDomain}/ns/${principal.namespace}/` }];
    case 'trustDomain': {
      const uri = `spiffe://${principal.trustDomain}`;
      return [
        { kind: 'prefix', prefix: `${uri}/` },
        { kind: 'uri', uri },
      ];
    }
  }
}

interface Place {
  readonly key: SourceKey;
  readonly identified: boolean;
  /** Whether an address that is not known counts. */
  readonly unknown: boolean;
}

/** Whether the source is as a match says. */
function matchPredicate(match: SourceMatch, place: Place): Predicate {
  const who = any(match.any.map((principal) => principalPredicate(principal, place)));
  return all([who, match.ipBlocks === undefined ? ALWAYS : inBlocks(match.ipBlocks, place.unknown)]);
}

function principalPredicate(principal: Principal, { key, identified }: Place): Predicate {
  if (principal.kind === 'anyone') return ALWAYS;
  if (!identified) return NEVER;
  if (principal.kind === 'authenticated') return key.kind === 'anyone' ? isPresent(URI_SAN) : ALWAYS;
  if (key.kind === 'uri') return includes(principal, key.uri) ? ALWAYS : NEVER;
  return any(
    keysOf(principal).map((other): Predicate => {
      if (other.kind === 'uri') return equals(URI_SAN, other.uri);
      return other.kind === 'prefix' ? startsWith(URI_SAN, other.prefix) : ALWAYS;
    }),
  );
}

/** Whether a principal that is neither anyone nor everyone with an identity has an ID. */
function includes(principal: Principal, uri: string): boolean {
  switch (principal.kind) {
    case 'trustDomain':
      return parseSpiffeId(uri).trustDomain === principal.trustDomain;
    case 'namespace': {
      const { trustDomain, path } = parseSpiffeId(uri);
      return trustDomain === principal.trustDomain && namespaceOf(path) === principal.namespace;
    }
    case 'spiffeId':
    case 'identity':
    case 'serviceAccount':
    case 'authenticated':
    case 'anyone':
      return keysOf(principal).some((key) => key.kind === 'uri' && key.uri === uri);
  }
}

function inBlocks(blocks: readonly IpBlock[], unknown: boolean): Predicate {
  const known = inRanges(blocks.map(({ bytes, prefix }) => [formatIpAddress(bytes), prefix] as const));
  return unknown ? any([known, not(HAS_IP)]) : known;
}
