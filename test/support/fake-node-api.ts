import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { SignJWT } from 'jose';
import { parseCertificate } from '../../src/identity/pki/certificate.js';
import { parseCsr } from '../../src/identity/pki/csr.js';
import { createIssuer, issueCa, type Issuer } from '../../src/identity/pki/issue.js';
import { generateKeyPair, type KeyPair, signerOf } from '../../src/identity/pki/keys.js';
import type { Registration } from '../../src/identity/registration/registration.js';
import type { TrustBundle } from '../../src/identity/spiffe/bundle.js';
import { spiffeId } from '../../src/identity/spiffe/id.js';
import type { Clock } from '../../src/lib/clock.js';
import type {
  BundleUpdate,
  ExplainSubject,
  NodeApi,
  SignJwtRequest,
  SignJwtResult,
  SignRefusal,
  SignX509Request,
  SignX509Result,
  SyncUpdate,
} from '../../src/rpc/node-api.js';

/** Messages for the streams that are open now; a new stream begins with `first()`. */
class Feed<T> {
  readonly #first: () => T;
  readonly #open = new Set<{ readonly queue: T[]; wake: () => void; broken: Error | undefined }>();

  constructor(first: () => T) {
    this.#first = first;
  }

  get streams(): number {
    return this.#open.size;
  }

  push(message: T): void {
    for (const stream of this.#open) {
      stream.queue.push(message);
      stream.wake();
    }
  }

  break(error: Error): void {
    for (const stream of this.#open) {
      stream.broken = error;
      stream.wake();
    }
  }

  async *stream(signal: AbortSignal): AsyncGenerator<T> {
    const stream = {
      queue: [this.#first()],
      wake: (): void => undefined,
      broken: undefined as Error | undefined,
    };
    this.#open.add(stream);
    const onAbort = (): void => stream.wake();
    signal.addEventListener('abort', onAbort);
    try {
      while (!signal.aborted) {
        if (stream.broken !== undefined) throw stream.broken;
        const next = stream.queue.shift();
        if (next !== undefined) yield next;
        else await new Promise<void>((resolve) => (stream.wake = resolve));
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#open.delete(stream);
    }
  }
}

interface Authority {
  readonly id: string;
  readonly key: KeyPair;
  readonly certificate: Uint8Array;
  readonly issuer: Issuer;
}

/** A server for tests of the agent: signs for real, and fails as told. */
export class FakeNodeApi implements NodeApi {
  readonly trustDomain: string;
  readonly registrations = new Map<string, Registration>();
  /** Every batch of X.509 requests, as registration IDs. */
  readonly x509Batches: string[][] = [];
  readonly jwtBatches: SignJwtRequest[][] = [];
  readonly explained: ExplainSubject[] = [];
  /** Refusals by registration ID. */
  readonly refusals = new Map<string, SignRefusal>();
  federated: readonly TrustBundle[] = [];
  explanation = '';
  /** When set, signing and streams fail with this. */
  unreachable: Error | undefined;
  /** Awaited before signing is answered. */
  gate: (ids: readonly string[]) => Promise<void> = () => Promise.resolve();
  #clock: Clock;
  #authorities: readonly Authority[];
  #jwtKey: KeyPair;
  #tainted: string[] = [];
  #taintedJwt: string[] = [];
  #sequence = 1;
  readonly #sync = new Feed<SyncUpdate>(() => ({
    snapshot: true,
    upserts: [...this.registrations.values()],
    removed: [],
  }));
  readonly #bundles = new Feed<BundleUpdate>(() => this.bundleUpdate());

  private constructor(clock: Clock, trustDomain: string, authority: Authority, jwtKey: KeyPair) {
    this.#clock = clock;
    this.trustDomain = trustDomain;
    this.#authorities = [authority];
    this.#jwtKey = jwtKey;
  }

  static async create(clock: Clock, trustDomain = 'example.org'): Promise<FakeNodeApi> {
    return new FakeNodeApi(
      clock,
      trustDomain,
      await makeAuthority(trustDomain, clock.now()),
      await generateKeyPair('ec-p256'),
    );
  }

  get authorityId(): string {
    return this.#authorities.at(-1)?.id ?? '';
  }

  get streams(): number {
    return this.#sync.streams + this.#bundles.streams;
  }

  bundle(): TrustBundle {
    return {
      trustDomain: this.trustDomain,
      x509Authorities: this.#authorities.map(({ certificate }) => certificate),
      jwtAuthorities: [{ keyId: 'jwt-1', jwk: this.#jwtKey.publicKey.export({ format: 'jwk' }) }],
      sequence: this.#sequence,
    };
  }

  bundleUpdate(): BundleUpdate {
    return {
      own: this.bundle(),
      federated: this.federated,
      taintedX509: [...this.#tainted],
      taintedJwt: [...this.#taintedJwt],
    };
  }

  upsert(...registrations: Registration[]): void {
    for (const registration of registrations) this.registrations.set(registration.id, registration);
    this.#sync.push({ snapshot: false, upserts: registrations, removed: [] });
  }

  remove(...ids: string[]): void {
    for (const id of ids) this.registrations.delete(id);
    this.#sync.push({ snapshot: false, upserts: [], removed: ids });
  }

  /** Sends an update as it is, whatever the registrations say. */
  pushSync(update: SyncUpdate): void {
    this.#sync.push(update);
  }

  pushBundles(): void {
    this.#sequence++;
    this.#bundles.push(this.bundleUpdate());
  }

  /** Adds an authority that signs from now on. */
  async rotate(): Promise<void> {
    this.#authorities = [...this.#authorities, await makeAuthority(this.trustDomain, this.#clock.now())];
    this.pushBundles();
  }

  taint(authorityId: string): void {
    this.#tainted.push(authorityId);
    this.pushBundles();
  }

  taintJwt(keyId: string): void {
    this.#taintedJwt.push(keyId);
    this.pushBundles();
  }

  breakStreams(error = new Error('connection reset')): void {
    this.#sync.break(error);
    this.#bundles.break(error);
  }

  async *sync(signal: AbortSignal): AsyncGenerator<SyncUpdate> {
    if (this.unreachable !== undefined) throw this.unreachable;
    yield* this.#sync.stream(signal);
  }

  async *bundles(signal: AbortSignal): AsyncGenerator<BundleUpdate> {
    if (this.unreachable !== undefined) throw this.unreachable;
    yield* this.#bundles.stream(signal);
  }

  async explain(subject: ExplainSubject): Promise<string> {
    this.explained.push(subject);
    return this.explanation;
  }

  async signX509(requests: readonly SignX509Request[]): Promise<readonly SignX509Result[]> {
    const ids = requests.map(({ registrationId }) => registrationId);
    this.x509Batches.push(ids);
    await this.gate(ids);
    if (this.unreachable !== undefined) throw this.unreachable;
    return Promise.all(requests.map((request) => this.#signOne(request)));
  }

  async #signOne({ registrationId, csr }: SignX509Request): Promise<SignX509Result> {
    const refused = this.refusals.get(registrationId);
    if (refused !== undefined) return refused;
    const registration = this.registrations.get(registrationId);
    if (registration === undefined)
      return { ok: false, code: 'NotRegistered', message: 'no such registration', retryable: false };
    const authority = this.#authorities.at(-1);
    if (authority === undefined) throw new Error('no authority');
    const serial = randomBytes(16);
    serial[0] = (serial[0] ?? 0) | 0x40;
    const seconds = (ms: number): number => Math.floor(ms / 1000) * 1000;
    const notBefore = seconds(this.#clock.now()) - 10_000;
    const notAfter = seconds(this.#clock.now()) + registration.x509TtlSeconds * 1000;
    const leaf = await authority.issuer.issueSvid({
      publicKeySpki: parseCsr(csr).spki,
      spiffeId: registration.spiffeId,
      dnsNames: registration.dnsNames,
      serial,
      notBefore,
      notAfter,
    });
    return {
      ok: true,
      chain: [leaf],
      notBefore,
      notAfter,
      serial: serial.toString('hex'),
      authorityId: authority.id,
    };
  }

  async signJwt(requests: readonly SignJwtRequest[]): Promise<readonly SignJwtResult[]> {
    this.jwtBatches.push([...requests]);
    await this.gate(requests.map(({ registrationId }) => registrationId));
    if (this.unreachable !== undefined) throw this.unreachable;
    return Promise.all(
      requests.map(async ({ registrationId, audience }): Promise<SignJwtResult> => {
        const refused = this.refusals.get(registrationId);
        if (refused !== undefined) return refused;
        const registration = this.registrations.get(registrationId);
        if (registration === undefined)
          return { ok: false, code: 'NotRegistered', message: 'no such registration', retryable: false };
        const issued = Math.floor(this.#clock.now() / 1000);
        const expires = issued + registration.jwtTtlSeconds;
        const token = await new SignJWT({ jti: randomUUID() })
          .setProtectedHeader({ alg: 'ES256', kid: 'jwt-1', typ: 'JWT' })
          .setSubject(registration.spiffeId.uri)
          .setAudience([...audience])
          .setIssuedAt(issued)
          .setExpirationTime(expires)
          .sign(this.#jwtKey.privateKey);
        return { ok: true, token, issuedAt: issued * 1000, expiresAt: expires * 1000, keyId: 'jwt-1' };
      }),
    );
  }
}

async function makeAuthority(trustDomain: string, now: number): Promise<Authority> {
  const key = await generateKeyPair('ec-p256');
  const certificate = await issueCa({
    signer: signerOf(key),
    subjectPublicKey: key.publicKey,
    trustDomain,
    serial: Uint8Array.from([0x40, ...randomBytes(15)]),
    notBefore: now - 60_000,
    notAfter: now + 10 * 365 * 86_400_000,
  });
  const parsed = parseCertificate(certificate);
  return {
    id: parsed.subjectKeyId ?? createHash('sha1').update(parsed.spki).digest('hex'),
    key,
    certificate,
    issuer: createIssuer({ signer: signerOf(key), certificate: parsed, profile: 'x509-svid' }),
  };
}

/** A registration of a pod. */
export function podRegistration(
  name: string,
  changes: Partial<Omit<Registration, 'spiffeId'>> & { readonly path?: string; readonly uid?: string } = {},
): Registration {
  const { path, uid, ...rest } = changes;
  return {
    id: `${uid ?? name}/id`,
    subject: { kind: 'pod', namespace: 'shop', name, uid: uid ?? name },
    nodeName: 'node-1',
    spiffeId: spiffeId('example.org', path ?? `/ns/shop/sa/${name}`),
    x509TtlSeconds: 3_600,
    jwtTtlSeconds: 300,
    dnsNames: [],
    hint: '',
    federatesWith: [],
    audiences: [],
    identity: { kind: 'WorkloadIdentity', namespace: 'shop', name: 'id' },
    revision: '1',
    ...rest,
  };
}
