import type { Writable } from 'node:stream';
import winston from 'winston';
import type { LogFields, Logger } from '../lib/logger.js';

/** How lines look: for people, or one JSON object each. */
export type LogFormat = 'text' | 'json';

/** Levels, from the least to the most said. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

// Field names that never belong in a log: a mistake in a call must not become a leak.
const SECRET_FIELD = /key(?!id|type)|token(?!problem)|secret|password|authorization|csr/i;
const REDACTED = '[redacted]';

const redact = winston.format((info) => {
  for (const name of Object.keys(info)) {
    if (SECRET_FIELD.test(name) && typeof info[name] === 'string') info[name] = REDACTED;
  }
  return info;
});

/** What needs no quotes in a line for people: all else could look like another field, or like the end of the line. */
const PLAIN = /^[^\s"=\p{C}]+$/u;

const text = winston.format.printf((info) => {
  const { level, message, timestamp, ...fields } = info;
  const rest = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(
      ([name, value]) =>
        ` ${name}=${typeof value === 'string' && PLAIN.test(value) ? value : JSON.stringify(value)}`,
    )
    .join('');
  return `${String(timestamp)} ${level.toUpperCase().padEnd(5)} ${String(message)}${rest}`;
});

const MESSAGE = Symbol.for('message');
/** What a terminal or a reader of lines could take for more than text, and JSON leaves as it is: C1 controls, marks of direction, … */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;

/** Whatever a value holds, a line is one line and shows what it holds; in JSON it still means the same. */
const printable = winston.format((info) => {
  const line = info[MESSAGE];
  if (typeof line === 'string')
    info[MESSAGE] = line.replaceAll(UNPRINTABLE, (found) =>
      Array.from({ length: found.length }, (_, at) => escaped(found.charCodeAt(at))).join(''),
    );
  return info;
});

function escaped(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, '0')}`;
}

/** The one writer of the log. Lines go to stderr unless said: stdout belongs to a command's answer. */
export function createLogger(options: { level: LogLevel; format: LogFormat; to?: Writable }): Logger {
  const { combine, timestamp, json } = winston.format;
  const root = winston.createLogger({
    level: options.level,
    format: combine(redact(), timestamp(), options.format === 'json' ? json() : text, printable()),
    transports: [transportTo(options.to)],
  });
  return wrap(root, options.level);
}

function transportTo(to: Writable | undefined): winston.transport {
  const { Console, Stream } = winston.transports;
  /* eslint-disable @typescript-eslint/no-unsafe-class-instance-assignment -- winston declares both as interfaces */
  return to === undefined ? new Console({ stderrLevels: [...LOG_LEVELS] }) : new Stream({ stream: to });
  /* eslint-enable @typescript-eslint/no-unsafe-class-instance-assignment */
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
