import { SignetError } from '../../lib/errors.js';

/**
 * Why a key, certificate, CSR or chain was refused. Codes: `DerInvalid`, `PemInvalid`, `KeyUnsupported`, `KeyInvalid`,
 * `CsrInvalid`, `CertificateInvalid`, `SignatureInvalid`, `NameInvalid`, `IssueRefused`, `IssuedInvalid`, and those of
 * chain.ts (`Chain…`).
 */
export class PkiError extends SignetError {}

/** Throws a {@link PkiError}; an expression, so that it can stand in a `??`. */
export function refuse(code: string, message: string, cause?: unknown): never {
  throw new PkiError(code, message, cause === undefined ? undefined : { cause });
}
