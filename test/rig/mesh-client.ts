/** Clients of a proxy or a server: with an SVID or without, from any address of loopback, byte for byte. */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Credentials, CredentialSource } from './credentials.js';
import {
  ConnectionClosed,
  encodeRequest,
  httpConnection,
  type HttpAnswer,
  type HttpConnection,
  type HttpRequest,
} from './http1.js';

/** Who connects, and to where. */
export interface MeshPeer {
  readonly port: number;
  /** 127.0.0.1 unless given. */
  readonly address?: string;
  /** The SPIFFE ID of the client's SVID, or a certificate of its own; no client certificate without. */
  readonly source?: string | Credentials;
  /** Without TLS; then `source` must not be given. */
  readonly plaintext?: boolean;
  /** The client's own address, e.g. `127.1.2.3`. */
  readonly sourceIp?: string;
  readonly sni?: string;
  readonly alpn?: readonly string[];
}

/** What became of a request. Status 0: no answer, because the connection was refused, reset or closed, for `why`. */
export type MeshAnswer = HttpAnswer & { readonly why?: string };

export interface MeshClient {
  /** Sends one HTTP/1.1 request. Connections of one peer are used again: thousands of requests a second. */
  request(call: MeshPeer & HttpRequest): Promise<MeshAnswer>;
  /** Sends all, 8 at a time; the answers in their order. */
  requestAll(calls: readonly (MeshPeer & HttpRequest)[]): Promise<readonly MeshAnswer[]>;
  /** A connection for its own protocol, handshake done. The caller ends it. */
  connect(peer: MeshPeer): Promise<Socket>;
  /** Whether a listener that ends in `echo` lets the peer in: it sends some bytes on a new connection, and they come back. */
  echoes(peer: MeshPeer): Promise<boolean>;
  close(): void;
}

const LIMIT_MS = 15_000;
const AT_ONCE = 8;
const PING = 'ping of the rig\n';

/** A client whose SVIDs come from `credentials`. The server's certificate is not checked: who is let in is the question. */
export function newMeshClient(credentials: CredentialSource): MeshClient {
  const idle = new Map<string, HttpConnection[]>();

  async function open(peer: MeshPeer): Promise<Socket> {
    const { port, address = '127.0.0.1', source, sourceIp, sni, alpn } = peer;
    if (peer.plaintext === true && source !== undefined)
      throw new Error('a plaintext peer has no certificate');
    const to = { host: address, port, ...(sourceIp === undefined ? {} : { localAddress: sourceIp }) };
    const own = typeof source === 'string' ? await credentials.of(source) : source;
    return new Promise((resolve, reject) => {
      const ready = (): void => {
        socket.setTimeout(0);
        socket.off('error', reject);
        socket.setNoDelay(true);
        resolve(socket);
      };
      const socket: Socket =
        peer.plaintext === true
          ? connectTcp(to, ready)
          : connectTls(
              {
                ...to,
                ...own,
                rejectUnauthorized: false,
                ...(sni === undefined ? {} : { servername: sni }),
                ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }),
              },
              ready,
            );
      socket.setTimeout(LIMIT_MS, () => socket.destroy(new Error(`not connected within ${LIMIT_MS} ms`)));
      socket.on('error', reject);
    });
  }

  async function request(call: MeshPeer & HttpRequest): Promise<MeshAnswer> {
    const key = keyOf(call);
    const bytes = encodeRequest(call);
    const kept = idle.get(key) ?? [];
    idle.set(key, kept);
    for (;;) {
      let connection = kept.pop();
      while (connection?.isOpen() === false) connection = kept.pop();
      const isNew = connection === undefined;
      try {
        connection ??= httpConnection(await open(call));
        const answer = await connection.send(bytes, call.method === 'HEAD');
        if (connection.isOpen()) kept.push(connection);
        else connection.close();
        return answer;
      } catch (error) {
        // A kept connection may have been closed meanwhile: that says nothing about this request.
        if (!isNew && error instanceof ConnectionClosed && !error.began) continue;
        return { status: 0, headers: {}, body: '', why: whyOf(error) };
      }
    }
  }

  return {
    request,
    async requestAll(calls): Promise<readonly MeshAnswer[]> {
      const answers: MeshAnswer[] = [];
      const next = calls.entries();
      const work = async (): Promise<void> => {
        for (const [index, call] of next) answers[index] = await request(call);
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      return answers;
    },
    connect: open,
    async echoes(peer): Promise<boolean> {
      let socket: Socket;
      try {
        socket = await open(peer);
      } catch {
        return false;
      }
      return new Promise((resolve, reject) => {
        let received = '';
        socket.setTimeout(LIMIT_MS, () => reject(new Error(`no answer within ${LIMIT_MS} ms`)));
        socket.on('data', (chunk: Buffer) => {
          received += chunk.toString();
          if (received.length < PING.length) return;
          resolve(received === PING);
          socket.destroy();
        });
        socket.on('error', () => resolve(false));
        socket.on('close', () => resolve(false));
        socket.write(PING);
      });
    },
    close(): void {
      for (const connection of [...idle.values()].flat()) connection.close();
      idle.clear();
    },
  };
}

function keyOf({ port, address, source, plaintext, sourceIp, sni, alpn }: MeshPeer): string {
  const who = typeof source === 'string' ? source : source?.cert;
  return JSON.stringify([port, address, who, plaintext, sourceIp, sni, alpn]);
}

function whyOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === undefined ? message : `${code}: ${message}`;
}
