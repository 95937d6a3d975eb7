import { SignetError } from '../../lib/errors.js';
import type { SpiffeId } from './id.js';
import { parseSpiffeId } from './id.js';

/** Why a certificate is no X.509-SVID. The code is always `X509SvidInvalid`. */
export class X509SvidError extends SignetError {}

/** What the profile looks at. A parsed certificate has all of it. */
export interface CertificateView {
  /** basicConstraints cA. */
  readonly isCa: boolean;
  /** Names as in RFC 5280 §4.2.1.3, e.g. `digitalSignature`; absent when the extension is. */
  readonly keyUsage?: ReadonlySet<string>;
  readonly keyUsageCritical: boolean;
  /** Dotted object identifiers; absent when the extension is. */
  readonly extendedKeyUsage?: readonly string[];
  /** URI alternative names. */
  readonly uris: readonly string[];
}

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

function fail(message: string, cause?: unknown): never {
  throw new X509SvidError('X509SvidInvalid', message, cause === undefined ? undefined : { cause });
}

/**
 * Checks a certificate against the leaf profile (X509-SVID §2–4 and §5.2) and returns whom it names. Signatures,
 * validity and name constraints are the path validator's.
 *
 * @throws X509SvidError
 */
export function checkX509SvidLeaf(view: CertificateView): SpiffeId {
  const id = onlySpiffeId(view);
  // §5.2: a root path names the trust domain, so only a signing certificate may hold it.
  if (id.path === '') fail(`a leaf must name a workload, but "${id.uri}" has no path`);
  if (view.isCa) fail('a leaf may not be a CA (basicConstraints cA is true)');
  const usage = view.keyUsage ?? fail('a leaf must have the extension keyUsage');
  if (!view.keyUsageCritical) fail('keyUsage of a leaf must be critical');
  if (!usage.has('digitalSignature')) fail('keyUsage of a leaf must hold digitalSignature');
  for (const forbidden of ['keyCertSign', 'cRLSign']) {
    if (usage.has(forbidden)) fail(`keyUsage of a leaf may not hold ${forbidden}`);
  }
  const extended = view.extendedKeyUsage;
  if (extended !== undefined && !(extended.includes(SERVER_AUTH) && extended.includes(CLIENT_AUTH))) {
    fail('extendedKeyUsage of a leaf must hold both serverAuth and clientAuth when it is there');
  }
  return id;
}

/**
 * Checks a certificate against the profile of signing certificates (X509-SVID §2–4). One without a SPIFFE ID is
 * accepted (§2: SHOULD be an SVID itself): corporate roots have none.
 *
 * @returns the trust domain's ID, or undefined where the certificate has no URI name
 * @throws X509SvidError
 */
export function checkX509SvidSigner(view: CertificateView): SpiffeId | undefined {
  if (!view.isCa) fail('a signing certificate must be a CA (basicConstraints cA)');
  const usage = view.keyUsage ?? fail('a signing certificate must have the extension keyUsage');
  if (!usage.has('keyCertSign')) fail('keyUsage of a signing certificate must hold keyCertSign');
  if (view.uris.length === 0) return undefined;
  const id = onlySpiffeId(view);
  if (id.path !== '')
    fail(`a signing certificate names its trust domain, so "${id.uri}" may not have a path`);
  return id;
}

function onlySpiffeId(view: CertificateView): SpiffeId {
  const [uri, ...more] = view.uris;
  if (uri === undefined) fail('there is no SPIFFE ID: the certificate has no URI name');
  // §2: one only, or two readers would see two identities.
  if (more.length > 0) fail(`an SVID has exactly one URI name; this one has ${view.uris.length}`);
  try {
    return parseSpiffeId(uri);
  } catch (cause) {
    fail(`the URI name is no SPIFFE ID: ${cause instanceof Error ? cause.message : 'unreadable'}`, cause);
  }
}
