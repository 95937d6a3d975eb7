import { SignetError } from '../../lib/errors.js';

/** Codes of {@link KeyStoreError}; stable. */
export type KeyStoreErrorCode =
  /** The id is no name that a key may have. */
  | 'KeyIdInvalid'
  /** A key with this id exists already; ids are never used twice. */
  | 'KeyExists'
  /** The key's file is truncated, changed, of an unknown format, or belongs to another id. */
  | 'KeyDamaged'
  /** The key is sealed, and no key-encryption key is configured. */
  | 'KeyEncryptionMissing'
  /** The key is sealed by another key-encryption key than the one configured. */
  | 'KeyEncryptionWrong'
  /** The key-encryption key is behind a KMS plugin that does not answer, or is not well. */
  | 'KeyEncryptionUnavailable'
  /** A key-encryption key itself is malformed. */
  | 'KeyEncryptionInvalid'
  /** A state directory or file that others may read or write, or that is something else than it should be. */
  | 'StateUnsafe'
  /** The operating system refused to read or write state; the cause says why. */
  | 'StateIo';

/** Why a key could not be kept or given back. Never holds any part of a key. */
export class KeyStoreError extends SignetError {
  override readonly code: KeyStoreErrorCode;

  constructor(code: KeyStoreErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options);
    this.code = code;
  }
}
