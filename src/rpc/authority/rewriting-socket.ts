import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { SignetError } from '../../lib/errors.js';
import { AuthorityFilter } from './filter.js';

/**
 * A connection whose reading side goes through an {@link AuthorityFilter}. Back-pressure passes both ways; what the
 * filter refuses closes the connection.
 */
export class RewritingSocket extends Duplex {
  readonly #socket: Socket;
  readonly #filter = new AuthorityFilter();

  /** Takes the socket over. `first` is what was read from it already. */
  constructor(socket: Socket, first: Buffer) {
    super({ allowHalfOpen: false });
    this.#socket = socket;
    this.#receive(first);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.once('end', () => this.push(null));
    socket.once('error', (error) => this.destroy(error));
    socket.once('close', () => this.destroy());
  }

  #receive(chunk: Buffer): void {
    let pieces: Buffer[];
    try {
      pieces = this.#filter.push(chunk);
    } catch (error) {
      this.destroy(SignetError.from(error));
      return;
    }
    if (pieces.length > 0 && !this.push(pieces.length === 1 ? pieces[0] : Buffer.concat(pieces)))
      this.#socket.pause();
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done);
  }

  override _writev(
    chunks: { chunk: Buffer; encoding: BufferEncoding }[],
    done: (error?: Error | null) => void,
  ): void {
    this.#socket.write(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
