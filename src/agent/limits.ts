import type { BackoffOptions } from '../lib/backoff.js';

/** What an agent gives at most, and how long it waits. Times in milliseconds. */
export interface AgentLimits {
  /** How long a caller whose identity is not here yet is held before it is refused. */
  readonly holdMs: number;
  /** How long a stream waits for the rest when only some of its SVIDs are here, or the last one was withdrawn. */
  readonly settleMs: number;
  /** Callers held at one time: all, and of one subject. */
  readonly maxHolders: number;
  readonly maxHoldersPerSubject: number;
  /** Open streams: all, of one pod, and of one uid on the shared socket. */
  readonly maxStreams: number;
  readonly maxStreamsPerPod: number;
  readonly maxStreamsPerUid: number;
  /** New calls per second of one subject, and how many at once. */
  readonly callsPerSecond: number;
  readonly callBurst: number;
  /** JWT-SVIDs signed (not served from the cache) per second for one subject, and how many at once. */
  readonly jwtPerSecond: number;
  readonly jwtBurst: number;
  /** JWT-SVIDs kept: all, and of one registration. */
  readonly maxJwtSvids: number;
  readonly maxJwtSvidsPerRegistration: number;
  /** Registrations that a server may send. */
  readonly maxRegistrations: number;
  /** X.509-SVIDs asked for in one batch, at most 500. */
  readonly signBatch: number;
  /** Batches on their way at one time; one more is kept for callers that wait. */
  readonly signConcurrency: number;
  /** How long an answer of the server may take. */
  readonly requestTimeoutMs: number;
  /** Between attempts for one registration whose signing was refused. */
  readonly signBackoff: BackoffOptions;
  /** Between attempts to reach the server. */
  readonly connectBackoff: BackoffOptions;
  /** Executables larger than this (bytes) have no digest. */
  readonly maxDigestBytes: number;
}

export const defaultAgentLimits: AgentLimits = {
  holdMs: 5_000,
  settleMs: 1_000,
  maxHolders: 2_000,
  maxHoldersPerSubject: 64,
  maxStreams: 20_000,
  maxStreamsPerPod: 256,
  maxStreamsPerUid: 1_024,
  callsPerSecond: 2_000,
  callBurst: 10_000,
  jwtPerSecond: 200,
  jwtBurst: 1_000,
  maxJwtSvids: 10_000,
  maxJwtSvidsPerRegistration: 100,
  maxRegistrations: 100_000,
  signBatch: 100,
  signConcurrency: 1,
  requestTimeoutMs: 30_000,
  signBackoff: { initialMs: 500, maxMs: 60_000 },
  connectBackoff: { initialMs: 100, maxMs: 15_000 },
  maxDigestBytes: 1024 * 1024 * 1024,
};
