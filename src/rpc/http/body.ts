import type { IncomingMessage } from 'node:http';
import { readStrictJson, type JsonObject } from '../../lib/strict-json.js';
import { StatusError, type StatusName } from '../service.js';
import type { BodyAccount } from './body-budget.js';
import type { HttpLimits } from './limits.js';

/** Why a request is answered without a look at what it asks. */
export class HttpRefusal extends StatusError {
  /** The status of the answer. */
  readonly http: number;

  constructor(http: number, message: string) {
    super(NAMES[http] ?? 'InvalidArgument', message);
    this.http = http;
  }
}

/** What the log calls them. */
const NAMES: Readonly<Partial<Record<number, StatusName>>> = {
  404: 'NotFound',
  405: 'Unimplemented',
  413: 'ResourceExhausted',
  503: 'Unavailable',
};

const JSON_TYPE = /^application\/json(?: *; *charset="?utf-8"?)? *$/i;

/** Reads the JSON object of a request. Rejects with HttpRefusal. */
export async function readBody(
  request: IncomingMessage,
  limits: HttpLimits,
  account: BodyAccount,
): Promise<JsonObject> {
  const type = request.headers['content-type'];
  if (type === undefined || !JSON_TYPE.test(type))
    throw new HttpRefusal(400, 'Content-Type must be application/json');
  if ((request.headers['content-encoding'] ?? 'identity') !== 'identity')
    throw new HttpRefusal(400, 'Content-Encoding is not understood: send the body as it is');
  const tooLong = new HttpRefusal(413, `the body is longer than ${limits.maxBodyBytes} bytes`);
  if (Number(request.headers['content-length'] ?? 0) > limits.maxBodyBytes) throw tooLong;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limits.maxBodyBytes) throw tooLong;
    if (!account.take(chunk.length)) throw new HttpRefusal(503, 'too much is being sent; try again');
    chunks.push(chunk);
  }
  if (size === 0) throw new HttpRefusal(400, 'the body is empty: send a JSON object');
  const reading = readStrictJson(Buffer.concat(chunks), {
    maxDepth: limits.maxJsonDepth,
    maxValues: limits.maxJsonValues,
  });
  if ('problem' in reading) throw new HttpRefusal(400, `the body ${reading.problem}`);
  return reading.object;
}
