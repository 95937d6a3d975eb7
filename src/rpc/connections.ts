import type { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import type { RpcLimits } from './limits.js';
import type { Peer, StatusError } from './service.js';

/** A call that runs, as its connection sees it. */
export interface RunningCall {
  /** Ends the call with this status, and aborts its signal. */
  abort(reason: StatusError): void;
}

/** One connection and the calls on it. */
export interface Connection {
  readonly peer: Peer;
  readonly calls: Set<RunningCall>;
  readonly socket: Socket;
}

/** How many connections a listener has; shared by the listener and the pool. */
export interface Share {
  readonly name: string;
  readonly max: number;
  count: number;
}

/**
 * All connections of a server, and who may have how many. A listener has a bound of its own, and a small part that
 * nobody else can use up: one pod that opens connections without end locks out neither its neighbours nor new pods.
 */
export class ConnectionPool {
  readonly #limits: Pick<RpcLimits, 'maxConnections' | 'reservedConnectionsPerListener'>;
  readonly #byAddress = new Map<string, Connection>();
  #next = 1;
  #total = 0;

  constructor(limits: Pick<RpcLimits, 'maxConnections' | 'reservedConnectionsPerListener'>) {
    this.#limits = limits;
  }

  /** Takes a place, or says that there is none. Every place taken must be given back with {@link leave}. */
  enter(share: Share): boolean {
    if (share.count >= share.max) return false;
    if (
      this.#total >= this.#limits.maxConnections &&
      share.count >= this.#limits.reservedConnectionsPerListener
    )
      return false;
    share.count++;
    this.#total++;
    return true;
  }

  leave(share: Share): void {
    share.count--;
    this.#total--;
  }

  /** A name that no other connection of this server has or had. */
  nextId(): string {
    return `c${this.#next++}`;
  }

  /** Makes the connection findable until its socket closes. */
  add(connection: Connection): void {
    this.#byAddress.set(connection.peer.connectionId, connection);
    connection.socket.once('close', () => this.#byAddress.delete(connection.peer.connectionId));
  }

  /** The connection that was given this ID, while it is open. */
  get(connectionId: string): Connection | undefined {
    return this.#byAddress.get(connectionId);
  }

  /** Open connections, of the listeners with this name or all. */
  *of(listener?: string): Iterable<Connection> {
    for (const connection of this.#byAddress.values())
      if (listener === undefined || connection.peer.listener === listener) yield connection;
  }

  get size(): number {
    return this.#total;
  }
}

/**
 * Gives the connection the address that the library hands to handlers as their peer. It is ours alone: nothing that the
 * client sends gets near it.
 */
export function nameConnection(socket: Socket, connectionId: string): void {
  Object.defineProperty(socket, 'remoteAddress', { value: connectionId });
  // The library would add it to the address.
  Object.defineProperty(socket, 'remotePort', { value: undefined });
}

/** Ends the calls of these connections with a status, then closes them. Resolves when they are closed. */
export async function endConnections(connections: readonly Connection[], reason: StatusError): Promise<void> {
  for (const { calls } of connections) for (const call of [...calls]) call.abort(reason);
  // The statuses are written within these turns as far as the clients read; what the kernel has, it delivers.
  if (connections.length > 0) for (let left = 4; left > 0; left--) await turn();
  await Promise.all(
    connections.map(async ({ socket }) => {
      if (socket.closed) return;
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.destroy();
      await closed;
    }),
  );
}
