import type { ProcessFacts, Registration } from '../identity/registration/registration.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';

/**
 * What an agent asks of a server. In `signet dev` the server's object is called directly; in a cluster the same
 * interface runs over gRPC with mTLS.
 *
 * Streams are async iterables that end only when `signal` is aborted or the connection breaks; the caller then starts
 * again and gets a snapshot first. A slow consumer never makes the producer buffer: missed updates are merged into the
 * next one.
 */
export interface NodeApi {
  /** The registrations of the caller's node: first a snapshot, then changes. */
  sync(signal: AbortSignal): AsyncIterable<SyncUpdate>;
  /** The bundles the node's workloads need: each message is the whole state. */
  bundles(signal: AbortSignal): AsyncIterable<BundleUpdate>;
  /**
   * What decisions on the caller's node are made from. The first update is about what differs from `held`; without that it
   * is the whole. Optional: an API without it has no decisions made.
   */
  policies?(held: readonly HeldPolicyItem[], signal: AbortSignal): AsyncIterable<PolicyUpdate>;
  /**
   * Signs X.509-SVIDs, at most {@link MAX_SIGN_BATCH}; one result per request, in order. One failure fails one. `requestId` is
   * what the server's log calls it, too.
   */
  signX509(
    requests: readonly SignX509Request[],
    signal?: AbortSignal,
    requestId?: string,
  ): Promise<readonly SignX509Result[]>;
  /** Signs JWT-SVIDs, likewise. */
  signJwt(
    requests: readonly SignJwtRequest[],
    signal?: AbortSignal,
    requestId?: string,
  ): Promise<readonly SignJwtResult[]>;
  /**
   * Why this workload of the caller's node has no identity: which identities came nearest, and which selector missed.
   * At most 1 KiB of text for a person. Asked only when a caller is about to be refused. Optional: a server that
   * cannot say leaves it out.
   */
  explain?(subject: ExplainSubject, signal?: AbortSignal): Promise<string>;
  /**
   * The caller has taken in what all streams that it follows said up to this mark, and dropped what is revoked. Optional: for
   * the statuses of Revocations and nothing else.
   */
  acknowledge?(revocations: RevocationMark, signal?: AbortSignal): Promise<void>;
}

/**
 * How much of the revocations an update takes into account. Revisions can be compared as long as the epoch, that is one
 * replica's life, is the same.
 */
export interface RevocationMark {
  readonly epoch: string;
  readonly revision: number;
}

/** Whose missing identity is to be explained. */
export type ExplainSubject =
  | {
      readonly kind: 'pod';
      /** As the node has it. */
      readonly uid: string;
      /** ID of the container that asked, where that is known. */
      readonly container?: string;
    }
  | { readonly kind: 'process'; readonly facts: ProcessFacts };

/** The most requests in one batch. */
export const MAX_SIGN_BATCH = 500;

/** Registrations that came, changed or went. */
export interface SyncUpdate {
  /**
   * True for the first message, and again when the reader fell so far behind that the whole is less than what it
   * missed: what is not in `upserts` is gone.
   */
  readonly snapshot: boolean;
  readonly upserts: readonly Registration[];
  /** IDs of registrations that are no more. */
  readonly removed: readonly string[];
  readonly revocations?: RevocationMark | undefined;
}

/** The own bundle and the foreign ones, and what must be signed anew. */
export interface BundleUpdate {
  readonly own: TrustBundle;
  readonly federated: readonly TrustBundle[];
  /** Subject key IDs (hex) of authorities that are tainted: SVIDs signed by them are replaced at once. */
  readonly taintedX509: readonly string[];
  /** Key IDs of tainted or revoked JWT authorities. */
  readonly taintedJwt: readonly string[];
  /** Serial numbers (lower-case hex) of X.509-SVIDs that are revoked: they are replaced at once. */
  readonly revokedSerials?: readonly string[];
  readonly revocations?: RevocationMark | undefined;
}

/**
 * One object that decisions are made from, in the form and extent in which they ask for it.
 *
 * - Policies, roles and the TrustDomain: without metadata but the name, without status; of the TrustDomain the name, the
 *   default action and the token issuers alone.
 * - `Namespace`: its labels. `Pod` (of the caller's node alone): its labels, service account, owner, and `identities`.
 * - `WorkloadIdentity`, `ClusterWorkloadIdentity`: the SPIFFE IDs that it gives out (`uris`), where a policy names it.
 * - `Source`: what is known of whoever holds a SPIFFE ID, where a policy asks for that.
 */
export interface PolicyItem {
  /** `Kind/namespace/name`, or `Kind/name`; of a source, `Source/` and the SPIFFE ID. */
  readonly key: string;
  /** The same for the same JSON, on every replica. */
  readonly revision: string;
  readonly json: string;
}

export type HeldPolicyItem = Pick<PolicyItem, 'key' | 'revision'>;

/** Items that came, changed or went; all of it takes effect together. */
export interface PolicyUpdate {
  /** What is not in `upserts` is gone, whatever the reader holds. */
  readonly snapshot: boolean;
  readonly upserts: readonly PolicyItem[];
  /** Keys of items that are no more. */
  readonly removed: readonly string[];
  readonly revocations?: RevocationMark | undefined;
}

export interface SignX509Request {
  readonly registrationId: string;
  /** PKCS#10, DER. Only its public key is used; its signature proves possession. */
  readonly csr: Uint8Array;
}

/** A refusal that names its reason. Only `retryable` ones are worth asking again. */
export interface SignRefusal {
  readonly ok: false;
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
}

export interface SignedX509 {
  readonly ok: true;
  /** Leaf first, then intermediates; no root. DER. */
  readonly chain: readonly Uint8Array[];
  /** Milliseconds since the epoch, as in the leaf. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** Hex serial number of the leaf. */
  readonly serial: string;
  /** Subject key ID (hex) of the authority that signed. */
  readonly authorityId: string;
}

export type SignX509Result = SignedX509 | SignRefusal;

export interface SignJwtRequest {
  readonly registrationId: string;
  /** At least one. */
  readonly audience: readonly string[];
}

export interface SignedJwt {
  readonly ok: true;
  /** JWS compact. */
  readonly token: string;
  /** Milliseconds since the epoch. */
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly keyId: string;
}

export type SignJwtResult = SignedJwt | SignRefusal;
