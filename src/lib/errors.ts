/**
 * The base of every error that Signet raises on purpose.
 *
 * `code` is stable and documented (docs/reference/errors.md); programs may match on it. `message` is for people: it
 * names the field or object, what is wrong with it, and the fix. Neither ever holds a key or a token.
 */
export class SignetError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }

  /** Total: whatever was thrown becomes a SignetError, once, at a boundary. */
  static from(thrown: unknown): SignetError {
    if (thrown instanceof SignetError) return thrown;
    if (thrown instanceof Error) return new SignetError('Internal', thrown.message, { cause: thrown });
    return new SignetError('Internal', `something that is no error was thrown: ${String(thrown)}`);
  }
}

/** A broken invariant of our own code: never caused by input. */
export class BugError extends SignetError {
  constructor(message: string, options?: { cause?: unknown }) {
    super('Bug', `BUG: ${message}`, options);
  }
}
