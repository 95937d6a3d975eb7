import { createHash } from 'node:crypto';
import type { AuthorityKind } from '../../../identity/ca/authority-set.js';

/** The annotation of the TrustDomain in which an administrator asks for a change of the authorities. */
export const CA_REQUEST_ANNOTATION = 'signet.dev/ca-request';

/** What is asked. `nonce` tells it from every other request: one that was handled is never handled again. */
export type CaRequest = { readonly nonce: string } & (
  | { readonly action: 'rotate'; readonly kind?: AuthorityKind }
  | { readonly action: 'prepare' | 'activate'; readonly kind: AuthorityKind }
  | { readonly action: 'taint' | 'revoke'; readonly kind: AuthorityKind; readonly id: string }
  | { readonly action: 'begin-anew' }
);

/** A request that cannot be understood, and why. */
export interface CaRequestProblem {
  readonly nonce: string;
  readonly action: string;
  readonly problem: string;
}

const LONGEST = 4096;
const FIELDS: ReadonlySet<string> = new Set(['action', 'kind', 'id', 'nonce']);
const ACTIONS = 'rotate, prepare, activate, taint, revoke, begin-anew';
const NONCE = /^[A-Za-z0-9._-]{1,64}$/;
const ID = /^[\x21-\x7e]{1,128}$/;

/** Reads the annotation; undefined when there is none. */
export function readCaRequest(text: string | undefined): CaRequest | CaRequestProblem | undefined {
  if (text === undefined || text.trim() === '') return undefined;
  const fields = fieldsOf(text);
  const written = fields?.['nonce'];
  // What has no name of its own is known again by what it says.
  const nonce =
    typeof written === 'string' && NONCE.test(written)
      ? written
      : createHash('sha256').update(text).digest('hex').slice(0, 16);
  const action = typeof fields?.['action'] === 'string' ? fields['action'].slice(0, 32) : '';
  const refuse = (problem: string): CaRequestProblem => ({
    nonce,
    action: /^[\x20-\x7e]+$/.test(action) ? action : 'unknown',
    problem,
  });
  if (fields === undefined)
    return refuse('it is no JSON object; write {"action":"rotate","kind":"x509","nonce":"1"}');
  if (nonce !== written) return refuse('nonce must have 1 to 64 letters, digits, ".", "_" or "-"');
  const unknown = Object.keys(fields).find((name) => !FIELDS.has(name));
  if (unknown !== undefined)
    return refuse(`${JSON.stringify(unknown.slice(0, 50))} is no field of a request`);
  return requestOf(fields, nonce, refuse);
}

function requestOf(
  fields: Readonly<Record<string, unknown>>,
  nonce: string,
  refuse: (problem: string) => CaRequestProblem,
): CaRequest | CaRequestProblem {
  const { action, id, kind } = fields;
  if (kind !== undefined && kind !== 'x509' && kind !== 'jwt') return refuse('kind must be "x509" or "jwt"');
  if (id !== undefined && action !== 'taint' && action !== 'revoke')
    return refuse('only taint and revoke have an id');
  if (action === 'rotate') return { action, nonce, ...(kind === undefined ? {} : { kind }) };
  if (action === 'begin-anew')
    return kind === undefined ? { action, nonce } : refuse('begin-anew has no kind: all authorities are new');
  if (!isOneOf(action, ['prepare', 'activate', 'taint', 'revoke'] as const))
    return refuse(`action must be one of ${ACTIONS}`);
  if (kind === undefined) return refuse('kind must be "x509" or "jwt"');
  return action === 'prepare' || action === 'activate'
    ? { action, nonce, kind }
    : withId(action, kind, { id, nonce }, refuse);
}

function withId(
  action: 'taint' | 'revoke',
  kind: AuthorityKind,
  { id, nonce }: { readonly id: unknown; readonly nonce: string },
  refuse: (problem: string) => CaRequestProblem,
): CaRequest | CaRequestProblem {
  return typeof id === 'string' && ID.test(id)
    ? { action, nonce, kind, id }
    : refuse('id must be that of an authority, as status.authorities says it');
}

function isOneOf<T extends string>(value: unknown, known: readonly T[]): value is T {
  return known.some((one) => one === value);
}

function fieldsOf(text: string): Readonly<Record<string, unknown>> | undefined {
  if (text.length > LONGEST) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Readonly<Record<string, unknown>>)
      : undefined;
  } catch {
    return undefined;
  }
}
