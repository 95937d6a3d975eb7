import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { greet } from './authority/greet.js';
import type { RewritingSocket } from './authority/rewriting-socket.js';
import {
  endConnections,
  nameConnection,
  type Connection,
  type ConnectionPool,
  type Share,
} from './connections.js';
import type { RpcLimits } from './limits.js';
import { PeerCredentialsError, type HeldPeerCredentials, type PeerCredentialsReader } from './peer/reader.js';
import { Refusals } from './refusals.js';
import { StatusError } from './service.js';
import type { SocketFile } from './socket-file.js';
import { listenAt } from './socket-file.js';

export interface ListenUnixOptions {
  /** Absolute path of the socket file. */
  readonly path: string;
  /** Permission bits of the socket file. */
  readonly mode: number;
  /** Permission bits of directories made on the way; 0755 unless said. */
  readonly directoryMode?: number;
  /**
   * Takes the place of another socket, also of one that answers, without a moment in which there is none; and leaves the
   * file when closed, for the next to do the same. Whoever made the directory removes it. False unless said.
   */
  readonly takeOver?: boolean;
  /** Becomes `Peer.listener`. */
  readonly name: string;
  /** Whether `Peer.credentials` is filled in. A peer that the kernel does not vouch for is then refused. */
  readonly peerCredentials: boolean;
  /**
   * Lets in whom the kernel cannot name as well, with `Peer.unknown`, so that handlers may say why they refuse. False unless
   * said.
   */
  readonly tellUnknown?: boolean;
  /** Only this user's processes are let in, wherever they run, as the kernel says. Everybody unless said. */
  readonly callerUid?: number;
  /** At most so many connections; `maxConnectionsPerListener` unless said. */
  readonly maxConnections?: number;
}

/** One socket that is open. */
export interface RpcListener {
  readonly path: string;
  readonly name: string;
  /** Open connections. */
  readonly connections: number;
  /** Whether the path leads here: not once another process has taken it over. */
  isCurrent(): Promise<boolean>;
  /**
   * Stops listening, ends its calls with `Unavailable`, closes its connections, removes the socket file unless it is one
   * to be taken over.
   */
  close(): Promise<void>;
}

/** What a listener needs of its server. */
export interface ListenerParts {
  readonly options: ListenUnixOptions;
  readonly maxConnections: number;
  readonly pool: ConnectionPool;
  /** There where the options ask for credentials or a user. */
  readonly reader: PeerCredentialsReader | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Hands an accepted connection to the HTTP/2 server. */
  readonly inject: (socket: Socket) => void;
  /** The same for one whose client says an authority that Node refuses. */
  readonly injectRewritten: (stream: RewritingSocket, connectionId: string) => void;
  readonly limits: Pick<RpcLimits, 'firstCallMs' | 'maxConnectionsPerProcess'>;
  /** The SETTINGS frame for clients that wait for it. */
  readonly settings: Buffer;
  readonly onClose: () => void;
}

/** What the kernel says of a peer. */
interface Answer {
  readonly credentials?: HeldPeerCredentials;
  readonly unknown?: string;
}

/** A unix socket whose connections are counted, vouched for by the kernel, and handed on. */
export class UnixListener implements RpcListener {
  readonly #parts: ListenerParts;
  readonly #server: Server;
  readonly #share: Share;
  #file: SocketFile | undefined;
  #accepting = false;
  #closed: Promise<void> | undefined;
  /** Connections of each process, where the kernel says whose they are. */
  readonly #byProcess = new Map<number, number>();
  /** Its own: another listener may have the same name. */
  readonly #connections = new Set<Connection>();
  /** Connections before their first call. */
  readonly #greeting = new Set<Socket>();
  readonly #refusals: Refusals;

  constructor(parts: ListenerParts) {
    this.#parts = parts;
    this.#share = { name: parts.options.name, max: parts.maxConnections, count: 0 };
    this.#refusals = new Refusals(parts.clock, parts.logger);
    this.#server = createServer((socket) => this.#accept(socket));
  }

  get path(): string {
    return this.#parts.options.path;
  }

  get name(): string {
    return this.#parts.options.name;
  }

  get connections(): number {
    return this.#share.count;
  }

  async isCurrent(): Promise<boolean> {
    return (await this.#file?.isCurrent()) ?? false;
  }

  async open(random: Random): Promise<void> {
    this.#file = await listenAt(this.#server, this.#parts.options, random);
    this.#server.on('error', (error) =>
      this.#parts.logger.error('a listener failed', { error: error.message }),
    );
    this.#accepting = true;
  }

  /** New connections are closed at once from now on, and those that have not made a call. */
  refuse(): void {
    this.#accepting = false;
    for (const socket of this.#greeting) socket.destroy();
  }

  /** Calls may end by themselves; the server tells the clients, and closes. */
  drain(): void {
    this.refuse();
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.refuse();
    // Before the socket stops to answer, so that nobody takes the file for a dead process's meanwhile.
    await this.#file?.remove();
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const reason = new StatusError('Unavailable', 'the server is closing this socket; try again');
    await endConnections([...this.#connections], reason);
    await stopped;
    this.#parts.onClose();
  }

  #accept(socket: Socket): void {
    const { pool, logger } = this.#parts;
    socket.on('error', (error) => logger.debug('a connection broke', { error: error.message }));
    if (!this.#accepting || !pool.enter(this.#share)) {
      this.#refuse(socket, this.#accepting ? 'too many connections' : 'not open');
      return;
    }
    socket.once('close', () => pool.leave(this.#share));
    let asked: Answer;
    try {
      asked = this.#askKernel(socket);
    } catch (error) {
      this.#refuse(socket, error instanceof Error ? error.message : String(error));
      return;
    }
    if (!this.#enterProcess(socket, asked)) return;
    const connection: Connection = {
      peer: {
        listener: this.name,
        connectionId: pool.nextId(),
        ...asked,
      },
      calls: new Set(),
      socket,
    };
    pool.add(connection);
    this.#connections.add(connection);
    socket.once('close', () => this.#connections.delete(connection));
    nameConnection(socket, connection.peer.connectionId);
    this.#greet(socket, connection.peer.connectionId);
  }

  /** What the kernel says of the peer. Throws PeerCredentialsError when nobody is let in for it. */
  #askKernel(socket: Socket): Answer {
    const { options, reader } = this.#parts;
    this.#checkUser(socket);
    if (!options.peerCredentials || reader === undefined) return {};
    try {
      return { credentials: reader.read(socket) };
    } catch (error) {
      const isUnknown = error instanceof PeerCredentialsError && error.code === 'PeerUnknown';
      if (!isUnknown || options.tellUnknown !== true) throw error;
      return { unknown: error.message };
    }
  }

  #checkUser(socket: Socket): void {
    const { callerUid } = this.#parts.options;
    if (callerUid === undefined) return;
    const uid = this.#parts.reader?.readUser(socket);
    if (uid !== callerUid)
      throw new StatusError('PermissionDenied', `a process of user ${uid ?? 'unknown'}, not ${callerUid}`);
  }

  /** Takes one of the places of a process until the connection closes, or closes it. Those without a name share places. */
  #enterProcess(socket: Socket, { credentials, unknown }: Answer): boolean {
    if (credentials === undefined && unknown === undefined) return true;
    const pid = credentials?.pid ?? 0;
    const count = (this.#byProcess.get(pid) ?? 0) + 1;
    this.#byProcess.set(pid, count);
    socket.once('close', () => {
      this.#leaveProcess(pid);
      credentials?.close();
    });
    if (count <= this.#parts.limits.maxConnectionsPerProcess) return true;
    this.#refuse(socket, `too many connections of process ${pid}`);
    return false;
  }

  #leaveProcess(pid: number): void {
    const count = (this.#byProcess.get(pid) ?? 0) - 1;
    if (count > 0) this.#byProcess.set(pid, count);
    else this.#byProcess.delete(pid);
  }

  #greet(socket: Socket, connectionId: string): void {
    const { clock, limits, settings, inject, injectRewritten } = this.#parts;
    const limit = clock.after(limits.firstCallMs, () => socket.destroy());
    const done = (): void => {
      limit.cancel();
      this.#greeting.delete(socket);
    };
    this.#greeting.add(socket);
    socket.once('close', done);
    greet(socket, settings, {
      plain: (): void => {
        done();
        inject(socket);
      },
      rewritten: (stream): void => {
        done();
        injectRewritten(stream, connectionId);
      },
    });
  }

  #refuse(socket: Socket, reason: string): void {
    socket.destroy();
    this.#refusals.add(reason, this.#share.count);
  }
}
