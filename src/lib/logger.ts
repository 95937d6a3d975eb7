/** What a log line may carry. Keys, tokens and whole requests never belong here. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined | readonly string[]>>;

/** The log as every room sees it; main/ decides where the lines go. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds these fields to each of its lines. */
  child(fields: LogFields): Logger;
}

/** Drops everything: for libraries and tests that do not look at the log. */
export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLogger,
};
