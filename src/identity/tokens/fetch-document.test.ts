import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { makeCertificate } from '../../../test/support/certificates.js';
import { FakeClock } from '../../../test/support/fake-clock.js';
import { makeTokenKey, OidcProvider, signToken, troubles } from '../../../test/support/oidc-provider.js';
import { silentLogger } from '../../lib/logger.js';
import { exportPkcs8, generateKeyPair } from '../pki/keys.js';
import { encodePem } from '../pki/pem.js';
import type { TrustAnchors } from './fetch-document.js';
import { fetchDocument } from './fetch-document.js';
import { readTokenIssuers } from './issuer-config.js';
import { createTokenValidator } from './validator.js';

const HOUR = 3_600_000;
const directory = mkdtempSync(join(tmpdir(), 'signet-fetch-'));
const never = new AbortController().signal;

let secure: OidcProvider;
let wrongName: OidcProvider;
let plain: OidcProvider;
let caPem: string;
let strangerPem: string;

beforeAll(async () => {
  // TLS looks at the machine's clock.
  const validity = { notBefore: Date.now() - HOUR, notAfter: Date.now() + HOUR };
  const ca = async (subject: string) =>
    makeCertificate({ subject, pair: await generateKeyPair('ec-p256'), ca: true, ...validity });
  const root = await ca('root');
  const server = async (dnsName: string) => {
    const pair = await generateKeyPair('ec-p256');
    const { der } = makeCertificate({
      subject: dnsName,
      pair,
      issuer: root,
      dnsNames: [dnsName],
      ...validity,
    });
    return OidcProvider.start({
      key: encodePem('PRIVATE KEY', exportPkcs8(pair.privateKey)),
      cert: encodePem('CERTIFICATE', der),
    });
  };
  secure = await server('localhost');
  wrongName = await server('elsewhere.example');
  plain = await OidcProvider.start();
  caPem = encodePem('CERTIFICATE', root.der);
  strangerPem = encodePem('CERTIFICATE', (await ca('stranger')).der);
});

afterAll(async () => {
  for (const provider of [secure, wrongName, plain]) await provider.stop();
  rmSync(directory, { recursive: true });
});

const get = (provider: OidcProvider, trust?: TrustAnchors, path = '/keys'): Promise<unknown> =>
  fetchDocument(`${provider.issuer}${path}`, {
    signal: never,
    maxBytes: 1000,
    ...(trust === undefined ? {} : { trust }),
  });

describe('fetching a document', () => {
  it('gives the body, and what Cache-Control says', async () => {
    expect(await get(plain)).toEqual({ body: Buffer.from('{"keys":[]}') });
    plain.cacheControl = 'max-age=7';
    expect(await get(plain)).toMatchObject({ cacheControl: 'max-age=7' });
  });

  it('trusts the authorities given, as PEM and as a file that is read anew each time', async () => {
    const path = join(directory, 'ca.pem');
    writeFileSync(path, strangerPem);
    await expect(get(secure, { kind: 'file', path })).rejects.toThrow(/certificate/);
    writeFileSync(path, caPem);
    await expect(get(secure, { kind: 'file', path })).resolves.toBeDefined();
    await expect(get(secure, { kind: 'pem', pem: caPem })).resolves.toBeDefined();
    await expect(get(secure, { kind: 'file', path: join(directory, 'none') })).rejects.toThrow(/ENOENT/);
  });

  it('trusts no stranger, no other name, and nobody but those given', async () => {
    await expect(get(secure)).rejects.toThrow(/certificate/);
    await expect(get(secure, { kind: 'pem', pem: strangerPem })).rejects.toThrow(/certificate/);
    await expect(get(wrongName, { kind: 'pem', pem: caPem })).rejects.toThrow(/does not match/);
  });

  it('refuses an answer as soon as it is longer than the bound', async () => {
    plain.keysTrouble = troubles.endless;
    await expect(get(plain)).rejects.toThrow('longer than 1000 bytes');
    plain.keysTrouble = (response) => void response.end('x'.repeat(1001));
    await expect(get(plain)).rejects.toThrow('longer than 1000 bytes');
    plain.keysTrouble = (response) => void response.end('x'.repeat(1000));
    await expect(get(plain)).resolves.toMatchObject({ body: { length: 1000 } });
    plain.keysTrouble = undefined;
  });

  it('refuses headers without end', async () => {
    plain.keysTrouble = (response) => void response.setHeader('x-long', 'x'.repeat(100_000)).end();
    await expect(get(plain)).rejects.toThrow(/Header/);
    plain.keysTrouble = undefined;
  });

  it('ends at once when its signal says so, before and within the answer', async () => {
    for (const trouble of [troubles.stall, troubles.drip]) {
      plain.keysTrouble = trouble;
      const abort = new AbortController();
      const count = plain.requests.length;
      const fetching = fetchDocument(`${plain.issuer}/keys`, { signal: abort.signal, maxBytes: 1000 });
      await plain.asked(count + 1);
      abort.abort(new Error('enough'));
      await expect(fetching).rejects.toThrow(/abort/);
    }
    plain.keysTrouble = undefined;
  });

  it('follows no redirect', async () => {
    const { requests } = wrongName;
    plain.keysTrouble = (response) =>
      void response.writeHead(307, { location: `${wrongName.issuer}/keys` }).end();
    const before = requests.length;
    await expect(get(plain)).rejects.toThrow('redirects (HTTP 307)');
    expect(requests.length).toBe(before);
    plain.keysTrouble = undefined;
  });
});

it('a token of an issuer behind a private CA is valid, over HTTPS from discovery to key', async () => {
  const key = makeTokenKey('a');
  secure.keys = [key];
  const clock = new FakeClock();
  const tokens = createTokenValidator({
    issuers: readTokenIssuers([{ issuer: secure.issuer, audiences: ['payments'], caPem }]),
    ...{ clock, fetch: fetchDocument, logger: silentLogger },
  });
  const exp = clock.now() / 1000 + 60;
  const token = signToken(key, { iss: secure.issuer, sub: 'alice', aud: 'payments', exp });
  expect(await tokens.validate(token)).toMatchObject({ ok: true });
  tokens.close();
});
