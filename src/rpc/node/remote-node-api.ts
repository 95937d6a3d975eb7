import type { Registration } from '../../identity/registration/registration.js';
import type { CallOptions, RpcConnection, TypedClient } from '../client.js';
import { NodeService, type HeldRegistration } from '../gen/signet/node/v1/node.js';
import type {
  BundleUpdate,
  ExplainSubject,
  HeldPolicyItem,
  NodeApi,
  PolicyItem,
  PolicyUpdate,
  SignX509Request,
  SyncUpdate,
} from '../node-api.js';
import { REQUEST_ID } from '../request-id.js';
import { StatusError } from '../service.js';
import { bundlesFrom } from './bundle-message.js';
import { processFactsMessage, registrationFrom } from './registration-message.js';
import { asBuffer, jwtResultFrom, x509ResultFrom } from './result-message.js';

/** Signing a batch of 500 with RSA keys takes seconds; more means that the server is in trouble. Milliseconds. */
const SIGN_DEADLINE_MS = 20_000;
/** For calls that cost the server little. */
const SHORT_DEADLINE_MS = 5_000;

/** When an X.509-SVID begins and ends; milliseconds since the epoch. */
export interface HeldSvid {
  readonly notBefore: number;
  readonly notAfter: number;
}

/**
 * More than this are not named to the server, which then sends everything: about 100 bytes each, and a request may have 1 MiB.
 */
const MOST_HELD = 8_000;
/** What a server may send before it says that an update is whole. */
const MOST_IN_UPDATE = 200_000;
/** The same for policies: with 10,000 of them an update has about 10 million. */
const MOST_CHARACTERS = 128 * 1024 * 1024;

/**
 * The node API of a server on the other side of a connection. The registrations that were seen are remembered, so a new
 * `sync`, on this connection or on the next one to another replica, asks for what has changed meanwhile and no more.
 */
export function createRemoteNodeApi(
  /** The connection to use now; another one once it has moved. */
  connection: () => RpcConnection,
  trustDomain: string,
  /** The X.509-SVID that is held for a registration, for the server's statuses. */
  svidOf: (registrationId: string) => HeldSvid | undefined = () => undefined,
): NodeApi {
  const held = new Map<string, Registration>();
  const client = (): TypedClient<typeof NodeService> => connection().client(NodeService);
  return {
    sync: (signal) => syncUpdates(client(), held, svidOf, signal),
    bundles: (signal) => bundleUpdates(client(), trustDomain, signal),
    policies: (heldItems, signal) => policyUpdates(client(), heldItems, signal),
    async signX509(requests, signal, requestId) {
      const message = {
        requests: requests.map(({ registrationId, csr }: SignX509Request) => ({
          registrationId,
          csr: asBuffer(csr),
        })),
      };
      const { results } = await client().signX509(message, optionsOf(SIGN_DEADLINE_MS, signal, requestId));
      return results.map(x509ResultFrom);
    },
    async signJwt(requests, signal, requestId) {
      const message = {
        requests: requests.map(({ registrationId, audience }) => ({
          registrationId,
          audience: [...audience],
        })),
      };
      const { results } = await client().signJwt(message, optionsOf(SIGN_DEADLINE_MS, signal, requestId));
      return results.map(jwtResultFrom);
    },
    async explain(subject, signal) {
      const container = subject.kind === 'pod' ? subject.container : undefined;
      const request = { subject: subjectMessage(subject), container };
      return (await client().explain(request, optionsOf(SHORT_DEADLINE_MS, signal))).text;
    },
    async acknowledge(revocations, signal) {
      await client().acknowledge({ revocations }, optionsOf(SHORT_DEADLINE_MS, signal));
    },
  };
}

function optionsOf(deadlineMs: number, signal: AbortSignal | undefined, requestId?: string): CallOptions {
  return {
    deadlineMs,
    ...(signal === undefined ? {} : { signal }),
    ...(requestId === undefined ? {} : { metadata: { [REQUEST_ID]: requestId } }),
  };
}

function subjectMessage(
  subject: ExplainSubject,
): { $case: 'podUid'; value: string } | { $case: 'process'; value: ReturnType<typeof processFactsMessage> } {
  return subject.kind === 'pod'
    ? { $case: 'podUid', value: subject.uid }
    : { $case: 'process', value: processFactsMessage(subject.facts) };
}

/** The first update is the whole state, put together from what is held and what the server says has changed. */
async function* syncUpdates(
  client: TypedClient<typeof NodeService>,
  held: Map<string, Registration>,
  svidOf: (registrationId: string) => HeldSvid | undefined,
  signal: AbortSignal,
): AsyncIterable<SyncUpdate> {
  const named = held.size <= MOST_HELD ? [...held.values()] : [];
  const request = { held: named.map((one) => heldMessage(one, svidOf)), knowsContainers: true };
  let isFirst = true;
  let upserts: Registration[] = [];
  let removed: string[] = [];
  for await (const part of client.sync(request, { signal })) {
    upserts.push(...part.upserts.map(registrationFrom));
    removed.push(...part.removed);
    if (upserts.length + removed.length > MOST_IN_UPDATE)
      throw new StatusError('Internal', `the server sent more than ${MOST_IN_UPDATE} registrations at once`);
    if (part.more) continue;
    if (isFirst && named.length === 0) held.clear();
    for (const id of removed) held.delete(id);
    for (const registration of upserts) held.set(registration.id, registration);
    const { revocations } = part;
    yield isFirst
      ? { snapshot: true, upserts: [...held.values()], removed: [], revocations }
      : { snapshot: false, upserts, removed, revocations };
    isFirst = false;
    upserts = [];
    removed = [];
  }
}

function heldMessage(
  { id, revision }: Registration,
  svidOf: (registrationId: string) => HeldSvid | undefined,
): HeldRegistration {
  const svid = svidOf(id);
  return { id, revision, svidNotBefore: svid?.notBefore ?? 0, svidNotAfter: svid?.notAfter ?? 0 };
}

async function* bundleUpdates(
  client: TypedClient<typeof NodeService>,
  trustDomain: string,
  signal: AbortSignal,
): AsyncIterable<BundleUpdate> {
  for await (const message of client.watchBundles({}, { signal })) yield bundlesFrom(message, trustDomain);
}

/** Parts are put together: an update takes effect as a whole. */
async function* policyUpdates(
  client: TypedClient<typeof NodeService>,
  held: readonly HeldPolicyItem[],
  signal: AbortSignal,
): AsyncIterable<PolicyUpdate> {
  const named = held.length <= MOST_HELD ? held : [];
  let upserts: PolicyItem[] = [];
  let removed: string[] = [];
  let characters = 0;
  for await (const part of client.watchPolicies({ held: [...named] }, { signal })) {
    upserts.push(...part.upserts);
    removed.push(...part.removed);
    for (const { json } of part.upserts) characters += json.length;
    if (upserts.length + removed.length > MOST_IN_UPDATE || characters > MOST_CHARACTERS)
      throw new StatusError(
        'Internal',
        `the server sent more than ${MOST_IN_UPDATE} policy items or ${MOST_CHARACTERS} characters at once`,
      );
    if (part.more) continue;
    yield { snapshot: part.snapshot, upserts, removed, revocations: part.revocations };
    upserts = [];
    removed = [];
    characters = 0;
  }
}
