import type {
  IdentityRef,
  ProcessFacts,
  ProcessSelector,
  Registration,
  RegistrationSubject,
} from '../../identity/registration/registration.js';
import { parseSpiffeId } from '../../identity/spiffe/id.js';
import type {
  Process as ProcessMessage,
  ProcessFacts as ProcessFactsMessage,
  Registration as Message,
} from '../gen/signet/node/v1/node.js';
import { StatusError } from '../service.js';

const KEY_TYPES = ['ec-p256', 'ec-p384', 'rsa-2048', 'rsa-4096', 'ed25519'] as const;

/** A registration as it goes to an agent. */
export function registrationMessage(registration: Registration): Message {
  const { subject, spiffeId, dnsNames, federatesWith, audiences, identity, containers } = registration;
  return {
    id: registration.id,
    subject:
      subject.kind === 'pod'
        ? {
            $case: 'pod',
            value: {
              ...{ namespace: subject.namespace, name: subject.name, uid: subject.uid },
              staticUid: subject.staticUid,
            },
          }
        : { $case: 'process', value: { ...subject.selector } },
    nodeName: registration.nodeName,
    spiffeId: spiffeId.uri,
    x509TtlSeconds: registration.x509TtlSeconds,
    jwtTtlSeconds: registration.jwtTtlSeconds,
    keyType: registration.keyType ?? '',
    dnsNames: [...dnsNames],
    hint: registration.hint,
    federatesWith: [...federatesWith],
    audiences: [...audiences],
    identity: { ...identity },
    revision: registration.revision,
    containers:
      containers === undefined ? undefined : { ids: [...containers.ids], others: [...containers.others] },
  };
}

/**
 * What an agent was sent.
 *
 * @throws StatusError `Internal` when it is no registration
 */
export function registrationFrom(message: Message): Registration {
  return {
    id: message.id,
    subject: subjectFrom(message),
    nodeName: message.nodeName,
    spiffeId: parseSpiffeId(message.spiffeId),
    x509TtlSeconds: message.x509TtlSeconds,
    jwtTtlSeconds: message.jwtTtlSeconds,
    ...keyTypeFrom(message),
    dnsNames: message.dnsNames,
    hint: message.hint,
    federatesWith: message.federatesWith,
    audiences: message.audiences,
    identity: identityFrom(message),
    revision: message.revision,
    ...(message.containers === undefined ? {} : { containers: message.containers }),
  };
}

/** A type that this agent cannot make, of a server to come, is one that it does without: any is as good for who is called. */
function keyTypeFrom({ keyType }: Message): Pick<Registration, 'keyType'> {
  const known = KEY_TYPES.find((one) => one === keyType);
  return known === undefined ? {} : { keyType: known };
}

function subjectFrom({ id, subject }: Message): RegistrationSubject {
  switch (subject?.$case) {
    case 'pod': {
      const { staticUid, ...pod } = subject.value;
      return { kind: 'pod', ...pod, ...(staticUid === undefined ? {} : { staticUid }) };
    }
    case 'process':
      return { kind: 'process', selector: selectorFrom(subject.value) };
    case undefined:
      return unusable(id, 'names nobody');
  }
}

function selectorFrom(message: ProcessMessage): ProcessSelector {
  const { uid, gid, supplementaryGid, path, sha256 } = message;
  return {
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
    ...(supplementaryGid === undefined ? {} : { supplementaryGid }),
    ...(path === undefined ? {} : { path }),
    ...(sha256 === undefined ? {} : { sha256 }),
  };
}

function identityFrom({ id, identity }: Message): IdentityRef {
  const kind = identity?.kind;
  if (identity === undefined || (kind !== 'WorkloadIdentity' && kind !== 'ClusterWorkloadIdentity'))
    return unusable(id, 'comes from no identity');
  return { kind, namespace: identity.namespace, name: identity.name };
}

function unusable(id: string, why: string): never {
  throw new StatusError('Internal', `the server sent registration "${id.slice(0, 200)}", which ${why}`);
}

/** What the kernel says about a process, as an agent sends it. */
export function processFactsMessage(facts: ProcessFacts): ProcessFactsMessage {
  const { uid, gid, supplementaryGids, path, sha256 } = facts;
  return { uid, gid, supplementaryGids: [...supplementaryGids], path, sha256 };
}

/** The reverse of {@link processFactsMessage}. */
export function processFactsFrom(message: ProcessFactsMessage): ProcessFacts {
  const { uid, gid, supplementaryGids, path, sha256 } = message;
  return {
    ...{ uid, gid, supplementaryGids },
    ...(path === undefined ? {} : { path }),
    ...(sha256 === undefined ? {} : { sha256 }),
  };
}
