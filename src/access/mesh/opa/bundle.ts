import { createHash, sign, type KeyObject } from 'node:crypto';
import type { RenderContext, Verdict } from '../renderer.js';
import { CONDITIONS } from './conditions-module.js';
import { opaData } from './data.js';
import { DECISION } from './decision-module.js';
import { FACTS } from './facts-module.js';
import { tarGz, type ArchiveFile } from './tar.js';

/** How a bundle is signed. A secret that both sides share (HS256) would let every OPA sign, so there is none. */
export interface BundleSigner {
  readonly algorithm: 'ES256' | 'RS256' | 'PS256';
  /** The private key: P-256 for ES256, else RSA. */
  readonly key: KeyObject;
  /** Under which name OPA is told the public key. */
  readonly keyId: string;
  /** Which bundle this is, if OPA is told to ask for a scope. */
  readonly scope?: string;
}

export interface OpaOptions {
  /** Where Envoy's jwt_authn filter puts the payload of a valid token (`payload_in_metadata`). `verified_jwt` unless said. */
  readonly jwtPayload?: string;
}

/** The policies for OPA. */
export interface OpaBundle {
  readonly files: Readonly<Record<string, string>>;
  /** The files as OPA downloads them: a gzipped tar, the same bytes for the same policies. */
  readonly archive: Buffer;
  readonly verdicts: readonly Verdict[];
}

/** The files of a bundle by name. The time is not among what they depend on: Rego looks at it. */
export function opaFiles(
  context: RenderContext,
  options: OpaOptions = {},
): { readonly files: Readonly<Record<string, string>>; readonly verdicts: readonly Verdict[] } {
  const { data, verdicts } = opaData(context, options.jwtPayload ?? 'verified_jwt');
  const content = JSON.stringify({ signet: { policy: data } });
  const revision = createHash('sha256').update(content).digest('hex').slice(0, 16);
  const manifest = { revision, roots: ['signet'], rego_version: 1 };
  return {
    files: {
      '.manifest': JSON.stringify(manifest),
      'data.json': content,
      'signet/facts.rego': FACTS,
      'signet/conditions.rego': CONDITIONS,
      'signet/decision.rego': DECISION,
    },
    verdicts,
  };
}

/** A bundle of all policies, signed if there is somebody who signs. */
export function opaBundle(
  context: RenderContext,
  options: OpaOptions = {},
  signer?: BundleSigner,
): OpaBundle {
  const { files, verdicts } = opaFiles(context, options);
  const all =
    signer === undefined
      ? files
      : { ...files, '.signatures.json': JSON.stringify({ signatures: [signatureOf(files, signer)] }) };
  const archive = tarGz(
    Object.entries(all).map(([name, text]): ArchiveFile => ({ name, content: Buffer.from(text) })),
  );
  return { files: all, archive, verdicts };
}

/** A JWT over the digests of all files (OPA, "Bundles: signing", format of .signatures.json). */
function signatureOf(files: Readonly<Record<string, string>>, signer: BundleSigner): string {
  const { algorithm, key, keyId, scope } = signer;
  const header = { alg: algorithm, typ: 'JWT', kid: keyId };
  const payload = {
    files: Object.entries(files).map(([name, text]) => ({
      name,
      hash: digest(name, text),
      algorithm: 'SHA-256',
    })),
    ...(scope === undefined ? {} : { scope }),
  };
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${encode(header)}.${encode(payload)}`;
  return `${text}.${signText(text, algorithm, key).toString('base64url')}`;
}

function signText(text: string, algorithm: BundleSigner['algorithm'], key: KeyObject): Buffer {
  const wanted = algorithm === 'ES256' ? 'ec' : 'rsa';
  if (key.type !== 'private' || key.asymmetricKeyType !== wanted) {
    throw new TypeError(`${algorithm} needs a private key of type ${wanted}`);
  }
  if (algorithm === 'ES256' && key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw new TypeError('ES256 needs a key on the curve P-256');
  }
  const bytes = Buffer.from(text);
  if (algorithm === 'ES256') return sign('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' });
  // PS256: RSASSA-PSS with a salt as long as the digest (RFC 7518 §3.5); 6 and 1 are OpenSSL's numbers of the paddings.
  return sign(
    'sha256',
    bytes,
    algorithm === 'PS256' ? { key, padding: 6, saltLength: 32 } : { key, padding: 1 },
  );
}

/** JSON is digested by what it says, other files by their bytes (opa v1/bundle/hash.go). */
function digest(name: string, text: string): string {
  const hash = createHash('sha256');
  if (name === '.manifest' || name.endsWith('.json')) hash.update(canonical(JSON.parse(text)));
  else hash.update(text);
  return hash.digest('hex');
}

/** Keys in the order of their bytes, no blanks, and Go's way of writing texts. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return primitive(value);
  const entries = Object.entries(value).sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return `{${entries.map(([key, inner]) => `${primitive(key)}:${canonical(inner)}`).join(',')}}`;
}

function primitive(value: unknown): string {
  // Go escapes the two line separators that JavaScript leaves as they are.
  return JSON.stringify(value)
    .replaceAll('\u2028', String.raw`\u2028`)
    .replaceAll('\u2029', String.raw`\u2029`);
}
