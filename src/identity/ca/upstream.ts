import type { KeyObject } from 'node:crypto';

/** A new X.509 authority that is to be signed by another authority. */
export interface UpstreamRequest {
  readonly trustDomain: string;
  readonly subjectPublicKey: KeyObject;
  readonly commonName: string;
  /** 16 random bytes, big-endian. */
  readonly serial: Uint8Array;
  /** Milliseconds since the epoch; the answer's certificate may end earlier, never later. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** The present, milliseconds since the epoch. */
  readonly now: number;
}

/** What the upstream authority made of a request. All DER. */
export interface UpstreamAnswer {
  readonly certificate: Uint8Array;
  /** The certificates between ours and a root, without the root; ours excluded. */
  readonly intermediates: readonly Uint8Array[];
  /** What the trust bundle holds. */
  readonly roots: readonly Uint8Array[];
}

/** Who signs our X.509 authorities, when they do not sign themselves. */
export interface UpstreamAuthority {
  /** For logs and messages, e.g. `disk`. */
  readonly name: string;
  /** Rejects with CaError `UpstreamInvalid` or `UpstreamExpiring`. */
  sign(request: UpstreamRequest): Promise<UpstreamAnswer>;
  /** Until when an authority signed now could live, milliseconds; so that none is made that outlives nothing. */
  lastNotAfter(now: number): Promise<number>;
}
