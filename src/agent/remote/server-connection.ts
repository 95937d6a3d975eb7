import { BACKDATE_MS } from '../../identity/pki/backdate.js';
import { isTrustedBy, verifyX509Svid } from '../../identity/pki/svid.js';
import { parseCertificate } from '../../identity/pki/certificate.js';
import { formatBundleDocument, parseBundleDocument } from '../../identity/spiffe/bundle-document.js';
import type { TrustBundle } from '../../identity/spiffe/bundle.js';
import type { SpiffeId } from '../../identity/spiffe/id.js';
import type { KeyType } from '../../identity/pki/keys.js';
import { ClockWatch } from '../../lib/clock-watch.js';
import type { Clock, Timer } from '../../lib/clock.js';
import { SignetError } from '../../lib/errors.js';
import type { Logger } from '../../lib/logger.js';
import type { Random } from '../../lib/random.js';
import { Backoff } from '../../lib/backoff.js';
import { WatchedValue } from '../../lib/watched.js';
import { connectTls, type RpcConnection } from '../../rpc/client.js';
import type { AgentSvid } from '../../rpc/gen/signet/node/v1/node.js';
import { nodeService } from '../../rpc/services.js';
import type { PeerVerdict, TlsIdentity, TlsSvid } from '../../rpc/tls/identity.js';
import type { MadeKey } from '../key-maker.js';
import { timeFor } from '../rotation.js';
import { openOwnSvid, type OwnSvidOptions, type SignedOwnSvid } from '../own-svid.js';

/** How an agent reaches its server and proves itself. */
export interface ServerConnectionOptions {
  readonly trustDomain: string;
  readonly host: string;
  readonly port: number;
  /** The projected service-account token, read anew each time: the kubelet renews it. */
  readonly readToken: () => Promise<string>;
  /** The bundle that says which server is the right one, for the first contact (a JWKS document). */
  readonly readBundle: () => Promise<string>;
  readonly keyType: KeyType;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** A connection to the server as an agent that has proved itself. */
export interface ServerConnection {
  readonly nodeName: string;
  readonly rpc: RpcConnection;
  /** The newest bundle of the own trust domain, and what is tainted: the agent learns them from the server. */
  learn(bundle: TrustBundle, taintedX509: readonly string[]): void;
  close(): void;
}

const SERVER_PATH = '/signet/server';
const CALL_DEADLINE_MS = 15_000;
const RETRY = { initialMs: 250, maxMs: 15_000 };
/** Attempts in a row that fail with the newest bundle known, before an older one of the file is believed. */
const ATTEMPTS_WITH_OWN_TRUST = 3;
/**
 * How often the bundle's file is looked at. An agent that was not connected while the authorities were made anew takes no
 * server for one, and learns from the file that there are others.
 */
const TRUST_POLL_MS = 10_000;

/**
 * Proves this agent by its token, and keeps an SVID for the connection. Tries until it succeeds or the signal is aborted:
 * an agent may be there before its server.
 */
export async function connectToServer(
  options: ServerConnectionOptions,
  signal: AbortSignal,
): Promise<ServerConnection> {
  const { trustDomain, clock, random, logger } = options;
  const trust = new WatchedValue<TrustBundle>(await firstBundle(options, signal));
  const tainted = new WatchedValue<readonly string[]>([]);
  let nodeName = '';
  let chain: readonly Uint8Array[] = [];
  let received = { signedAt: 0, receivedMonotonic: 0 };
  /** Stays empty until the first one has come. */
  const svid = new WatchedValue<TlsSvid | undefined>(undefined);
  const identity: TlsIdentity = {
    svid,
    verifyPeer(chain) {
      const bundles = (name: string): TrustBundle | undefined =>
        name === trustDomain ? trust.value : undefined;
      const verified = verifyX509Svid({ chain, bundles, now: clock.now() });
      return { spiffeId: verified.id, serial: verified.leaf.serial, notAfter: verified.leaf.notAfter };
    },
    onTrustChange: (listener) => trust.watch(listener),
  };
  const connect = (showSvid: boolean): RpcConnection =>
    connectTls({
      ...{ host: options.host, port: options.port, identity, clock, random, showSvid },
      authorizeServer: (peer) => isServer(peer, trustDomain),
    });

  /**
   * The bundle of a verified server, also one that is older: its authorities may have been put back from a backup. A replica
   * that is a moment behind sends the newest in a moment. The same one is no change: connections would be judged anew for it.
   */
  const believe = (bundle: TrustBundle): void => {
    if (bundle.x509Authorities.length === 0) return;
    if (formatBundleDocument(bundle) !== formatBundleDocument(trust.value)) trust.set(bundle);
  };
  /** What a verified server has signed, if it is what was asked for. */
  const take = (answer: AgentSvid, key: MadeKey): SignedOwnSvid => {
    const { notBefore, notAfter } = answer;
    const [leaf] = answer.chain;
    if (leaf === undefined) throw new SignetError('AgentSvidInvalid', 'the server sent an empty chain');
    const { spki, authorityKeyId } = parseCertificate(leaf);
    if (Buffer.compare(spki, key.spki) !== 0)
      throw new SignetError('AgentSvidInvalid', 'the server signed another key than the one that was sent');
    if (nodeName !== '' && answer.nodeName !== nodeName)
      throw new SignetError(
        'AgentSvidInvalid',
        `the server takes this agent for that of node ${answer.nodeName}, and it was that of ${nodeName}`,
      );
    believe(parseBundleDocument(trustDomain, answer.bundle));
    nodeName = answer.nodeName;
    chain = answer.chain;
    received = { signedAt: notBefore + BACKDATE_MS, receivedMonotonic: clock.monotonic() };
    return { chain, notBefore, notAfter, authorityId: authorityKeyId ?? '' };
  };
  let failed = 0;
  const readToken = async (): Promise<string> => {
    const token = (await options.readToken()).trim();
    if (token === '') throw new SignetError('TokenMissing', 'the file of the service-account token is empty');
    return token;
  };
  const attest = async (key: MadeKey): Promise<SignedOwnSvid> => {
    const token = await readToken();
    await refreshTrust(failed >= ATTEMPTS_WITH_OWN_TRUST);
    const stranger = connect(false);
    try {
      const request = { token, csr: Buffer.from(key.csr) };
      const answer = await stranger
        .client(nodeService)
        .attestAgent(request, { deadlineMs: CALL_DEADLINE_MS });
      failed = 0;
      return take(answer, key);
    } catch (thrown) {
      failed += 1;
      throw thrown;
    } finally {
      stranger.close();
    }
  };
  /**
   * An agent that was away for longer than an authority lives knows no server any more. The file that told it the first
   * bundle tells it a newer one; and if nothing else helps, one that is not newer, for a server that was made anew.
   */
  const refreshTrust = async (whateverItIs: boolean): Promise<void> => {
    const bundle = await readBundle(options).catch(() => undefined);
    if (bundle === undefined) return;
    if (whateverItIs || bundle.sequence > trust.value.sequence) believe(bundle);
  };
  /**
   * By the SVID that it has and its token, else by its token alone: a node that slept too long wakes up as nobody, and no server
   * takes an SVID of authorities that are lost.
   */
  const request = async (key: MadeKey): Promise<SignedOwnSvid> => {
    // A clock that is behind makes none of it wrong, and the connection that there is may be the last one that it lets be made.
    const now = timeFor(received, clock);
    if (svid.value === undefined || !isTrustedBy(trust.value, chain, now)) return attest(key);
    try {
      const asked = { csr: Buffer.from(key.csr), token: await readToken() };
      return take(await rpc.client(nodeService).renew(asked, { deadlineMs: CALL_DEADLINE_MS }), key);
    } catch (thrown) {
      logger.info('the agent could not renew its SVID by the one it has; it proves itself anew', {
        reason: SignetError.from(thrown).message,
      });
      return attest(key);
    }
  };
  const rpc = connect(true);
  const own: OwnSvidOptions = {
    ...{ name: 'agent', keyType: options.keyType, request, tainted, clock, random, logger },
    isTrusted: (chain, now) => isTrustedBy(trust.value, chain, now),
    onTrustChange: (listener) => trust.watch(listener),
  };
  const kept = await retrying(
    () => openOwnSvid(own),
    'the server does not take this agent yet',
    options,
    signal,
  ).catch((thrown: unknown) => {
    rpc.close();
    throw thrown;
  });
  svid.set(kept.svid.value);
  kept.svid.watch((next) => svid.set(next));
  logger.info('the agent is attested', { nodeName });
  let poll: Timer | undefined;
  let closed = false;
  const pollTrust = (): void => {
    if (!closed) poll = clock.after(TRUST_POLL_MS, () => void refreshTrust(false).then(pollTrust));
  };
  pollTrust();
  return {
    nodeName,
    rpc,
    learn(bundle, ids) {
      believe(bundle);
      tainted.set(ids);
    },
    close() {
      closed = true;
      poll?.cancel();
      kept.close();
      rpc.close();
    },
  };
}

function isServer(peer: SpiffeId, trustDomain: string): PeerVerdict {
  return peer.trustDomain === trustDomain && peer.path === SERVER_PATH
    ? { allowed: true }
    : { allowed: false, reason: `${peer.uri} is not the server, spiffe://${trustDomain}${SERVER_PATH}` };
}

function firstBundle(options: ServerConnectionOptions, signal: AbortSignal): Promise<TrustBundle> {
  return retrying(() => readBundle(options), 'the trust bundle cannot be read yet', options, signal);
}

async function readBundle({ trustDomain, readBundle: read }: ServerConnectionOptions): Promise<TrustBundle> {
  const bundle = parseBundleDocument(trustDomain, await read());
  if (bundle.x509Authorities.length === 0)
    throw new SignetError('BundleEmpty', 'the bundle holds no X.509 authority');
  return bundle;
}

/** Until it succeeds; what fails is told once for each reason. */
async function retrying<T>(
  act: () => Promise<T>,
  what: string,
  { clock, random, logger }: ServerConnectionOptions,
  signal: AbortSignal,
): Promise<T> {
  const backoff = new Backoff(RETRY, random);
  const watch = new ClockWatch(clock);
  let told = '';
  for (;;) {
    try {
      return await act();
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      const { code, message } = SignetError.from(thrown);
      if (message !== told) logger.warn(`${what}; it is tried again`, { code, reason: message });
      told = message;
    }
    if (await watch.sleep(backoff.next(), signal)) backoff.reset();
  }
}
