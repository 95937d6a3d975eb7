import { X509Certificate } from 'node:crypto';
import { parseTrustDomain } from '../spiffe/id.js';
import { MAX_AUDIENCES } from '../spiffe/jwt-svid.js';
import { DEFAULT_ALGORITHMS, SUPPORTED_ALGORITHMS, SVID_ALGORITHMS } from './algorithms.js';
import { FieldReader } from './field-reader.js';
import type { TrustAnchors } from './fetch-document.js';
import { typeOf } from './jws.js';
import { KeySet, readKeySet } from './key-set.js';
import { TokenConfigError } from './refusal.js';
import { keyUrlProblem } from './url.js';

/** The most issuers of one validator. */
export const MAX_ISSUERS = 100;
const DEFAULT_SKEW_SECONDS = 30;
const MAX_SKEW_SECONDS = 300;
const MAX_AGE_SECONDS = 366 * 24 * 3600;
const MAX_TEXT = 2048;

interface CommonConfig {
  /** Who we are: a token must name at least one of these in `aud`. */
  readonly audiences: readonly string[];
  /** JWS algorithms that are taken. */
  readonly algorithms?: readonly string[];
  /** How far clocks may differ; 30 unless said, at most 300. */
  readonly clockSkewSeconds?: number;
  /** Tokens that were issued longer ago are refused, whatever their `exp`. Needs `iat`. */
  readonly maxTokenAgeSeconds?: number;
}

/** An issuer of end-user tokens, as it is written in a configuration. */
export interface OidcIssuerConfig extends CommonConfig {
  readonly kind?: 'oidc';
  /** The `iss` of its tokens, to the last character. */
  readonly issuer: string;
  /** Where its keys are; unless said (or given in `jwks`), OpenID Connect Discovery tells. */
  readonly jwksUri?: string;
  /** Its keys, a JWK Set. */
  readonly jwks?: unknown;
  /** The `typ` that its tokens must have, e.g. `at+jwt`; unless said: none, `JWT` or `at+jwt`. */
  readonly requiredTyp?: string;
  /** Whom TLS trusts for its documents, instead of the system's authorities: PEM, or the path of a file of it. */
  readonly caPem?: string;
  readonly caFile?: string;
}

/** A trust domain whose JWT-SVIDs are taken as tokens. Its keys are those of its trust bundle. */
export interface SpiffeIssuerConfig extends CommonConfig {
  readonly kind: 'spiffe';
  readonly trustDomain: string;
  /** The `iss` that its tokens must have; unless said, `iss` is not looked at (JWT-SVID §3 does not ask for it). */
  readonly issuer?: string;
}

export type TokenIssuerConfig = OidcIssuerConfig | SpiffeIssuerConfig;

/** Where the keys of an issuer come from. */
export type KeyLocation =
  | { readonly kind: 'discovery'; readonly url: undefined; readonly trust?: TrustAnchors }
  | { readonly kind: 'jwks-uri'; readonly url: string; readonly trust?: TrustAnchors }
  | { readonly kind: 'inline'; readonly keys: KeySet }
  | { readonly kind: 'bundle'; readonly trustDomain: string };

/** An issuer, read and checked. Times in milliseconds. */
export interface IssuerSettings {
  /** The `iss` of its tokens; undefined where it is not looked at. */
  readonly issuer: string | undefined;
  readonly audiences: ReadonlySet<string>;
  readonly algorithms: ReadonlySet<string>;
  readonly clockSkewMs: number;
  readonly maxAgeMs: number | undefined;
  /** As {@link typeOf} writes it. */
  readonly requiredType: string | undefined;
  readonly keys: KeyLocation;
}

/**
 * Reads a list of {@link TokenIssuerConfig} from data (YAML, JSON).
 *
 * @throws TokenConfigError `TokenIssuersInvalid`, whose message has a line for each problem: field, problem, fix
 */
export function readTokenIssuers(value: unknown): readonly IssuerSettings[] {
  const problems: string[] = [];
  const settings: IssuerSettings[] = [];
  if (!Array.isArray(value)) problems.push('issuers: must be a list; write one entry for each issuer');
  else if (value.length > MAX_ISSUERS)
    problems.push(`issuers: has ${value.length} entries; ${MAX_ISSUERS} are allowed`);
  else {
    const seen = new Map<string, number>();
    value.forEach((entry: unknown, index) => {
      const before = problems.length;
      const read = readIssuer(new FieldReader(entry, `issuers[${index}]`, problems));
      if (read === undefined || problems.length > before) return;
      const name = nameOf(read);
      const twin = seen.get(name);
      if (twin !== undefined)
        problems.push(`issuers[${index}]: "${name}" is issuers[${twin}] already; write one entry for both`);
      seen.set(name, index);
      settings.push(read);
    });
  }
  if (problems.length > 0) throw new TokenConfigError('TokenIssuersInvalid', problems.join('\n'));
  return settings;
}

/** What an issuer is called in logs and reasons: its `iss`, or the ID of its trust domain. */
export function nameOf({ issuer, keys }: Pick<IssuerSettings, 'issuer' | 'keys'>): string {
  return issuer ?? (keys.kind === 'bundle' ? `spiffe://${keys.trustDomain}` : '');
}

function readIssuer(fields: FieldReader): IssuerSettings | undefined {
  if (!fields.isObject) return undefined;
  const kind = fields.text('kind', 16) ?? 'oidc';
  if (kind === 'oidc') return readOidc(fields);
  if (kind === 'spiffe') return readSpiffe(fields);
  fields.problem('kind', `"${kind}" is unknown; write "oidc" or "spiffe"`);
  return undefined;
}

const COMMON = ['kind', 'issuer', 'audiences', 'algorithms', 'clockSkewSeconds', 'maxTokenAgeSeconds'];

function readOidc(fields: FieldReader): IssuerSettings {
  fields.allowOnly([...COMMON, 'jwksUri', 'jwks', 'requiredTyp', 'caPem', 'caFile']);
  const issuer = fields.text('issuer', MAX_TEXT);
  if (issuer === undefined && !fields.has('issuer'))
    fields.problem('issuer', 'is missing; write the "iss" of the tokens, e.g. https://login.example.com/');
  const type = fields.text('requiredTyp', 128);
  return {
    ...readCommon(fields, DEFAULT_ALGORITHMS, SUPPORTED_ALGORITHMS),
    issuer,
    requiredType: type === undefined ? undefined : typeOf(type),
    keys: readKeyLocation(fields, issuer),
  };
}

function readSpiffe(fields: FieldReader): IssuerSettings {
  fields.allowOnly([...COMMON, 'trustDomain']);
  const text = fields.text('trustDomain', 255);
  let trustDomain = '';
  if (text === undefined) {
    if (!fields.has('trustDomain'))
      fields.problem('trustDomain', 'is missing; write the trust domain whose JWT-SVIDs are taken');
  } else {
    try {
      trustDomain = parseTrustDomain(text);
    } catch (error) {
      fields.problem('trustDomain', (error as Error).message);
    }
  }
  return {
    ...readCommon(fields, SVID_ALGORITHMS, SVID_ALGORITHMS),
    issuer: fields.text('issuer', MAX_TEXT),
    requiredType: undefined,
    keys: { kind: 'bundle', trustDomain },
  };
}

function readCommon(
  fields: FieldReader,
  defaults: readonly string[],
  allowed: readonly string[],
): Pick<IssuerSettings, 'audiences' | 'algorithms' | 'clockSkewMs' | 'maxAgeMs'> {
  const audiences = fields.texts('audiences', MAX_AUDIENCES, MAX_TEXT);
  if (audiences === undefined && !fields.has('audiences'))
    fields.problem('audiences', 'is missing; name this service as the tokens do, or tokens for others pass');
  const algorithms = fields.texts('algorithms', allowed.length, 16);
  for (const name of algorithms ?? [])
    if (!allowed.includes(name))
      fields.problem('algorithms', `"${name}" is not allowed; choose from ${allowed.join(', ')}`);
  const skew = fields.number('clockSkewSeconds', 0, MAX_SKEW_SECONDS) ?? DEFAULT_SKEW_SECONDS;
  const age = fields.number('maxTokenAgeSeconds', 1, MAX_AGE_SECONDS);
  return {
    audiences: new Set(audiences),
    algorithms: new Set(algorithms ?? defaults),
    clockSkewMs: skew * 1000,
    maxAgeMs: age === undefined ? undefined : age * 1000,
  };
}

function readKeyLocation(fields: FieldReader, issuer: string | undefined): KeyLocation {
  const url = fields.text('jwksUri', MAX_TEXT);
  const trust = readTrust(fields);
  if (fields.has('jwks')) {
    for (const other of ['jwksUri', 'caPem', 'caFile'])
      if (fields.has(other)) fields.problem(other, 'has no meaning beside "jwks"; leave one of the two out');
    return readInline(fields);
  }
  if (fields.has('jwksUri')) {
    const problem = url === undefined ? undefined : keyUrlProblem(url, true);
    if (problem !== undefined) fields.problem('jwksUri', `${problem}; write https://…`);
    return { kind: 'jwks-uri', url: url ?? '', ...trust };
  }
  const problem = issuer === undefined ? undefined : discoveryProblem(issuer);
  if (problem !== undefined)
    fields.problem('issuer', `${problem}, so its keys cannot be discovered; add "jwksUri" or "jwks"`);
  return { kind: 'discovery', url: undefined, ...trust };
}

/** OpenID Connect Discovery §2: an issuer is a URL without query and fragment. */
function discoveryProblem(issuer: string): string | undefined {
  return keyUrlProblem(issuer, true) ?? (issuer.includes('?') ? 'has a query' : undefined);
}

/** A key that is written down by hand and cannot serve is a mistake, so none is skipped. */
function readInline(fields: FieldReader): KeyLocation {
  try {
    const keys = readKeySet(fields.value('jwks'));
    for (const reason of keys.skipped) fields.problem('jwks', `${reason}; take it out or mend it`);
    if (keys.keys.size === 0 && keys.skipped.length === 0)
      fields.problem('jwks', 'has no key; add the keys of the issuer');
    return { kind: 'inline', keys };
  } catch (error) {
    fields.problem('jwks', `${(error as Error).message}; write {"keys": [...]}`);
    return { kind: 'inline', keys: new KeySet([], []) };
  }
}

function readTrust(fields: FieldReader): { readonly trust?: TrustAnchors } {
  const pem = fields.text('caPem', 256 * 1024);
  const path = fields.text('caFile', 4096);
  if (fields.has('caPem') && fields.has('caFile'))
    fields.problem('caFile', 'has no meaning beside "caPem"; leave one of the two out');
  if (pem !== undefined) {
    try {
      new X509Certificate(pem);
    } catch {
      fields.problem('caPem', 'is no certificate; write PEM, "-----BEGIN CERTIFICATE-----" and so on');
    }
    return { trust: { kind: 'pem', pem } };
  }
  return path === undefined ? {} : { trust: { kind: 'file', path } };
}
