import type {
  JwtResult as JwtMessage,
  Refusal as RefusalMessage,
  X509Result as X509Message,
} from '../gen/signet/node/v1/node.js';
import type { SignJwtResult, SignRefusal, SignX509Result } from '../node-api.js';
import { StatusError } from '../service.js';

/** What became of a request for an X.509-SVID, as it goes to an agent. */
export function x509ResultMessage(result: SignX509Result): X509Message {
  if (!result.ok) return { result: { $case: 'refusal', value: refusalMessage(result) } };
  const { chain, notBefore, notAfter, serial, authorityId } = result;
  const value = { chain: chain.map(asBuffer), notBefore, notAfter, serial, authorityId };
  return { result: { $case: 'svid', value } };
}

/** The reverse of {@link x509ResultMessage}. Throws StatusError `Internal` for an answer that says nothing. */
export function x509ResultFrom({ result }: X509Message): SignX509Result {
  if (result === undefined) return nothing();
  return result.$case === 'svid' ? { ok: true, ...result.value } : refusalFrom(result.value);
}

/** What became of a request for a JWT-SVID, as it goes to an agent. */
export function jwtResultMessage(result: SignJwtResult): JwtMessage {
  if (!result.ok) return { result: { $case: 'refusal', value: refusalMessage(result) } };
  const { token, issuedAt, expiresAt, keyId } = result;
  return { result: { $case: 'svid', value: { token, issuedAt, expiresAt, keyId } } };
}

/** The reverse of {@link jwtResultMessage}. Throws StatusError `Internal` for an answer that says nothing. */
export function jwtResultFrom({ result }: JwtMessage): SignJwtResult {
  if (result === undefined) return nothing();
  return result.$case === 'svid' ? { ok: true, ...result.value } : refusalFrom(result.value);
}

function refusalMessage({ code, message, retryable }: SignRefusal): RefusalMessage {
  return { code, message, retryable };
}

function refusalFrom({ code, message, retryable }: RefusalMessage): SignRefusal {
  return { ok: false, code, message, retryable };
}

function nothing(): never {
  throw new StatusError('Internal', 'the server answered with neither an SVID nor a refusal');
}

/** The bytes as the library wants them, not copied. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
