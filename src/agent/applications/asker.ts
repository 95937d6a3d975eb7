import type { AccessRequest, Entity } from '../../access/policy/model.js';
import { parseSpiffeId } from '../../identity/spiffe/id.js';
import { SignetError } from '../../lib/errors.js';
import type { Authorization } from '../authorization/decide.js';
import { findToken, type TokenFinding } from '../authorization/token.js';
import type { AuthorizationView } from '../authorization/view.js';
import { invalid } from './question.js';

/** Whom a decision is about, as far as somebody vouches for it. */
export interface Asker {
  /** As the policies read it. */
  readonly asked: Pick<AccessRequest, 'source' | 'sourceWorkload'> & {
    readonly token: TokenFinding['token'];
  };
  /** For attributes; undefined when nobody vouches for the subject. */
  readonly subject: Entity | undefined;
  readonly finding: TokenFinding | undefined;
}

/** The subject of a question, or why nothing is allowed to it whatever the policies say. */
export type AskerFinding = Asker | { readonly refused: string };

/** Its `id` is a calling workload's SPIFFE ID, which the application has verified. */
export const WORKLOAD = 'workload';
/** Its `id` is an end user's token, which is validated here. */
export const TOKEN = 'token';

/**
 * Reads the subject of a question.
 *
 * - type `workload`: the source of the request, whom the application has verified (mutual TLS, a JWT-SVID).
 * - type `token`: the user whom a token names that is validated here. An application never says claims itself.
 * - every other type: whom the application says it is. That is attributes (`subject.…`) and nothing else: such a subject
 *   has no SPIFFE ID, no claims and no role of a claim.
 *
 * A subject of another type may bring a token in `properties.token`; it then is a user's who is that subject, or for whom
 * that workload acts. With a token that is not valid, nobody vouches for what the application says of the subject.
 */
export async function findAsker(
  subject: Entity,
  authorization: Authorization,
  view: AuthorizationView,
  field: string,
): Promise<AskerFinding> {
  const { type, id } = subject;
  const { token: carried, ...properties } = subject.properties ?? {};
  const text = tokenText(subject, carried, field);
  const finding = text === undefined ? undefined : await findToken(`Bearer ${text}`, authorization.tokens);
  const vouched = finding === undefined || finding.token !== null;
  const said: Entity = { type, id, ...(vouched ? { properties } : {}) };
  if (type !== WORKLOAD) return userOf(said, finding);
  const source = readSource(id, `${field}.id`, authorization);
  if ('refused' in source) return source;
  const sourceWorkload = view.source(source.uri);
  const known = sourceWorkload === undefined ? {} : { sourceWorkload };
  const asked = { source: source.uri, token: finding?.token ?? null, ...known };
  return { asked, subject: said, finding };
}

function tokenText({ type, id }: Entity, carried: unknown, field: string): string | undefined {
  if (type === TOKEN)
    return carried === undefined
      ? id
      : invalid(`${field}.properties.token`, 'is a second token: write one of them');
  return carried === undefined || typeof carried === 'string'
    ? carried
    : invalid(`${field}.properties.token`, 'must be the token as it came, a text');
}

function userOf(said: Entity, finding: TokenFinding | undefined): AskerFinding {
  const token = finding?.token ?? null;
  const asked = { source: undefined, token };
  if (finding === undefined) return { asked, subject: said, finding };
  if (token === null) return { asked, subject: undefined, finding };
  const sub = token.claims['sub'];
  if (typeof sub !== 'string' || (said.type !== TOKEN && sub !== said.id))
    return { refused: 'the token is of another user than the subject that it came with' };
  return {
    asked,
    subject: said.type === TOKEN ? { ...said, type: 'user', id: sub } : said,
    finding,
  };
}

function readSource(
  id: string,
  field: string,
  authorization: Authorization,
): { readonly uri: string } | { readonly refused: string } {
  let parsed;
  try {
    parsed = parseSpiffeId(id);
  } catch (thrown) {
    return invalid(field, `is no SPIFFE ID of a workload: ${SignetError.from(thrown).message}`);
  }
  const { uri, path, trustDomain } = parsed;
  if (path === '') invalid(field, 'is no SPIFFE ID of a workload: it has no path');
  return authorization.knowsTrustDomain(trustDomain)
    ? { uri }
    : { refused: `the subject is of trust domain ${trustDomain}, of which there is no bundle` };
}
