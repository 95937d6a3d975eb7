import type { AuthorityInfo } from '../../../identity/ca/certificate-authority.js';
import type {
  AuthorityRequestStatus,
  AuthorityStatus,
  TrustDomainStatus,
} from '../../../resources/identity.js';
import type { Condition } from '../../../resources/meta.js';
import { rfc3339 } from '../../identity-status.js';
import { oneLine } from '../one-line.js';

/** Something that is not as it should be. */
export interface Trouble {
  readonly reason: string;
  readonly message: string;
}

/** How the keys of the authorities are sealed. */
export interface SealingFacts {
  /** Why not all of them are sealed by the key that the resource names; undefined when they are. */
  readonly trouble?: Trouble;
  /** Whether the one before it is named, and needed no more. */
  readonly previousMayGo?: boolean;
}

/** What the status of the TrustDomain in force tells of. */
export interface TrustDomainFacts {
  readonly generation: number;
  readonly previous: TrustDomainStatus | undefined;
  /** Undefined while the authorities are not open: what was told of them stays. */
  readonly authorities: readonly AuthorityInfo[] | undefined;
  readonly bundleSequence: number | undefined;
  /** Why the authorities cannot do what they should; undefined when they can. */
  readonly trouble: Trouble | undefined;
  /** Why what the resource says is not all in force. */
  readonly pending: Trouble | undefined;
  /** Undefined while it is not known: what was told of it stays. */
  readonly sealing: SealingFacts | undefined;
  /** Why the bundle is not wherever it should be; undefined when it is. */
  readonly unpublished: Trouble | undefined;
  readonly request: AuthorityRequestStatus | undefined;
  /** The installation that tells it. */
  readonly servedBy: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

const MOST_AUTHORITIES = 64;
const KINDS = { x509: 'X509', jwt: 'JWT' } as const;
const SLOTS = { prepared: 'Prepared', active: 'Active', old: 'Old' } as const;

/** The status. Equal facts give an equal status: times move only with what they tell of. */
export function trustDomainStatus(facts: TrustDomainFacts): TrustDomainStatus {
  const { previous, authorities, request } = facts;
  const bundleSequence = facts.bundleSequence ?? previous?.bundleSequence;
  const shown = authorities?.slice(-MOST_AUTHORITIES).map(authorityStatus) ?? previous?.authorities;
  return {
    conditions: conditionsOf(facts),
    ...(shown === undefined ? {} : { authorities: shown }),
    ...(bundleSequence === undefined ? {} : { bundleSequence }),
    ...(request === undefined ? {} : { request }),
    servedBy: facts.servedBy,
  };
}

/** The status of a TrustDomain that another one keeps from being in force. */
export function idleTrustDomainStatus(
  facts: Pick<TrustDomainFacts, 'generation' | 'previous' | 'now'>,
  trouble: Trouble,
): TrustDomainStatus {
  return { ...facts.previous, conditions: [condition('Ready', trouble, { reason: '', message: '' }, facts)] };
}

const SEALED = 'KeysSealed';
const PREVIOUS_MAY_GO = '; spec.keyEncryption.previous may be taken away';

function conditionsOf(facts: TrustDomainFacts): readonly Condition[] {
  const active = facts.authorities?.filter(({ slot }) => slot === 'active').length ?? 0;
  return [
    condition(
      'Ready',
      facts.trouble ??
        (facts.authorities === undefined
          ? { reason: 'Opening', message: 'the authorities are being opened' }
          : undefined),
      { reason: 'Signing', message: `${active} authorities sign, and all who must know them are told` },
      facts,
    ),
    condition(
      'SettingsApplied',
      facts.pending,
      { reason: 'Applied', message: 'all that the resource says is in force' },
      facts,
    ),
    condition(
      'BundlePublished',
      facts.unpublished,
      { reason: 'Published', message: 'the bundle stands wherever it is asked for' },
      facts,
    ),
    ...sealedCondition(facts),
  ];
}

function sealedCondition(facts: TrustDomainFacts): readonly Condition[] {
  const { sealing, previous } = facts;
  if (sealing === undefined) return previous?.conditions?.filter(({ type }) => type === SEALED) ?? [];
  const { trouble, previousMayGo = false } = sealing;
  const message = `the keys of all authorities are sealed by the key-encryption key in force${previousMayGo ? PREVIOUS_MAY_GO : ''}`;
  return [condition(SEALED, trouble, { reason: 'Sealed', message }, facts)];
}

function condition(
  type: string,
  trouble: Trouble | undefined,
  well: Trouble,
  { generation, previous, now }: Pick<TrustDomainFacts, 'generation' | 'previous' | 'now'>,
): Condition {
  const old = previous?.conditions?.find((one) => one.type === type);
  const status = trouble === undefined ? 'True' : 'False';
  const { reason, message } = trouble ?? well;
  return {
    type,
    status,
    reason,
    message: oneLine(message),
    lastTransitionTime: old?.status === status ? old.lastTransitionTime : rfc3339(now),
    observedGeneration: generation,
  };
}

function authorityStatus(info: AuthorityInfo): AuthorityStatus {
  return {
    id: info.id,
    kind: KINDS[info.kind],
    slot: SLOTS[info.slot],
    notBefore: rfc3339(info.notBefore),
    notAfter: rfc3339(info.notAfter),
    tainted: info.tainted,
    revoked: info.revoked,
  };
}
