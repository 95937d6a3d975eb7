import type { Socket } from 'node:net';
import type { Clock, Timer } from '../../lib/clock.js';
import type { Connection, RunningCall } from '../connections.js';
import { StatusError, type Peer } from '../service.js';
import type { HttpLimits } from './limits.js';

/** One request that is under way. */
export interface HttpTask extends RunningCall {
  readonly signal: AbortSignal;
  /** The request has been answered, or its client has gone. */
  over(): void;
}

/** How long an answer that says "too late" may take to get out. Milliseconds. */
const LAST_WORD_MS = 1000;

/** One connection: its requests, and the time that it has for each. */
export class HttpConnection implements Connection {
  readonly peer: Peer;
  readonly socket: Socket;
  readonly calls = new Set<RunningCall>();
  readonly #clock: Clock;
  readonly #limits: HttpLimits;
  #idle: Timer | undefined;
  #retired = false;

  constructor(socket: Socket, peer: Peer, clock: Clock, limits: HttpLimits) {
    this.socket = socket;
    this.peer = peer;
    this.#clock = clock;
    this.#limits = limits;
    socket.once('close', () => {
      this.#idle?.cancel();
      for (const call of this.calls) call.abort(new StatusError('Cancelled', 'the client has gone'));
    });
    this.#rest();
  }

  /** Whether the next answer is the last one here. */
  get isLast(): boolean {
    return this.#retired;
  }

  /** Closes it once what is under way is answered. */
  retire(): void {
    this.#retired = true;
    if (this.calls.size === 0) this.socket.destroy();
  }

  /** A request has come; undefined when the connection may have no more, and is closed. */
  begin(): HttpTask | undefined {
    const { notAfter = Number.POSITIVE_INFINITY } = this.peer.certificate ?? {};
    if (this.calls.size >= this.#limits.maxRequestsPerConnection || notAfter <= this.#clock.now()) {
      this.socket.destroy();
      return undefined;
    }
    this.#idle?.cancel();
    const ended = new AbortController();
    let timer = this.#clock.after(this.#limits.requestMs, () => {
      task.abort(new StatusError('DeadlineExceeded', 'the request took too long'));
      timer = this.#clock.after(LAST_WORD_MS, () => this.socket.destroy());
    });
    const task: HttpTask = {
      signal: ended.signal,
      abort: (reason) => ended.abort(reason),
      over: () => {
        timer.cancel();
        if (!this.calls.delete(task)) return;
        ended.abort(new StatusError('Cancelled', 'the request is over'));
        if (this.calls.size === 0) this.#rest();
      },
    };
    this.calls.add(task);
    return task;
  }

  #rest(): void {
    this.#idle?.cancel();
    if (!this.socket.destroyed)
      this.#idle = this.#clock.after(this.#limits.idleMs, () => this.socket.destroy());
  }
}
