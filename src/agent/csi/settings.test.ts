import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { fileNameOf } from './file-name.js';
import { fileMode, parseVolumeSettings, VOLUME_ATTRIBUTES, VolumeSettingsError } from './settings.js';

const refused = (attributes: Record<string, string>): string => {
  try {
    parseVolumeSettings(attributes);
  } catch (error) {
    if (error instanceof VolumeSettingsError) return error.message;
    throw error;
  }
  throw new Error(`not refused: ${JSON.stringify(attributes)}`);
};

describe('the attributes of a volume', () => {
  it('may all be left out: then there are sockets alone', () => {
    expect(parseVolumeSettings({})).toEqual({
      socket: 'api.sock',
      files: [],
      names: {
        certificate: 'tls.crt',
        key: 'tls.key',
        ca: 'ca.crt',
        bundle: 'bundle.json',
        combined: 'tls.pem',
        pkcs12Keystore: 'keystore.p12',
        pkcs12Truststore: 'truststore.p12',
        jksKeystore: 'keystore.jks',
        jksTruststore: 'truststore.jks',
      },
      keystorePassword: 'changeit',
      jwtAudiences: [],
      hints: [],
    });
  });

  it('say all that a pod may want', () => {
    const settings = parseVolumeSettings({
      socket: 'spire-agent.sock',
      files: 'pkcs12, pem,pem',
      keyName: 'server.key',
      keystoreName: 'store.p12',
      keystorePassword: 'correct horse',
      jwtAudiences: 'https://db.example/x, vault',
      hint: 'web',
      hints: 'db,Überschrift',
      mode: '0440',
      keyMode: '400',
    });
    expect(settings).toMatchObject({
      socket: 'spire-agent.sock',
      files: ['pem', 'pkcs12'],
      names: { key: 'server.key', certificate: 'tls.crt', pkcs12Keystore: 'store.p12' },
      keystorePassword: 'correct horse',
      jwtAudiences: ['https://db.example/x', 'vault'],
      hint: 'web',
      hints: ['db', 'Überschrift'],
      mode: 0o440,
      keyMode: 0o400,
    });
    expect(parseVolumeSettings({ files: 'jks', hints: '*' }).hints).toBe('*');
  });

  it('that nobody knows are refused by name, with the nearest and the list', () => {
    expect(refused({ sokcet: 'x' })).toMatch(
      /attribute "sokcet" is not known: did you mean socket\? known are socket, files,/,
    );
    expect(refused({ constructor: 'x' })).toMatch(/attribute "constructor" is not known: known are/);
    expect(refused({ ['a'.repeat(100_000)]: '' }).length).toBeLessThan(500);
  });

  it.each<[Record<string, string>, RegExp]>([
    [{ socket: '../x' }, /socket is "\.\.\/x": give a file name/],
    [{ socket: '.hidden' }, /does not begin with "\."/],
    [{ socket: 'a'.repeat(41) }, /socket has 41 characters: use at most 40/],
    [{ socket: 'authz.sock' }, /socket names authz.sock, which is the socket of the application API/],
    [
      { files: 'pen' },
      /files has "pen", which is no form: did you mean pem\? use pem, combined, pkcs12, jks/,
    ],
    [{ files: 'pem,' }, /empty part: remove the comma/],
    [
      { files: 'pem', keyName: 'tls.crt' },
      /keyName names tls.crt, which is the name that certificateName gives/,
    ],
    [{ files: 'pem', certificateName: 'jwt', jwtAudiences: 'a' }, /certificateName names jwt/],
    [{ files: 'pem', hints: 'tls.key' }, /hints names tls.key/],
    [{ files: 'pkcs12,jks', keystoreName: 'x' }, /keystoreName would name two files/],
    [{ keyName: 'a/b' }, /keyName is "a\/b"/],
    [{ keystorePassword: 'short' }, /keystorePassword cannot be used: give 6 to 128/],
    [{ keystorePassword: 'pässword' }, /printable ASCII/],
    [
      { jwtAudiences: Array.from({ length: 17 }, (_, at) => `a${at}`).join(',') },
      /has 17 audiences: give at most 16/,
    ],
    [{ jwtAudiences: 'ä'.repeat(50) }, /must fit a file name of 255 bytes/],
    [{ jwtAudiences: 'a\nb' }, /has "a\\nb", with a control character/],
    [{ jwtAudiences: 'a\ud800' }, /control character/],
    [{ hints: '*,a', files: 'pem' }, /write \* alone/],
    [{ hints: 'a' }, /hints is set, but files is not/],
    [{ hint: 'x'.repeat(257) }, /must fit|at most 256/],
    [{ mode: '999' }, /mode is "999": write octal/],
    [{ mode: '0777' }, /mode is "0777": give bits of 0644/],
    [{ keyMode: '0200' }, /keyMode is "0200": give bits/],
    [{ mode: '4644' }, /mode is "4644"/],
  ])('%p is refused, and the message says how to mend it', (attributes, message) => {
    expect(refused(attributes)).toMatch(message);
  });

  it('have a length', () => {
    expect(refused({ hint: 'x'.repeat(20_001) })).toMatch(/longer than 20000 characters: shorten it/);
  });

  it('never put into a message what a terminal or a log would take for something else', () => {
    expect(refused({ 'x\u001b[31m\r\n\u202e': '' })).toMatch(/^[\x20-\x7e]+$/);
    expect(refused({ files: 'p\u2028\u{1f600}' })).toMatch(/^[\x20-\x7e]+$/);
    expect(refused({ keystorePassword: 'sésame' })).not.toContain('same');
  });

  it('give settings that mean what they say, or an error that names one of them, whatever is written', () => {
    const value = fc.oneof(
      fc.string(),
      fc.string({ unit: 'binary' }),
      fc.constantFrom('pem', 'pem,jks', '*', '0440', 'a,b', 'tls.key', 'authz.sock', '..', '.', ' '),
    );
    const attributes = fc.dictionary(
      fc.oneof(
        { weight: 8, arbitrary: fc.constantFrom(...Object.keys(VOLUME_ATTRIBUTES)) },
        { weight: 1, arbitrary: fc.string() },
      ),
      value,
      { maxKeys: 6 },
    );
    let taken = 0;
    fc.assert(
      fc.property(attributes, (given) => {
        let settings;
        try {
          settings = parseVolumeSettings(given);
        } catch (error) {
          if (!(error instanceof VolumeSettingsError)) throw error;
          expect(error.message).toMatch(/^volume attribute /);
          expect(error.message.length).toBeLessThan(1_000);
          return;
        }
        taken++;
        // Read again from its own JSON, it is the same: it is kept so.
        expect(JSON.parse(JSON.stringify(settings))).toEqual(settings);
        const { socket, names, jwtAudiences, hints, mode, keyMode } = settings;
        const paths = [
          socket,
          ...(Object.values(names) as string[]),
          ...[...jwtAudiences, ...(hints === '*' ? [] : hints)].map((text) => fileNameOf(text)),
        ];
        for (const path of paths) {
          expect(path).toMatch(/^[A-Za-z0-9_%-][A-Za-z0-9._%-]{0,254}$/);
        }
        for (const bits of [mode ?? 0o444, keyMode ?? 0o444]) expect(bits & ~0o644).toBe(0);
      }),
      { numRuns: 2_000 },
    );
    expect(taken).toBeGreaterThan(50);
  });
});

describe('the mode of a file', () => {
  it('lets the group read where there is one, and all otherwise, unless the pod says', () => {
    const none = parseVolumeSettings({});
    expect([fileMode(none, 7, false), fileMode(none, 7, true), fileMode(none, undefined, true)]).toEqual([
      0o440, 0o440, 0o444,
    ]);
    const some = parseVolumeSettings({ mode: '0644' });
    expect([fileMode(some, 7, false), fileMode(some, 7, true)]).toEqual([0o644, 0o644]);
    const both = parseVolumeSettings({ mode: '0644', keyMode: '0400' });
    expect([fileMode(both, undefined, false), fileMode(both, undefined, true)]).toEqual([0o644, 0o400]);
  });
});

describe('the file name of a text', () => {
  it('is its own for each text, and never leads elsewhere', () => {
    expect(fileNameOf('vault')).toBe('vault');
    expect(fileNameOf('https://db/x')).toBe('https%3A%2F%2Fdb%2Fx');
    expect([fileNameOf('.'), fileNameOf('..'), fileNameOf('..data')]).toEqual(['%2E', '%2E.', '%2E.data']);
    const text = fc.string({ unit: 'grapheme', minLength: 1 });
    fc.assert(
      fc.property(text, text, (one, other) => {
        expect(decodeURIComponent(fileNameOf(one))).toBe(one);
        expect(fileNameOf(one) === fileNameOf(other)).toBe(one === other);
      }),
    );
  });
});
