import type { IssuerSettings } from './issuer-config.js';
import type { TokenHeader } from './jws.js';
import { refuse } from './refusal.js';

/** The types of token that pass for an access or ID token unless one is asked for (RFC 8725 §3.11). */
const USUAL_TYPES: ReadonlySet<string> = new Set(['jwt', 'at+jwt']);
/** JWT-SVID §2: these headers and no others, and what `typ` may be. */
const SVID_HEADERS: ReadonlySet<string> = new Set(['alg', 'kid', 'typ']);
const SVID_TYPES: ReadonlySet<string> = new Set(['jwt', 'jose']);

/**
 * Whether the issuer may send tokens with this header.
 *
 * @throws TokenRefusal `TokenAlgorithmRefused`, `TokenMalformed`, `TokenWrongType`
 */
export function checkHeader({ algorithm, keyId, type, names }: TokenHeader, settings: IssuerSettings): void {
  if (!settings.algorithms.has(algorithm))
    refuse(
      'TokenAlgorithmRefused',
      `the algorithm of the token is refused; its issuer may use ${[...settings.algorithms].join(', ')}`,
    );
  const svid = settings.keys.kind === 'bundle';
  if (svid && (keyId === undefined || !names.every((name) => SVID_HEADERS.has(name))))
    refuse('TokenMalformed', 'a JWT-SVID has the headers "alg", "kid" and perhaps "typ", and no others');
  const { requiredType } = settings;
  const usual = svid ? SVID_TYPES : USUAL_TYPES;
  if (requiredType === undefined ? type !== undefined && !usual.has(type) : type !== requiredType)
    refuse(
      'TokenWrongType',
      `header "typ" must be "${requiredType ?? [...usual].join('" or "')}"; this is another kind of token`,
    );
}
