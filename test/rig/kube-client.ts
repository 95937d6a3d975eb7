/** As little as can ask an API server something: the code under test has its own client, and kubectl takes long to start. */
import { Agent, request as httpsRequest } from 'node:https';

/** Who asks: an authority for the server, and a client certificate or a bearer token, PEM. */
export interface KubeCredentials {
  readonly ca: string;
  readonly cert?: string;
  readonly key?: string;
  readonly token?: string;
}

export interface KubeAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** What its JSON says; the text where it is none. */
  readonly body: unknown;
}

export interface KubeClient {
  /** Asks once. A body is sent as JSON; for PATCH `type` says of which kind, a merge unless said. */
  request(method: string, path: string, body?: unknown, type?: string): Promise<KubeAnswer>;
  close(): void;
}

/** A client with connections of its own. */
export function newKubeClient(server: string, credentials: KubeCredentials): KubeClient {
  const { token, ...tls } = credentials;
  const agent = new Agent({ ...tls, keepAlive: true });
  return {
    request(method, path, body, type): Promise<KubeAnswer> {
      const content =
        type ?? (method === 'PATCH' ? 'application/merge-patch+json' : 'application/json; charset=utf-8');
      return new Promise((resolve, reject) => {
        const call = httpsRequest(`${server}${path}`, {
          method,
          agent,
          timeout: 30_000,
          headers: {
            accept: 'application/json',
            ...(body === undefined ? {} : { 'content-type': content }),
            ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          },
        });
        call.on('timeout', () => call.destroy(new Error('no answer within 30 s')));
        call.on('error', reject);
        call.on('response', (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
          response.on('error', reject);
          response.on('end', () =>
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              body: jsonOrText(text),
            }),
          );
        });
        call.end(body === undefined ? undefined : JSON.stringify(body));
      });
    },
    close: () => agent.destroy(),
  };
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
