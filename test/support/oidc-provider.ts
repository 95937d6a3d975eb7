import type { KeyObject } from 'node:crypto';
import { generateKeyPairSync, sign } from 'node:crypto';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';

/** A key pair that signs tokens, with its public half as an issuer publishes it. */
export interface TokenKey {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly algorithm: string;
  readonly jwk: Record<string, unknown>;
}

/** Makes a key that fits the algorithm. */
export function makeTokenKey(kid: string, algorithm = 'ES256', rsaBits = 2048): TokenKey {
  const curve = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }[algorithm];
  const pair =
    curve !== undefined
      ? generateKeyPairSync('ec', { namedCurve: curve })
      : /^Ed/.test(algorithm)
        ? generateKeyPairSync('ed25519')
        : generateKeyPairSync('rsa', { modulusLength: rsaBits });
  return {
    ...pair,
    algorithm,
    jwk: { ...pair.publicKey.export({ format: 'jwk' }), kid, use: 'sig', alg: algorithm },
  };
}

const part = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

/** A token; header and claims may be JSON text, to be wrong in ways that no object can. */
export function signToken(
  key: TokenKey,
  claims: unknown,
  header: Record<string, unknown> | string = {},
): string {
  const usual = { alg: key.algorithm, kid: key.jwk['kid'], typ: 'JWT' };
  const text = `${part(typeof header === 'string' ? header : { ...usual, ...header })}.${part(claims)}`;
  return `${text}.${signatureOf(key, text).toString('base64url')}`;
}

function signatureOf({ privateKey, algorithm }: TokenKey, text: string): Buffer {
  const bits = /\d{3}$/.exec(algorithm)?.[0];
  const pss = algorithm.startsWith('PS') ? { padding: 6, saltLength: Number(bits) / 8 } : {};
  return sign(bits === undefined ? null : `sha${bits}`, Buffer.from(text), {
    key: privateKey,
    dsaEncoding: 'ieee-p1363',
    ...pss,
  });
}

/** What the provider does with a request instead of answering it properly. */
export type Trouble = (response: ServerResponse, request: IncomingMessage) => void;

/** Ways in which a provider can fail. */
export const troubles = {
  /** Never says a word. */
  stall: () => undefined,
  /** Ends the connection in the middle of the body. */
  cut: (response) => {
    response.writeHead(200, { 'content-length': '1000' });
    response.write('{"keys":[', () => response.destroy());
  },
  /** Sends a little, and then nothing, for ever. */
  drip: (response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.write('{"keys":');
  },
  garbage: (response) => void response.end('<html>Welcome to the captive portal</html>'),
  notUtf8: (response) => void response.end(Buffer.from([0x7b, 0xff, 0xfe, 0x7d])),
  noKeySet: (response) => void response.end('{"keys":{}}'),
  oversize: (response) => void response.end(`{"keys":[],"x":"${'x'.repeat(256 * 1024)}"}`),
  /** Longer than a bound, and without an end. */
  endless: (response) => {
    response.on('error', () => undefined);
    const more = (): void => {
      if (!response.destroyed) response.write(' '.repeat(64 * 1024), more);
    };
    more();
  },
  unavailable: (response) => void response.writeHead(503).end(),
  compressed: (response) => void response.writeHead(200, { 'content-encoding': 'gzip' }).end('x'),
} satisfies Record<string, Trouble>;

/** Sends the client elsewhere. */
export function redirectTo(url: string): Trouble {
  return (response) => void response.writeHead(302, { location: url }).end();
}

/** A real OpenID provider on this machine: discovery and keys over HTTP or HTTPS. */
export class OidcProvider {
  readonly #server: Server;
  keys: TokenKey[] = [];
  /** Published beside `keys`, as they are. */
  otherKeys: unknown[] = [];
  cacheControl: string | undefined;
  /** Replaces the whole discovery document. */
  discovery: unknown;
  discoveryTrouble: Trouble | undefined;
  keysTrouble: Trouble | undefined;
  /** The paths that were asked for. */
  readonly requests: string[] = [];
  #scheme = 'http';
  #waiting: { readonly count: number; readonly resolve: () => void }[] = [];

  private constructor(tls?: { readonly key: string; readonly cert: string }) {
    const answer = (request: IncomingMessage, response: ServerResponse): void =>
      this.#answer(request, response);
    this.#server = tls === undefined ? createServer(answer) : createSecureServer(tls, answer);
    if (tls !== undefined) this.#scheme = 'https';
  }

  static async start(tls?: { readonly key: string; readonly cert: string }): Promise<OidcProvider> {
    const provider = new OidcProvider(tls);
    await new Promise<void>((resolve) => provider.#server.listen(0, '127.0.0.1', resolve));
    return provider;
  }

  get issuer(): string {
    const { port } = this.#server.address() as AddressInfo;
    return `${this.#scheme}://localhost:${port}`;
  }

  get keyRequests(): number {
    return this.requests.filter((path) => path === '/keys').length;
  }

  /** Resolves once this many requests have come. */
  asked(count: number): Promise<void> {
    if (this.requests.length >= count) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ count, resolve }));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? '';
    this.requests.push(path);
    this.#waiting = this.#waiting.filter(({ count, resolve }) => {
      if (this.requests.length < count) return true;
      resolve();
      return false;
    });
    const trouble = path === '/keys' ? this.keysTrouble : this.discoveryTrouble;
    if (trouble !== undefined) {
      trouble(response, request);
      return;
    }
    if (this.cacheControl !== undefined) response.setHeader('cache-control', this.cacheControl);
    if (path === '/keys')
      response.end(JSON.stringify({ keys: [...this.keys.map(({ jwk }) => jwk), ...this.otherKeys] }));
    else if (path === '/.well-known/openid-configuration')
      response.end(
        JSON.stringify(this.discovery ?? { issuer: this.issuer, jwks_uri: `${this.issuer}/keys` }),
      );
    else response.writeHead(404).end();
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
