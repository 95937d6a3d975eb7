import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { PassThrough } from 'node:stream';
import type { Logger } from '../lib/logger.js';
import { createLogger, type LogFormat } from './logging.js';

/** What is written while `act` logs. */
function written(format: LogFormat, act: (logger: Logger) => void): string {
  const to = new PassThrough();
  act(createLogger({ level: 'info', format, to }));
  const bytes = to.read() as Buffer | null;
  return bytes?.toString() ?? '';
}

/** Any text, and often what could end a line, begin a field, or move a terminal's cursor. */
const hostile = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({
    unit: fc.constantFrom(...Array.from('a" =\\\n\r\t\u001b\u007f\u009b\u2028\u202e\u2066\ufeff')),
    maxLength: 30,
  }),
);

describe('a line of the log', () => {
  it('is one line of plain text in which a value shows itself, whatever it is', () => {
    fc.assert(
      fc.property(fc.constantFrom<LogFormat>('text', 'json'), hostile, (format, value) => {
        const out = written(format, (logger) => logger.warn('a call failed', { reason: value, last: 'x' }));
        expect(out.endsWith('\n')).toBe(true);
        // eslint-disable-next-line no-control-regex -- these are what must not be there
        expect(out.slice(0, -1)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff]/);
        if (format === 'json') {
          expect(JSON.parse(out)).toMatchObject({ level: 'warn', message: 'a call failed', last: 'x' });
          expect((JSON.parse(out) as { reason: string }).reason).toBe(value);
          return;
        }
        // Between the fields stands what reads as one value: bare, or one JSON text.
        const shown = /^\S+ WARN {2}a call failed reason=(.*) last=x$/s.exec(out.slice(0, -1))?.[1] ?? '';
        if (shown.startsWith('"')) expect(JSON.parse(shown)).toBe(value);
        else expect(shown).toBe(value);
      }),
    );
  });

  it('has no value in it whose name says that it is a secret, and has what only sounds like one', () => {
    const fields = { token: 'a', privateKey: 'a', authorization: 'a', clientSecret: 'a', csr: 'a' };
    const out = written('json', (logger) =>
      logger.child({ password: 'a' }).info('x', { ...fields, tokenProblem: 'b', keyId: 'b', keyType: 'b' }),
    );
    const line = JSON.parse(out) as Readonly<Record<string, string>>;
    for (const name of [...Object.keys(fields), 'password']) expect(line[name]).toBe('[redacted]');
    for (const name of ['tokenProblem', 'keyId', 'keyType']) expect(line[name]).toBe('b');
  });

  it('is not written below the level, and carries the fields of its part', () => {
    const out = written('text', (logger) => {
      const part = logger.child({ component: 'agent' });
      part.debug('nothing');
      part.error('broken', { code: 'X', gone: undefined, names: ['a b'] });
    });
    expect(out).toMatch(/^\S+Z ERROR broken component=agent code=X names=\["a b"\]\n$/);
  });
});
