import { parseCertificate } from '../identity/pki/certificate.js';
import { parseBundleDocument } from '../identity/spiffe/bundle-document.js';
import { parseTrustDomain } from '../identity/spiffe/id.js';
import { sleep, type Clock } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';

/** Only for reading authorities out of a document: it says of no trust domain which it is. */
const ANY = 'any.invalid';
const RETRY_MS = 1_000;

/**
 * The trust domain that the authorities of a bundle name: each is a certificate whose only URI is that of its trust domain
 * (X.509-SVID §4.2). Whoever can change the bundle can choose whom the agent trusts, so nothing is lost by reading the
 * name there too.
 *
 * @throws BundleError, PkiError; SignetError `TrustDomainUnknown`
 */
export function trustDomainOfBundle(document: string): string {
  const authorities = parseBundleDocument(ANY, document).x509Authorities.map((der) => parseCertificate(der));
  const names = new Set(authorities.flatMap(({ uris }) => uris));
  const [uri] = names;
  if (names.size !== 1 || uri === undefined) {
    const seen = [...names].slice(0, 3).join(', ');
    throw new SignetError(
      'TrustDomainUnknown',
      `the authorities of the trust bundle name ${seen === '' ? 'no trust domain' : seen}; say which it is with --trust-domain`,
    );
  }
  return parseTrustDomain(uri);
}

/** Waits for a bundle that names one. Rejects with the signal's reason. */
export async function untilTrustDomain(
  readBundle: () => Promise<string>,
  { clock, logger, signal }: { readonly clock: Clock; readonly logger: Logger; readonly signal: AbortSignal },
): Promise<string> {
  let told = '';
  for (;;) {
    try {
      return trustDomainOfBundle(await readBundle());
    } catch (thrown) {
      const { code, message } = SignetError.from(thrown);
      if (message !== told) logger.warn('the trust bundle cannot be used yet', { code, reason: message });
      told = message;
    }
    await sleep(clock, RETRY_MS, signal);
  }
}
