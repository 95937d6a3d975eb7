import { makeKey } from '../agent/key-maker.js';
import { LONGEST_LOOK_MS, lookAgainIn, renewalTime, rotationReason } from '../agent/rotation.js';
import type { CertificateAuthority } from '../identity/ca/certificate-authority.js';
import { type KeyType, keyPairFromPkcs8 } from '../identity/pki/keys.js';
import { encodePem } from '../identity/pki/pem.js';
import { verifyX509Svid } from '../identity/pki/svid.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import { spiffeId, type SpiffeId } from '../identity/spiffe/id.js';
import { Backoff } from '../lib/backoff.js';
import type { Clock, Timer } from '../lib/clock.js';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { Random } from '../lib/random.js';
import { WatchedValue } from '../lib/watched.js';
import type { TlsIdentity, TlsSvid } from '../rpc/tls/identity.js';

/** What a process that has the CA at hand is called by. */
export interface OwnIdentityOptions {
  readonly ca: Pick<CertificateAuthority, 'signX509' | 'taints' | 'trustDomain'>;
  /** Under `/signet/`, which no registration can have (`ReservedId`). */
  readonly path: string;
  readonly keyType: KeyType;
  readonly ttlSeconds: number;
  /** The bundle of the own trust domain, or of a federated one. */
  readonly bundleOf: (trustDomain: string) => TrustBundle | undefined;
  /** Calls `listener` whenever one of those bundles has changed. */
  readonly onTrustChange: (listener: () => void) => () => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** An identity of Signet's own that rotates until it is closed. */
export interface OwnIdentity extends TlsIdentity {
  readonly spiffeId: SpiffeId;
  close(): void;
}

interface Held {
  readonly svid: TlsSvid;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly receivedAt: number;
  readonly renewAt: number;
  readonly authorityId: string;
}

const RETRY = { initialMs: 1000, maxMs: 60_000 };
/** The shortest pause between two looks, in milliseconds. */
const GRANULARITY_MS = 1000;

/**
 * Has the CA sign an SVID for this process itself, with a new key each time: at half-life, and at once when its authority
 * is tainted. The key never leaves this process. What is over is not shown any more.
 *
 * @throws CaError when the first one cannot be signed
 */
export async function openOwnIdentity(options: OwnIdentityOptions): Promise<OwnIdentity> {
  const { ca, clock, random, logger } = options;
  const id = spiffeId(ca.trustDomain, options.path);
  let held = await sign(options, id);
  const svid = new WatchedValue<TlsSvid | undefined>(held.svid);
  const backoff = new Backoff(RETRY, random);
  let timer: Timer | undefined;
  let closed = false;
  let renewing = false;
  /** Monotonic; whatever the CA signs, it is not asked without pause. */
  let retryAt = Number.NEGATIVE_INFINITY;

  const look = (): void => {
    timer?.cancel();
    if (closed) return;
    const now = clock.now();
    const reason = rotationReason(held, now, new Set(ca.taints.value.x509));
    if (reason === 'expired' && svid.value !== undefined) svid.set(undefined);
    const rest = retryAt - clock.monotonic();
    if (reason !== undefined && !renewing && rest <= 0) void renew();
    const next = lookAgainIn(Math.min(held.renewAt, held.notAfter), now, GRANULARITY_MS);
    timer = clock.after(rest > 0 ? Math.min(rest, LONGEST_LOOK_MS) : next, look);
  };
  const renew = async (): Promise<void> => {
    renewing = true;
    try {
      held = await sign(options, id);
      backoff.reset();
      retryAt = clock.monotonic() + GRANULARITY_MS;
      if (!closed) svid.set(held.svid);
    } catch (thrown) {
      const { code, message } = SignetError.from(thrown);
      logger.error('Signet’s own SVID could not be renewed', { spiffeId: id.uri, code, reason: message });
      retryAt = clock.monotonic() + backoff.next();
    } finally {
      renewing = false;
    }
    look();
  };
  const stop = ca.taints.watch(look);
  look();

  return {
    spiffeId: id,
    svid,
    verifyPeer(chain) {
      const verified = verifyX509Svid({ chain, bundles: options.bundleOf, now: clock.now() });
      const { serial, notAfter } = verified.leaf;
      return { spiffeId: verified.id, serial, notAfter };
    },
    onTrustChange: options.onTrustChange,
    close() {
      closed = true;
      timer?.cancel();
      stop();
    },
  };
}

async function sign(
  { ca, keyType, ttlSeconds, clock, random }: OwnIdentityOptions,
  id: SpiffeId,
): Promise<Held> {
  const { pkcs8, spki } = await makeKey(keyType);
  const signed = await ca.signX509({ spki, spiffeId: id, dnsNames: [], ttlSeconds });
  const { chain, notBefore, notAfter, authorityId } = signed;
  const receivedAt = clock.now();
  return {
    svid: {
      cert: chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
      key: keyPairFromPkcs8(pkcs8).privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
      notAfter,
    },
    ...{ notBefore, notAfter, receivedAt, authorityId },
    renewAt: renewalTime({ notBefore, notAfter }, receivedAt, random.fraction()),
  };
}
