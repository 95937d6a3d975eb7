import { request as send, type IncomingHttpHeaders, type RequestOptions } from 'node:http';
import { request as sendSecure, type RequestOptions as SecureOptions } from 'node:https';
import type { Socket } from 'node:net';

/** What came back. */
export interface HttpReply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** Of a JSON body; undefined for every other. */
  readonly json: unknown;
}

/** What is sent: `json` with its content type, or `body` as it is. */
export interface HttpSent {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly body?: string | Buffer;
}

/** One request over a connection of its own: to a unix socket (`socketPath`), or over TLS where a certificate is given. */
export function ask(
  to: RequestOptions & SecureOptions,
  path: string,
  { method, headers = {}, json, body }: HttpSent = {},
): Promise<HttpReply> {
  const bytes = json === undefined ? body : JSON.stringify(json);
  return new Promise((resolve, reject) => {
    const options = {
      agent: false,
      path,
      method: method ?? (bytes === undefined ? 'GET' : 'POST'),
      ...to,
      headers: { ...(json === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    };
    const request = to.cert === undefined ? send(options) : sendSecure(options);
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () => {
        const text = Buffer.concat(chunks).toString();
        const isJson = response.headers['content-type'] === 'application/json';
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: isJson ? (JSON.parse(text) as unknown) : undefined,
        });
      });
    });
    request.once('error', reject);
    request.end(bytes);
  });
}

/** Everything that a socket gives until it is closed. */
export function readAll(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve) => socket.once('close', () => resolve(Buffer.concat(chunks).toString())));
}
