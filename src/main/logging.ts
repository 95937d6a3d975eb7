import winston from 'winston';
import type { LogFields, Logger } from '../lib/logger.js';

/** How lines look: for people, or one JSON object each. */
export type LogFormat = 'text' | 'json';

/** Levels, from the least to the most said. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

// Field names that never belong in a log: a mistake in a call must not become a leak.
const SECRET_FIELD = /key(?!id|type)|token|secret|password|authorization|csr/i;
const REDACTED = '[redacted]';

const redact = winston.format((info) => {
  for (const name of Object.keys(info)) {
    if (SECRET_FIELD.test(name) && typeof info[name] === 'string') info[name] = REDACTED;
  }
  return info;
});

const text = winston.format.printf((info) => {
  const { level, message, timestamp, ...fields } = info;
  const rest = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(
      ([name, value]) =>
        ` ${name}=${typeof value === 'string' && !/[\s"=]/.test(value) ? value : JSON.stringify(value)}`,
    )
    .join('');
  return `${String(timestamp)} ${level.toUpperCase().padEnd(5)} ${String(message)}${rest}`;
});

/** The one writer of the log. Lines go to stderr: stdout belongs to a command's answer. */
export function createLogger(options: { level: LogLevel; format: LogFormat }): Logger {
  const { combine, timestamp, json } = winston.format;
  const root = winston.createLogger({
    level: options.level,
    format: combine(redact(), timestamp(), options.format === 'json' ? json() : text),
    // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- winston declares its Console as an interface
    transports: [new winston.transports.Console({ stderrLevels: [...LOG_LEVELS] })],
  });
  return wrap(root, options.level);
}

function wrap(inner: winston.Logger, least: LogLevel): Logger {
  const at = (level: LogLevel): ((message: string, fields?: LogFields) => void) => {
    // winston formats a line before it looks at its level; most lines are for levels that are off.
    if (LOG_LEVELS.indexOf(level) > LOG_LEVELS.indexOf(least)) return () => undefined;
    return (message, fields) => {
      inner.log(level, message, fields);
    };
  };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => wrap(inner.child(fields), least),
  };
}
