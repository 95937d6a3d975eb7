import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { PkiError } from './errors.js';
import { decodePem, encodePem } from './pem.js';

describe('PEM (RFC 7468)', () => {
  it('gives back what was written', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { minLength: 1, maxLength: 4 }),
        (list) => {
          const text = list.map((der) => encodePem('CERTIFICATE', der)).join('');
          expect(decodePem(text, 'CERTIFICATE').map((der) => [...der])).toEqual(list.map((der) => [...der]));
          expect(text.split('\n').every((line) => line.length <= 64)).toBe(true);
        },
      ),
    );
  });

  it('takes only blocks with the label, and skips text between', () => {
    const text = `# my key\r\n${encodePem('PRIVATE KEY', Uint8Array.of(1))}\nnotes\n${encodePem('CERTIFICATE', Uint8Array.of(2))}`;
    expect(decodePem(text.replaceAll('\n', '\r\n'), 'CERTIFICATE').map((der) => [...der])).toEqual([[2]]);
  });

  it.each([
    ['nothing', ''],
    ['no such label', encodePem('PRIVATE KEY', Uint8Array.of(1))],
    ['a block that is not closed', '-----BEGIN CERTIFICATE-----\nAAAA\n'],
    [
      'a block inside another',
      '-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n',
    ],
    ['another label at the end', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END KEY-----\n'],
    ['an end without a beginning', '-----END CERTIFICATE-----\n'],
    ['what is not base64', '-----BEGIN CERTIFICATE-----\n****\n-----END CERTIFICATE-----\n'],
    ['base64 of a wrong length', '-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n'],
    ['an empty block', '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n'],
    [
      'headers, as old encrypted keys have',
      '-----BEGIN CERTIFICATE-----\nProc-Type: 4\n\nAAAA\n-----END CERTIFICATE-----\n',
    ],
    ['more than a megabyte', ' '.repeat(1024 * 1024 + 1)],
  ])('refuses %s', (_, text) => {
    expect(() => decodePem(text, 'CERTIFICATE')).toThrow(PkiError);
  });

  it('refuses a label that would break the frame', () => {
    expect(() => encodePem('A-----\n', Uint8Array.of(1))).toThrow(PkiError);
  });
});
