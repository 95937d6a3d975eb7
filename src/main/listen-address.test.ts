import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { formatListenAddress, parseListenAddress } from './listen-address.js';

describe('an address to listen at', () => {
  it('is an IP address and a port, and comes back as it was written', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.integer({ min: 0, max: 65_535 }), (address, port) => {
        const written = formatListenAddress({ address, port });
        expect(parseListenAddress(written)).toEqual({ address, port });
      }),
    );
  });

  it.each([
    '',
    '9191',
    ':9191',
    'localhost:9191',
    '127.0.0.1',
    '127.0.0.1:',
    '127.0.0.1:65536',
    '256.0.0.1:1',
  ])('is not %j', (text) => {
    expect(() => parseListenAddress(text)).toThrow(
      expect.objectContaining({
        code: 'ListenAddressInvalid',
        message: expect.stringContaining('127.0.0.1:9191'),
      }),
    );
  });

  it.each(['::1:9191', '[127.0.0.1]:9191', '[::1]', '127.0.0.1:9191 ', 'tcp://127.0.0.1:1'])(
    'is not %j',
    (text) => {
      expect(() => parseListenAddress(text)).toThrow(
        expect.objectContaining({ code: 'ListenAddressInvalid' }),
      );
    },
  );
});
