import { readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';

/** Whom TLS trusts instead of the system's authorities: PEM, or a file of it that is read anew each time. */
export type TrustAnchors =
  { readonly kind: 'pem'; readonly pem: string } | { readonly kind: 'file'; readonly path: string };

export interface FetchOptions {
  /** Ends the request at once, whatever it waits for. */
  readonly signal: AbortSignal;
  /** A longer body is refused while it comes. */
  readonly maxBytes: number;
  readonly trust?: TrustAnchors;
}

export interface FetchedDocument {
  readonly body: Uint8Array;
  /** The header Cache-Control, as it came. */
  readonly cacheControl?: string;
}

/**
 * Gets a document by HTTP. Rejects with an error whose message says why and can be shown: anything but status 200, a
 * body that is too long or cut off, no connection, no trust. Rejects at once when the signal is aborted.
 */
export type FetchDocument = (url: string, options: FetchOptions) => Promise<FetchedDocument>;

/**
 * {@link FetchDocument} on Node's own client. Follows no redirect: a document that says whom to trust is read from where
 * the configuration says, and from nowhere else. Each request has a connection of its own, since there is one in minutes.
 */
export const fetchDocument: FetchDocument = async (url, options) => {
  const response = await open(url, options);
  try {
    return await readBody(response, options.maxBytes);
  } finally {
    response.destroy();
  }
};

async function open(url: string, { signal, trust }: FetchOptions): Promise<IncomingMessage> {
  const ca = trust?.kind === 'file' ? await readFile(trust.path, { encoding: 'utf8', signal }) : trust?.pem;
  // Loaded when first used: most agents have no token issuer whose keys are fetched.
  const { request } = await (new URL(url).protocol === 'https:' ? import('node:https') : import('node:http'));
  return new Promise((resolve, reject) => {
    const sent = request(url, {
      agent: false,
      signal,
      // Whatever NODE_TLS_REJECT_UNAUTHORIZED says.
      rejectUnauthorized: true,
      // No compression: the size that is bounded is the size that is read.
      headers: { accept: 'application/json, application/jwk-set+json', 'accept-encoding': 'identity' },
      ...(ca === undefined ? {} : { ca }),
    });
    sent.on('response', resolve);
    sent.on('error', reject);
    sent.end();
  });
}

async function readBody(response: IncomingMessage, maxBytes: number): Promise<FetchedDocument> {
  const { statusCode = 0, headers } = response;
  if (statusCode >= 300 && statusCode < 400)
    throw new Error(
      `the server redirects (HTTP ${statusCode}), which is not followed; configure the final URL`,
    );
  if (statusCode !== 200) throw new Error(`the server answers HTTP ${statusCode}`);
  if ((headers['content-encoding'] ?? 'identity') !== 'identity')
    throw new Error('the server compresses, though it was asked not to');
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new Error(`the answer is longer than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  const cacheControl = headers['cache-control'];
  return { body: Buffer.concat(chunks), ...(cacheControl === undefined ? {} : { cacheControl }) };
}
