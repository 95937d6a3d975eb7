import type { Clock } from '../lib/clock.js';
import type { Revocation, RevocationSpec } from '../resources/revocation.js';
import type { StoredObject, StoreReader } from '../store/store.js';

const KIND = 'Revocation';

/** What is asked of a verified token. */
export interface RevocableToken {
  /** As configured: its `iss`, or the ID of the trust domain for JWT-SVIDs. */
  readonly issuer: string;
  readonly subject: string;
  readonly claims: Readonly<Record<string, unknown>>;
}

interface Entry {
  readonly issuer: string;
  /** Milliseconds since the epoch; NaN when it does not end. */
  readonly until: number;
  readonly reason: string;
}

/** Whether a Revocation is one of tokens: of one token, of all of a user, or of all of a session. */
export function isOfTokens(object: StoredObject): boolean {
  const { subject } = specOf(object);
  return (subject?.token ?? subject?.user ?? subject?.session) !== undefined;
}

/** The Revocations of tokens at one moment. A value: a change makes another. */
export class RevokedTokens {
  /** By `jti`, `sub` and `sid`, since a lookup is for each answer about a token. */
  readonly #tokens = new Map<string, Entry[]>();
  readonly #users = new Map<string, Entry[]>();
  readonly #sessions = new Map<string, Entry[]>();

  constructor(revocations: readonly StoredObject[]) {
    for (const object of revocations) {
      const { subject = {}, reason = '', until } = specOf(object);
      const { token, user, session } = subject;
      const end = until === undefined ? '' : ` until ${until}`;
      const entry = {
        until: until === undefined ? NaN : Date.parse(until),
        reason: `by Revocation ${object.metadata.name}${end}: ${reason}`,
      };
      if (token !== undefined) add(this.#tokens, token.id, { ...entry, issuer: token.issuer });
      if (user !== undefined) add(this.#users, user.subject, { ...entry, issuer: user.issuer });
      if (session !== undefined) add(this.#sessions, session.id, { ...entry, issuer: session.issuer });
    }
  }

  /** Why a token is revoked at this time (milliseconds since the epoch), or undefined. Each Revocation is of one issuer. */
  reason({ issuer, subject, claims }: RevocableToken, now: number): string | undefined {
    const { jti, sid } = claims;
    for (const [entries, id] of [
      [this.#tokens, jti],
      [this.#users, subject],
      [this.#sessions, sid],
    ] as const) {
      const found =
        typeof id === 'string'
          ? // An end that cannot be read is none: what is revoked stays so.
            entries.get(id)?.find((entry) => entry.issuer === issuer && !(now >= entry.until))
          : undefined;
      if (found !== undefined) return found.reason;
    }
    return undefined;
  }
}

/** Follows the store's Revocations from now on; ask it of each token, at each use. */
export function followRevokedTokens(
  store: Pick<StoreReader, 'list' | 'subscribe'>,
  clock: Pick<Clock, 'now'>,
): { readonly reason: (token: RevocableToken) => string | undefined; readonly close: () => void } {
  const read = (): RevokedTokens => new RevokedTokens(store.list(KIND));
  let current = read();
  const close = store.subscribe((changes) => {
    if (changes.some(({ kind }) => kind === KIND)) current = read();
  });
  return { reason: (token) => current.reason(token, clock.now()), close };
}

/** What came over the network, or of a newer version, may lack anything. */
function specOf(object: StoredObject): Partial<RevocationSpec> {
  return (object as Partial<Revocation>).spec ?? {};
}

function add(entries: Map<string, Entry[]>, id: string, entry: Entry): void {
  const known = entries.get(id);
  if (known === undefined) entries.set(id, [entry]);
  else known.push(entry);
}
