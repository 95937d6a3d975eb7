import { BACKDATE_MS } from '../identity/pki/backdate.js';
import { type KeyType, keyPairFromPkcs8 } from '../identity/pki/keys.js';
import { encodePem } from '../identity/pki/pem.js';
import { Backoff } from '../lib/backoff.js';
import { ClockWatch } from '../lib/clock-watch.js';
import type { Clock, Timer } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { WatchedValue, type Watched } from '../lib/watched.js';
import type { TlsSvid } from '../rpc/tls/identity.js';
import { makeKey, type MadeKey } from './key-maker.js';
import {
  LONGEST_LOOK_MS,
  lookAgainIn,
  renewalTime,
  rotationReason,
  timeFor,
  type RotatingSvid,
} from './rotation.js';

/** An SVID as it was signed. Times in milliseconds since the epoch. */
export interface SignedOwnSvid {
  /** Leaf first, then intermediates; no root. DER. */
  readonly chain: readonly Uint8Array[];
  readonly notBefore: number;
  readonly notAfter: number;
  /** Subject key ID (hex) of the authority that signed it. */
  readonly authorityId: string;
}

/** What one's own SVID is kept by. */
export interface OwnSvidOptions {
  /** For the log. */
  readonly name: string;
  readonly keyType: KeyType;
  /** Has a key certified. Rejects when that is not possible now. */
  readonly request: (key: MadeKey) => Promise<SignedOwnSvid>;
  /** Subject key IDs (hex) of authorities whose work is to be replaced. */
  readonly tainted: Watched<readonly string[]>;
  /** Whether others can trust a chain at that time: not when the authorities that signed it are lost, and others in their place. */
  readonly isTrusted: (chain: readonly Uint8Array[], now: number) => boolean;
  /** Calls `listener` whenever that may have changed. */
  readonly onTrustChange: (listener: () => void) => () => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** An SVID of this process itself, which rotates until it is closed. */
export interface OwnSvid {
  /** Undefined once the last one is over and no other could be had. */
  readonly svid: Watched<TlsSvid | undefined>;
  close(): void;
}

interface Held extends RotatingSvid {
  readonly svid: TlsSvid;
  readonly chain: readonly Uint8Array[];
}

const RETRY = { initialMs: 1000, maxMs: 60_000 };
/** The shortest pause between two looks, in milliseconds. */
const GRANULARITY_MS = 1000;

/**
 * Gets an SVID for this process, and another with a new key at half-life, and at once when its authority is tainted or
 * trusted no more. The key never leaves this process. What is over is not shown any more. Rejects when the first one cannot
 * be had.
 */
export async function openOwnSvid(options: OwnSvidOptions): Promise<OwnSvid> {
  const { clock, random, logger, tainted, isTrusted } = options;
  let held = await request(options);
  const svid = new WatchedValue<TlsSvid | undefined>(held.svid);
  const backoff = new Backoff(RETRY, random);
  const watch = new ClockWatch(clock);
  let timer: Timer | undefined;
  let closed = false;
  let renewing = false;
  /** Monotonic; whatever is signed, nobody is asked without pause. */
  let retryAt = Number.NEGATIVE_INFINITY;

  const trusted = (): boolean => isTrusted(held.chain, timeFor(held, clock));
  const look = (clockWasSet = watch.wasSet()): void => {
    timer?.cancel();
    if (closed) return;
    // What was refused, or could not be believed, by the time as it was.
    if (clockWasSet) {
      backoff.reset();
      retryAt = Number.NEGATIVE_INFINITY;
    }
    const reason = rotationReason(held, clock, new Set(tainted.value));
    // One that was over by a clock which ran ahead is good again when the clock is set.
    const shown = reason === 'expired' ? undefined : held.svid;
    if (svid.value !== shown) svid.set(shown);
    const rest = retryAt - clock.monotonic();
    if (!renewing && rest <= 0 && (reason !== undefined || !trusted())) void renew();
    const next = lookAgainIn(Math.min(held.renewAt, held.notAfter) - timeFor(held, clock), GRANULARITY_MS);
    timer = watch.after(rest > 0 ? Math.min(rest, LONGEST_LOOK_MS) : next, look);
  };
  const renew = async (): Promise<void> => {
    renewing = true;
    try {
      held = await request(options);
      // A bundle that is behind its authority is no reason to ask every second.
      if (trusted()) backoff.reset();
      retryAt = clock.monotonic() + (trusted() ? GRANULARITY_MS : backoff.next());
      if (!closed) svid.set(held.svid);
    } catch (thrown) {
      const { code, message } = SignetError.from(thrown);
      logger.error('Signet’s own SVID could not be renewed', {
        spiffeId: options.name,
        code,
        reason: message,
      });
      retryAt = clock.monotonic() + backoff.next();
    } finally {
      renewing = false;
    }
    look();
  };
  const stops = [tainted.watch(() => look()), options.onTrustChange(() => look())];
  look();
  return {
    svid,
    close() {
      closed = true;
      timer?.cancel();
      stops.forEach((stop) => stop());
    },
  };
}

async function request({ keyType, request: ask, clock, random }: OwnSvidOptions): Promise<Held> {
  const key = await makeKey(keyType);
  const { chain, notBefore, notAfter, authorityId } = await ask(key);
  const receivedAt = clock.now();
  const signedAt = notBefore + BACKDATE_MS;
  return {
    svid: {
      cert: chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
      key: keyPairFromPkcs8(key.pkcs8).privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
      notAfter,
    },
    ...{ chain, notBefore, notAfter, receivedAt, signedAt, authorityId },
    receivedMonotonic: clock.monotonic(),
    renewAt: renewalTime({ signedAt, notAfter }, receivedAt, random.fraction()),
  };
}
