import type { Logger } from '../../src/lib/logger.js';

/** A log that a test can read: lines of level and message, and everything with its fields. */
export interface RecordingLogger extends Logger {
  /** Warnings and errors, as `level message`. */
  readonly lines: string[];
  /** All lines with their fields, as text: to look for what must not be there. */
  readonly all: string[];
}

/** Collects what is logged. */
export function recordingLogger(): RecordingLogger {
  const lines: string[] = [];
  const all: string[] = [];
  const at =
    (level: string): Logger['info'] =>
    (message, fields) => {
      all.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`);
      if (level === 'warn' || level === 'error') lines.push(`${level} ${message}`);
    };
  const logger: RecordingLogger = {
    lines,
    all,
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: () => logger,
  };
  return logger;
}
