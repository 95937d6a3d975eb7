import { processMisses, processSelectorMatches } from '../identity/registration/process.js';
import type { ProcessFacts, Registration } from '../identity/registration/registration.js';
import type { PeerCredentials } from '../rpc/service.js';
import type { Party } from './fairness.js';

/** Whom a call is for: the pod whose socket it came in by, or the process behind the shared socket. */
export type Subject = PodSubject | ProcessSubject;

export interface PodSubject extends Party {
  readonly kind: 'pod';
  /** Equal for callers that get the same answers. */
  readonly key: string;
  readonly uid: string;
}

export interface ProcessSubject extends Party {
  readonly kind: 'process';
  readonly key: string;
  readonly facts: ProcessFacts;
  readonly credentials: PeerCredentials;
  /** Whether the digest of the executable was asked for: without one then, there is none to be had. */
  readonly digestTried: boolean;
}

/** The fairness key of everything that a user runs on the shared socket. */
export function userKey(uid: number): string {
  return `uid/${uid}`;
}

export function podSubject(uid: string): PodSubject {
  const key = `pod/${uid}`;
  return { kind: 'pod', key, fairnessKey: key, uid };
}

export function processSubject(
  facts: ProcessFacts,
  credentials: PeerCredentials,
  digestTried: boolean,
): ProcessSubject {
  const { uid, gid, supplementaryGids, path, sha256 } = facts;
  return {
    kind: 'process',
    key: `process/${JSON.stringify([uid, gid, supplementaryGids, path, sha256, digestTried])}`,
    // By user, not by executable: a user can make any number of executables.
    fairnessKey: userKey(uid),
    facts,
    credentials,
    digestTried,
  };
}

/** Those of the node's process registrations that hold for a process, in order. */
export function matching(
  registrations: readonly Registration[],
  facts: ProcessFacts,
): readonly Registration[] {
  return registrations.filter(
    ({ subject }) => subject.kind === 'process' && processSelectorMatches(subject.selector, facts),
  );
}

/** Whether only the digest of the executable, which nobody has computed yet, keeps a registration from matching. */
export function needsDigest(
  registrations: readonly Registration[],
  { facts, digestTried }: ProcessSubject,
): boolean {
  if (digestTried) return false;
  return registrations.some(({ subject }) => {
    if (subject.kind !== 'process' || subject.selector.sha256 === undefined) return false;
    return processMisses(subject.selector, { ...facts, sha256: subject.selector.sha256 }).length === 0;
  });
}

/** The subject for people: what was seen of it. */
export function describeSubject(subject: Subject): string {
  if (subject.kind === 'pod') return `the pod with UID ${subject.uid}`;
  const { uid, gid, supplementaryGids, path, sha256 } = subject.facts;
  const parts = [
    `uid ${uid}`,
    `gid ${gid}`,
    supplementaryGids.length === 0
      ? undefined
      : `supplementary gids ${supplementaryGids.slice(0, 32).join(' ')}`,
    path === undefined ? 'path not known' : `path ${path}`,
    sha256 === undefined ? undefined : `sha256 ${sha256}`,
  ];
  return `the process with ${parts.filter((part) => part !== undefined).join(', ')}`;
}
