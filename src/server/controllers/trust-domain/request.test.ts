import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { readCaRequest } from './request.js';

describe('a request to change authorities', () => {
  it('is none without the annotation', () => {
    expect(readCaRequest(undefined)).toBeUndefined();
    expect(readCaRequest('  ')).toBeUndefined();
  });

  it('is read as it is written', () => {
    for (const request of [
      { action: 'rotate', nonce: '1' },
      { action: 'rotate', kind: 'jwt', nonce: 'a.b-c_d' },
      { action: 'prepare', kind: 'x509', nonce: '1' },
      { action: 'activate', kind: 'jwt', nonce: '1' },
      { action: 'taint', kind: 'x509', id: '0a1b', nonce: '1' },
      { action: 'revoke', kind: 'jwt', id: 'kid', nonce: '1' },
      { action: 'begin-anew', nonce: '1' },
    ])
      expect(readCaRequest(JSON.stringify(request))).toEqual(request);
  });

  it.each([
    ['{', 'no JSON object'],
    ['[]', 'no JSON object'],
    ['{"action":"rotate"}', 'nonce'],
    ['{"action":"rotate","nonce":"a b"}', 'nonce'],
    ['{"action":"rotate","nonce":1}', 'nonce'],
    ['{"action":"destroy","nonce":"1"}', 'action must be one of'],
    ['{"action":"rotate","kind":"pgp","nonce":"1"}', 'kind'],
    ['{"action":"prepare","nonce":"1"}', 'kind'],
    ['{"action":"taint","kind":"jwt","nonce":"1"}', 'id must be'],
    ['{"action":"rotate","id":"x","nonce":"1"}', 'only taint and revoke'],
    ['{"action":"begin-anew","kind":"jwt","nonce":"1"}', 'begin-anew has no kind'],
    ['{"action":"rotate","nonce":"1","force":true}', '"force" is no field'],
  ])('%s is refused: %s', (text, problem) => {
    expect(readCaRequest(text)).toMatchObject({ problem: expect.stringContaining(problem) });
  });

  it('has a nonce whatever it says, and the same text the same one: it is answered once', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        const read = readCaRequest(text);
        if (text.trim() === '') return read === undefined;
        return /^[A-Za-z0-9._-]{1,64}$/.test(read?.nonce ?? '') && readCaRequest(text)?.nonce === read?.nonce;
      }),
    );
  });
});
