import { processMisses, processSelectorMatches } from '../identity/registration/process.js';
import type { ProcessFacts, Registration } from '../identity/registration/registration.js';
import type { PeerCredentials } from '../rpc/service.js';
import type { AttestationDepth } from './attestor.js';
import type { Party } from './fairness.js';

/** Whom a call is for: the pod whose socket it came in by, or the process behind the shared socket. */
export type Subject = PodSubject | ProcessSubject;

export interface PodSubject extends Party {
  readonly kind: 'pod';
  /** Equal for callers that get the same answers. */
  readonly key: string;
  /** As its node has it: that of a static pod is not that of its mirror in the API server. */
  readonly uid: string;
  /** Which of its containers calls, where the shared socket tells. */
  readonly container?: string;
}

export interface ProcessSubject extends Party {
  readonly kind: 'process';
  readonly key: string;
  readonly facts: ProcessFacts;
  readonly credentials: PeerCredentials;
  /** How closely it was looked at: what is missing at that depth is not to be had. */
  readonly depth: AttestationDepth;
}

/** The fairness key of everything that a user runs on the shared socket. */
export function userKey(uid: number): string {
  return `uid/${uid}`;
}

export function podSubject(uid: string, container?: string): PodSubject {
  const fairnessKey = `pod/${uid}`;
  const key = container === undefined ? fairnessKey : `${fairnessKey}/${container}`;
  return {
    ...{ kind: 'pod', key, fairnessKey, uid },
    ...(container === undefined ? {} : { container }),
  };
}

export function processSubject(
  facts: ProcessFacts,
  credentials: PeerCredentials,
  depth: AttestationDepth,
): ProcessSubject {
  const { uid, gid, supplementaryGids, path, sha256 } = facts;
  return {
    kind: 'process',
    key: `process/${JSON.stringify([uid, gid, supplementaryGids, path, sha256, depth])}`,
    // By user, not by executable: a user can make any number of executables.
    fairnessKey: userKey(uid),
    facts,
    credentials,
    depth,
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

/**
 * How much closer a process must be looked at because a registration may match by what is not known yet; undefined when
 * looking closer decides nothing.
 */
export function deeperLook(
  registrations: readonly Registration[],
  { facts, depth }: ProcessSubject,
): AttestationDepth | undefined {
  if (depth === 'digest') return undefined;
  let needed: AttestationDepth | undefined;
  for (const { subject } of registrations) {
    if (subject.kind !== 'process') continue;
    const { path, sha256 } = subject.selector;
    const unknown = {
      ...(depth === 'ids' && path !== undefined ? { path } : {}),
      ...(sha256 === undefined ? {} : { sha256 }),
    };
    if (Object.keys(unknown).length === 0) continue;
    if (processMisses(subject.selector, { ...facts, ...unknown }).length > 0) continue;
    if (sha256 !== undefined) return 'digest';
    needed = 'path';
  }
  return needed;
}

/** The subject for people: what was seen of it. */
export function describeSubject(subject: Subject): string {
  if (subject.kind === 'pod') {
    const { uid, container } = subject;
    return `the pod with UID ${uid}${container === undefined ? '' : ` (container ${container.slice(0, 12)})`}`;
  }
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
