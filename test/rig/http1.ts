import type { Socket } from 'node:net';

/** An HTTP/1.1 answer; of headers with one name, the last. */
export interface HttpAnswer {
  readonly status: number;
  /** By name in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A request as its bytes will be: nothing is normalized, nothing refused. */
export interface HttpRequest {
  /** GET unless given. */
  readonly method?: string;
  /** The request target, with the query; `/` unless given. */
  readonly path?: string;
  /** `localhost` unless given. */
  readonly host?: string;
  readonly headers?: readonly (readonly [name: string, value: string])[];
  readonly body?: string;
}

/** The bytes of a request. */
export function encodeRequest({
  method = 'GET',
  path = '/',
  host = 'localhost',
  headers = [],
  body,
}: HttpRequest): Buffer {
  const length = body === undefined ? [] : [['content-length', String(Buffer.byteLength(body))] as const];
  const lines = [['host', host] as const, ...headers, ...length].map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body ?? ''}`, 'utf8');
}

/** One connection that carries one request at a time, kept open between them. */
export interface HttpConnection {
  /** True until the other end closes it, or an answer says that it will. */
  isOpen(): boolean;
  /** Throws ConnectionClosed when it ends without a whole answer. */
  send(request: Buffer, isHead: boolean): Promise<HttpAnswer>;
  close(): void;
}

/** The connection ended; `began` says whether a part of the answer had come. */
export class ConnectionClosed extends Error {
  readonly began: boolean;

  constructor(why: string, began: boolean) {
    super(why);
    this.began = began;
  }
}

/** Takes over a connected socket. */
export function httpConnection(socket: Socket): HttpConnection {
  let received = '';
  let ended: string | undefined;
  let waiting: (() => void) | undefined;
  socket.setEncoding('latin1');
  socket.on('data', (text: string) => {
    received += text;
    waiting?.();
  });
  const over = (why: string): void => {
    ended ??= why;
    waiting?.();
  };
  socket.on('error', (error: NodeJS.ErrnoException) => over(error.code ?? error.message));
  socket.on('close', () => over('closed'));
  return {
    isOpen: () => ended === undefined,
    send: (request, isHead) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const parsed = parseAnswer(received, isHead, ended !== undefined);
          if (parsed !== undefined) {
            waiting = undefined;
            received = received.slice(parsed.length);
            if (parsed.answer.headers['connection']?.toLowerCase() === 'close') over('told to close');
            resolve(parsed.answer);
          } else if (ended !== undefined) {
            waiting = undefined;
            reject(new ConnectionClosed(ended, received !== ''));
          }
        };
        waiting = look;
        socket.write(request);
        look();
      }),
    close: () => socket.destroy(),
  };
}

/** The first whole answer in `text`, and how long it is there. */
function parseAnswer(
  text: string,
  isHead: boolean,
  isLast: boolean,
): { readonly answer: HttpAnswer; readonly length: number } | undefined {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [first = '', ...lines] = text.slice(0, end).split('\r\n');
  const headers = Object.fromEntries(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const status = Number(first.split(' ')[1]);
  const start = end + 4;
  const answer = (body: string, length: number): { answer: HttpAnswer; length: number } => ({
    answer: { status, headers, body: Buffer.from(body, 'latin1').toString('utf8') },
    length,
  });
  if (isHead || status === 204 || status === 304) return answer('', start);
  if (headers['transfer-encoding'] === 'chunked') {
    const chunks = parseChunks(text, start);
    return chunks === undefined ? undefined : answer(chunks.body, chunks.end);
  }
  const declared = headers['content-length'];
  if (declared === undefined) return isLast ? answer(text.slice(start), text.length) : undefined;
  const stop = start + Number(declared);
  return text.length < stop ? undefined : answer(text.slice(start, stop), stop);
}

function parseChunks(text: string, start: number): { body: string; end: number } | undefined {
  let body = '';
  for (let at = start; ;) {
    const line = text.indexOf('\r\n', at);
    if (line < 0) return undefined;
    const size = parseInt(text.slice(at, line), 16);
    const end = line + 2 + size + 2; // no trailers are expected
    if (text.length < end) return undefined;
    if (size === 0) return { body, end };
    body += text.slice(line + 2, line + 2 + size);
    at = end;
  }
}
