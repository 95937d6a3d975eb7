import type { KeyType } from '../pki/keys.js';
import { BugError } from '../../lib/errors.js';
import { CaError } from './errors.js';

/** What an authority signs: X.509-SVIDs or JWT-SVIDs. */
export type AuthorityKind = 'x509' | 'jwt';
/** Where an authority stands: announced, signing, or only trusted. */
export type AuthoritySlot = 'prepared' | 'active' | 'old';

/** Both kinds, in the order in which they are looked after. */
export const AUTHORITY_KINDS: readonly AuthorityKind[] = ['x509', 'jwt'];

/** The most authorities of one kind that a bundle holds, so that no one can grow it without bound by rotating. */
export const MAX_TRUSTED_AUTHORITIES = 32;
/** The most authorities of one kind that are remembered, revoked ones included. */
export const MAX_KNOWN_AUTHORITIES = 256;

interface AuthorityBase {
  /** Hex subject key ID of an X.509 authority, key ID (`kid`) of a JWT authority. */
  readonly id: string;
  /** Under which its private key lies in the key store. */
  readonly keyId: string;
  readonly keyType: KeyType;
  /** For people. */
  readonly subject: string;
  readonly slot: AuthoritySlot;
  /** Has it ever been in the published bundle? It may become active only then. */
  readonly published: boolean;
  /** What it signed is to be replaced; it never signs again. */
  readonly tainted: boolean;
  /** It is out of the bundle; remembered so that what it signed is still replaced. */
  readonly revoked: boolean;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** An X.509 authority. All certificates are DER. */
export interface X509Authority extends AuthorityBase {
  readonly kind: 'x509';
  readonly certificate: Uint8Array;
  /** What stands between the SVID and the root in a chain: empty when self-signed, else own certificate first. */
  readonly intermediates: readonly Uint8Array[];
  /** What the bundle holds for it. */
  readonly roots: readonly Uint8Array[];
}

/** A JWT authority: a bare key. */
export interface JwtAuthority extends AuthorityBase {
  readonly kind: 'jwt';
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
}

/** One CA key pair and its place in the rotation. A value: never changed in place. */
export type Authority = X509Authority | JwtAuthority;

/**
 * All authorities of a trust domain, oldest first, and the sequence of the bundle they make.
 *
 * The life of an authority, one function per arrow:
 *
 *     prepareAuthority → markPublished → activateAuthority → (old) → retireAuthorities
 *                     ↘ discardPrepared                      (old) → taintAuthority → revokeAuthority
 *
 * What always holds: at most one prepared and one active per kind; an active one has been in the published bundle; the
 * sequence grows by one exactly when the bundle's content changes.
 */
export interface AuthoritySet {
  readonly sequence: number;
  readonly authorities: readonly Authority[];
}

/** Nothing yet. */
export const EMPTY_SET: AuthoritySet = { sequence: 0, authorities: [] };

/** The one authority of a kind in a slot that holds at most one. */
export function inSlot(
  set: AuthoritySet,
  kind: AuthorityKind,
  slot: 'prepared' | 'active',
): Authority | undefined {
  return set.authorities.find((authority) => authority.kind === kind && authority.slot === slot);
}

/** The authority with this kind and id. Throws CaError `AuthorityNotFound`. */
export function getAuthority(set: AuthoritySet, kind: AuthorityKind, id: string): Authority {
  const found = set.authorities.find((authority) => authority.kind === kind && authority.id === id);
  if (found !== undefined) return found;
  const known = set.authorities.filter((authority) => authority.kind === kind).map(({ id: other }) => other);
  throw new CaError(
    'AuthorityNotFound',
    `there is no ${kind} authority with the id given; known are: ${known.length === 0 ? 'none' : known.slice(-8).join(', ')}`,
  );
}

/** Whether `now` lies within the authority's lifetime. */
export function isTimely(authority: Authority, now: number): boolean {
  return authority.notBefore <= now && now < authority.notAfter;
}

/** The roots that the bundle holds, each once, in order of their authorities. */
export function trustedRoots(set: AuthoritySet): readonly Uint8Array[] {
  const roots = new Map<string, Uint8Array>();
  for (const authority of set.authorities) {
    if (authority.kind !== 'x509' || authority.revoked) continue;
    for (const root of authority.roots) {
      const key = Buffer.from(root).toString('base64');
      if (!roots.has(key)) roots.set(key, root);
    }
  }
  return [...roots.values()];
}

/** The JWT authorities whose keys the bundle holds. */
export function trustedJwtAuthorities(set: AuthoritySet): readonly JwtAuthority[] {
  return set.authorities.filter((authority) => authority.kind === 'jwt').filter(({ revoked }) => !revoked);
}

/**
 * Adds a new authority, prepared: it comes into the bundle, and signs nothing.
 *
 * @throws CaError `AuthorityAlreadyPrepared`, `AuthorityLimit`
 */
export function prepareAuthority(set: AuthoritySet, authority: Authority): AuthoritySet {
  const { kind } = authority;
  const prepared = inSlot(set, kind, 'prepared');
  if (prepared !== undefined) {
    throw new CaError(
      'AuthorityAlreadyPrepared',
      `${kind} authority ${prepared.id} is prepared already; activate it first`,
    );
  }
  const flags = [authority.published, authority.tainted, authority.revoked];
  if (authority.slot !== 'prepared' || flags.includes(true))
    throw new BugError(`authority ${authority.id} is not new`);
  if (set.authorities.some((other) => other.id === authority.id || other.keyId === authority.keyId)) {
    throw new BugError(`${kind} authority ${authority.id} is in the set already`);
  }
  const ofKind = set.authorities.filter((other) => other.kind === kind);
  if (ofKind.length >= MAX_KNOWN_AUTHORITIES) {
    throw new CaError(
      'AuthorityLimit',
      `${MAX_KNOWN_AUTHORITIES} ${kind} authorities are remembered already, revoked ones included; wait until the oldest expire`,
    );
  }
  if (ofKind.filter(({ revoked }) => !revoked).length >= MAX_TRUSTED_AUTHORITIES) {
    throw new CaError(
      'AuthorityLimit',
      `the bundle holds ${MAX_TRUSTED_AUTHORITIES} ${kind} authorities already; wait until old ones expire, or taint and revoke them`,
    );
  }
  return change(set, [...set.authorities, authority]);
}

/**
 * Records that the bundle with this sequence, and so every authority in it, has been given to all who watch it.
 * A bundle that has been overtaken meanwhile says nothing about the present one.
 */
export function markPublished(set: AuthoritySet, sequence: number): AuthoritySet {
  if (sequence !== set.sequence) throw new BugError(`bundle ${sequence} is not the present one`);
  if (set.authorities.every(({ published }) => published)) return set;
  return change(
    set,
    set.authorities.map((authority) => ({ ...authority, published: true })),
  );
}

/**
 * The prepared authority becomes active, the active one old.
 *
 * @throws CaError `AuthorityNotPrepared`, `AuthorityNotPublished`, `AuthorityNotYetValid`, `AuthorityExpired`
 */
export function activateAuthority(set: AuthoritySet, kind: AuthorityKind, now: number): AuthoritySet {
  const prepared = inSlot(set, kind, 'prepared');
  if (prepared === undefined) {
    throw new CaError('AuthorityNotPrepared', `no ${kind} authority is prepared; prepare one first`);
  }
  if (!prepared.published) {
    throw new CaError(
      'AuthorityNotPublished',
      `${kind} authority ${prepared.id} is not yet in the published bundle, so nobody would trust what it signs`,
    );
  }
  checkTimely(prepared, now);
  return change(
    set,
    set.authorities.map((authority): Authority => {
      if (authority === prepared) return { ...authority, slot: 'active' };
      return authority.kind === kind && authority.slot === 'active'
        ? { ...authority, slot: 'old' }
        : authority;
    }),
  );
}

/** Throws CaError `AuthorityNotYetValid` or `AuthorityExpired` unless `now` lies within its lifetime. */
export function checkTimely(authority: Authority, now: number): void {
  const { kind, id, notBefore, notAfter } = authority;
  if (now < notBefore) {
    throw new CaError(
      'AuthorityNotYetValid',
      `${kind} authority ${id} is valid only from ${iso(notBefore)}, and the clock says ${iso(now)}; check the clock`,
    );
  }
  if (now >= notAfter) {
    throw new CaError(
      'AuthorityExpired',
      `${kind} authority ${id} expired at ${iso(notAfter)}, and the clock says ${iso(now)}; check the clock`,
    );
  }
}

/** Drops the prepared authority of a kind, if any: it has signed nothing, so nobody misses it. */
export function discardPrepared(set: AuthoritySet, kind: AuthorityKind): AuthoritySet {
  const prepared = inSlot(set, kind, 'prepared');
  if (prepared === undefined) return set;
  return change(
    set,
    set.authorities.filter((authority) => authority !== prepared),
  );
}

/** Drops those old authorities for which `isOver` holds; they are trusted and remembered no more. */
export function retireAuthorities(
  set: AuthoritySet,
  isOver: (authority: Authority) => boolean,
): AuthoritySet {
  const kept = set.authorities.filter((authority) => authority.slot !== 'old' || !isOver(authority));
  return kept.length === set.authorities.length ? set : change(set, kept);
}

/**
 * Marks an old authority tainted: agents replace what it signed, it stays trusted meanwhile. Tainting twice is once.
 *
 * @throws CaError `AuthorityNotFound`, `AuthorityInUse`
 */
export function taintAuthority(set: AuthoritySet, kind: AuthorityKind, id: string): AuthoritySet {
  const authority = getAuthority(set, kind, id);
  if (authority.slot === 'active') {
    throw new CaError(
      'AuthorityInUse',
      `${kind} authority ${id} is active: rotate first (signet ca rotate --kind ${kind}), then taint it`,
    );
  }
  if (authority.slot === 'prepared') {
    throw new CaError(
      'AuthorityInUse',
      `${kind} authority ${id} is prepared and has signed nothing: rotate twice (signet ca rotate --kind ${kind}), so that it is active and then old, then taint it`,
    );
  }
  if (authority.tainted) return set;
  return replace(set, authority, { ...authority, tainted: true });
}

/**
 * Takes a tainted authority out of the bundle: what it signed is trusted no more. Revoking twice is once.
 *
 * @throws CaError `AuthorityNotFound`, `AuthorityNotTainted`, `AuthorityRootShared`
 */
export function revokeAuthority(set: AuthoritySet, kind: AuthorityKind, id: string): AuthoritySet {
  const authority = getAuthority(set, kind, id);
  if (authority.revoked) return set;
  if (!authority.tainted) {
    throw new CaError(
      'AuthorityNotTainted',
      `${kind} authority ${id} is not tainted: taint it first (signet ca taint), so that what it signed is replaced before it is refused`,
    );
  }
  const next = replace(set, authority, { ...authority, revoked: true });
  if (authority.kind === 'x509' && authority.roots.some((root) => holds(trustedRoots(next), root))) {
    throw new CaError(
      'AuthorityRootShared',
      `x509 authority ${id} is an intermediate under an upstream root on which other authorities rest, so removing it from the bundle would not distrust it; replace the upstream authority, rotate, and revoke all authorities under the old root`,
    );
  }
  return next;
}

function replace(set: AuthoritySet, authority: Authority, by: Authority): AuthoritySet {
  return change(
    set,
    set.authorities.map((other) => (other === authority ? by : other)),
  );
}

/** The only way to a next set: here the sequence follows the content. */
function change(set: AuthoritySet, authorities: readonly Authority[]): AuthoritySet {
  const next = { sequence: set.sequence, authorities };
  return sameContent(set, next) ? next : { ...next, sequence: set.sequence + 1 };
}

/** Whether two sets make the same bundle, the sequence aside. */
function sameContent(left: AuthoritySet, right: AuthoritySet): boolean {
  const [leftRoots, rightRoots] = [trustedRoots(left), trustedRoots(right)];
  const [leftKeys, rightKeys] = [trustedJwtAuthorities(left), trustedJwtAuthorities(right)];
  return (
    leftRoots.length === rightRoots.length &&
    leftRoots.every((root) => holds(rightRoots, root)) &&
    leftKeys.length === rightKeys.length &&
    leftKeys.every(({ id }) => rightKeys.some((other) => other.id === id))
  );
}

function holds(certificates: readonly Uint8Array[], wanted: Uint8Array): boolean {
  return certificates.some((der) => Buffer.compare(der, wanted) === 0);
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
