import { SignetError } from '../../src/lib/errors.js';
import type { CallContext, MessageSink, PeerCredentials } from '../../src/rpc/service.js';
import { settle } from './fake-clock.js';

/** A call's context whose client the test can take away. */
export interface TestContext extends CallContext {
  /** What the transport does when the client cancels or goes. */
  hangUp(): void;
}

export interface TestContextOptions {
  readonly listener?: string;
  readonly credentials?: PeerCredentials;
  /** Why there are none. */
  readonly unknown?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly requestId?: string;
}

let connections = 0;

export function testContext(options: TestContextOptions = {}): TestContext {
  const controller = new AbortController();
  const metadata = options.metadata ?? { 'workload.spiffe.io': 'true' };
  return {
    peer: {
      listener: options.listener ?? 'shared',
      connectionId: `c${++connections}`,
      ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
      ...(options.unknown === undefined ? {} : { unknown: options.unknown }),
    },
    signal: controller.signal,
    requestId: options.requestId ?? 'r1',
    metadata: (key) => metadata[key],
    hangUp: () => controller.abort(new SignetError('Cancelled', 'the client went')),
  };
}

interface Codec<T> {
  decode(bytes: Uint8Array): T;
}

/** The client's end of a stream: keeps what was written; can stop reading. */
export class RecordingSink<T> implements MessageSink<T> {
  readonly messages: T[] = [];
  readonly #codec: Codec<T>;
  readonly context: TestContext;
  #read = 0;
  #reading = true;
  #writes = 0;
  #ended: { readonly error: unknown } | undefined;

  constructor(codec: Codec<T>, context: TestContext) {
    this.#codec = codec;
    this.context = context;
  }

  /** How often the handler wrote, read or not. */
  get writes(): number {
    return this.#writes;
  }

  get ended(): boolean {
    return this.#ended !== undefined;
  }

  /** From now on no write resolves: a client that does not read. */
  stopReading(): this {
    this.#reading = false;
    return this;
  }

  write(message: T | Uint8Array): Promise<void> {
    this.#writes++;
    if (!this.#reading) return new Promise<void>(() => undefined);
    this.messages.push(message instanceof Uint8Array ? this.#codec.decode(message) : message);
    return Promise.resolve();
  }

  end(error?: unknown): void {
    this.#ended = { error };
  }

  /** The next message that was not taken yet; rejects with what ended the call. */
  async next(): Promise<T> {
    for (let turn = 0; turn < 200; turn++) {
      const message = this.messages[this.#read];
      if (message !== undefined) {
        this.#read++;
        return message;
      }
      if (this.#ended !== undefined)
        throw this.#ended.error === undefined
          ? new Error('the stream has ended')
          : SignetError.from(this.#ended.error);
      await settle();
    }
    throw new Error('no message came');
  }

  /** What the call ended with; undefined for a good end. */
  async outcome(): Promise<unknown> {
    for (let turn = 0; turn < 200; turn++) {
      if (this.#ended !== undefined) return this.#ended.error;
      await settle();
    }
    throw new Error('the call did not end');
  }
}

/** Starts a streaming handler against a recording sink. */
export function startCall<T>(
  codec: Codec<T>,
  run: (context: TestContext, sink: MessageSink<T>) => Promise<void>,
  context: TestContext = testContext(),
): RecordingSink<T> {
  const sink = new RecordingSink(codec, context);
  run(context, sink).then(
    () => sink.end(),
    (error: unknown) => sink.end(error),
  );
  return sink;
}

/** Resolves once `holds` does; the event loop turns meanwhile, no clock moves. */
export async function until(holds: () => boolean): Promise<void> {
  for (let turn = 0; turn < 500; turn++) {
    if (holds()) return;
    await settle();
  }
  throw new Error('it did not come to hold');
}
