import type { ServerHttp2Session } from 'node:http2';
import type { Clock, Timer } from '../../lib/clock.js';
import type { TlsLimits } from './limits.js';

/** How long a connection may live. */
export interface LifetimeOptions {
  readonly clock: Clock;
  readonly limits: Pick<TlsLimits, 'maxAgeMs' | 'graceMs'>;
  /** A random number in [0, 1), so that connections made together do not end together. */
  readonly fraction: number;
  /** Wall time at which one of the two certificates ends. */
  readonly notAfter: number;
  readonly session: ServerHttp2Session;
  /** Closes the connection now. Called at most once. */
  end(reason: string): void;
}

/** The life of one connection. */
export interface Lifetime {
  /** Tells the client to go, and closes once its calls are done or the grace is over. */
  retire(reason: string): void;
  /** The connection is closed: nothing happens any more. */
  over(): void;
}

/** A share of the age that is drawn at random. */
const JITTER = 0.1;
/** The longest time between two looks at the wall clock, which may jump. Milliseconds. */
const LONGEST_LOOK_MS = 30_000;

/**
 * Ends a connection in time: by age, and before a certificate ends that it rests on. The client is told to go a grace
 * before, so that it comes back with its next SVID while its calls still finish here; at the very end it is closed.
 */
export function startLifetime(options: LifetimeOptions): Lifetime {
  const { clock, limits, notAfter, session } = options;
  const opened = clock.monotonic();
  const age = limits.maxAgeMs * (1 - JITTER + 2 * JITTER * options.fraction);
  // Of a short life, the grace takes no more than half.
  const leaveAt = notAfter - Math.min(limits.graceMs, Math.max(0, notAfter - clock.now()) / 2);
  let timer: Timer | undefined;
  /** Monotonic; set once the client was told. */
  let graceOver: number | undefined;
  let reason = 'the certificate of this connection is over; connect anew';
  let ended = false;

  const over = (): void => {
    ended = true;
    timer?.cancel();
  };
  const retire = (why: string): void => {
    if (graceOver !== undefined || ended) return;
    graceOver = clock.monotonic() + limits.graceMs;
    reason = why;
    // Names the last stream that was taken (RFC 9113 §6.8) and closes when those have ended. What the client has sent after
    // it is refused unseen, and clients of gRPC send that again by themselves. The way that refuses nothing, with a first
    // notice that names no stream, is not open: Node takes no stream after any GOAWAY.
    if (!session.closed && !session.destroyed) session.close();
    look();
  };
  const look = (): void => {
    timer?.cancel();
    if (ended) return;
    const now = clock.now();
    const monotonic = clock.monotonic();
    if (now >= notAfter || (graceOver !== undefined && monotonic >= graceOver)) {
      over();
      options.end(reason);
      return;
    }
    if (graceOver === undefined && now >= leaveAt) {
      retire('the certificate of this connection ends soon; connect anew');
      return;
    }
    if (graceOver === undefined && monotonic - opened >= age) {
      retire('the connection is old; connect anew');
      return;
    }
    const next =
      graceOver === undefined ? Math.min(opened + age - monotonic, leaveAt - now) : graceOver - monotonic;
    // At least a millisecond: a fraction of one, added to a large number, may be nothing.
    timer = clock.after(Math.max(1, Math.min(next, notAfter - now, LONGEST_LOOK_MS)), look);
  };
  // Not at once: the caller is still putting the connection together.
  timer = clock.after(0, look);
  return { retire, over };
}
