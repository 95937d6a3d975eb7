import type { Registration } from '../identity/registration/registration.js';
import type { TrustBundle } from '../identity/spiffe/bundle.js';
import type { Watched } from '../lib/watched.js';
import {
  type BundleUpdate,
  MAX_SIGN_BATCH,
  type NodeApi,
  type PolicyUpdate,
  type RevocationMark,
  type SignRefusal,
  type SyncUpdate,
} from '../rpc/node-api.js';
import { StatusError } from '../rpc/service.js';
import type { IssuedSvid } from './issued-svids.js';
import type { PolicyFeed } from './policies/feed.js';
import type { RegistrationView } from './registrations.js';
import { markedSource } from './marked-source.js';
import { stateStream, type StateSource } from './state-stream.js';

/** Signs for registrations that the caller was found to hold. */
export type NodeSigning = Pick<NodeApi, 'signX509' | 'signJwt'>;

/** What the node API is made of. */
export interface NodeApiOptions {
  readonly registrations: RegistrationView;
  readonly signing: NodeSigning;
  readonly ca: {
    readonly bundle: Watched<TrustBundle>;
    /** Subject key IDs (hex) and key IDs. */
    readonly taints: Watched<{ readonly x509: readonly string[]; readonly jwt: readonly string[] }>;
  };
  readonly federation: Watched<readonly TrustBundle[]>;
  /** Serial numbers of X.509-SVIDs that are revoked, lower-case hex; none unless given. */
  readonly revokedSerials?: Watched<readonly string[]>;
  /** What all streams take into account of revocations; they do not say unless given. */
  readonly revocationMark?: Watched<RevocationMark>;
  /** The node whose agent calls: it sees and signs for nothing else. */
  readonly nodeName: string;
  /** What the agent of a node is sent to decide by; without it, none decides. */
  readonly policies?: Pick<PolicyFeed, 'of'>;
  /** Told of each X.509-SVID that is signed: for the status of the identity. */
  readonly issued?: (svid: IssuedSvid) => void;
}

const NOTHING = { snapshot: false, upserts: [], removed: [] } as const;

/** The node API of one node, in process. */
export function createNodeApi(options: NodeApiOptions): NodeApi {
  const { registrations, signing, policies, nodeName, revocationMark: mark } = options;
  const mayHold = (registrationId: string): boolean => {
    const registration = registrations.get(registrationId);
    return registration !== undefined && (registration.nodeName === '' || registration.nodeName === nodeName);
  };
  return {
    sync: (signal) =>
      stateStream(
        () => markedSource<SyncUpdate>(new SyncSource(registrations, nodeName), mark, NOTHING),
        signal,
      ),
    bundles: (signal) => stateStream(() => bundleSource(options), signal),
    ...(policies === undefined
      ? {}
      : {
          policies: (held, signal) =>
            stateStream(() => markedSource<PolicyUpdate>(policies.of(nodeName, held), mark, NOTHING), signal),
        }),
    async signX509(requests, signal, requestId) {
      const results = await signAllowed(requests, mayHold, (allowed) =>
        signing.signX509(allowed, signal, requestId),
      );
      results.forEach((result, at) => {
        const request = requests[at];
        if (!result.ok || request === undefined) return;
        const { notBefore, notAfter } = result;
        options.issued?.({ registrationId: request.registrationId, notBefore, notAfter });
      });
      return results;
    },
    signJwt: (requests, signal, requestId) =>
      signAllowed(requests, mayHold, (allowed) => signing.signJwt(allowed, signal, requestId)),
    explain: (subject) =>
      Promise.resolve(
        subject.kind === 'pod'
          ? registrations.explainPod(subject.uid, nodeName, subject.container)
          : registrations.explainProcess(subject.facts),
      ),
  };
}

/** Passes on the requests for registrations of the node; refuses the others, each by itself and in its place. */
async function signAllowed<Request extends { readonly registrationId: string }, Result>(
  requests: readonly Request[],
  mayHold: (registrationId: string) => boolean,
  sign: (allowed: readonly Request[]) => Promise<readonly Result[]>,
): Promise<readonly (Result | SignRefusal)[]> {
  if (requests.length > MAX_SIGN_BATCH) {
    throw new StatusError(
      'InvalidArgument',
      `the batch has ${requests.length} requests; ${MAX_SIGN_BATCH} are allowed, send it in parts`,
      { code: 'BatchTooLarge' },
    );
  }
  const allowed = requests.filter(({ registrationId }) => mayHold(registrationId));
  if (allowed.length === 0) return requests.map(refuse);
  const signed = await sign(allowed);
  let next = 0;
  // An answer that is not there is a refusal: no request may take another's.
  return requests.map((request) =>
    allowed[next] === request ? (signed[next++] ?? refuse(request)) : refuse(request),
  );
}

function refuse({ registrationId }: { readonly registrationId: string }): SignRefusal {
  return {
    ok: false,
    code: 'RegistrationNotFound',
    message: `this node holds no registration "${registrationId.slice(0, 200)}"`,
    // The sync stream brings what there is; asking again changes nothing.
    retryable: false,
  };
}

/** Removals that are remembered for a reader; beyond that a snapshot is less. */
const MAX_PENDING_REMOVALS = 1000;

/** Registrations of a node: a snapshot first, then what changed since the reader last took. */
class SyncSource implements StateSource<SyncUpdate> {
  readonly #registrations: RegistrationView;
  readonly #nodeName: string;
  #snapshot = true;
  readonly #upserts = new Map<string, Registration>();
  readonly #removed = new Set<string>();

  constructor(registrations: RegistrationView, nodeName: string) {
    this.#registrations = registrations;
    this.#nodeName = nodeName;
  }

  subscribe(wake: () => void): () => void {
    const endReady = this.#registrations.ready.watch(wake);
    const endWatch = this.#registrations.watch(this.#nodeName, ({ changed, removed }) => {
      // A snapshot that is still to be taken will hold all of this.
      if (!this.#snapshot) {
        this.#merge(changed, removed);
        wake();
      }
    });
    return () => {
      endReady();
      endWatch();
    };
  }

  take(): SyncUpdate | undefined {
    // Before everything is read, a snapshot would take away what agents hold.
    if (!this.#registrations.ready.value) return undefined;
    if (this.#snapshot) {
      this.#snapshot = false;
      return { snapshot: true, upserts: this.#registrations.forNode(this.#nodeName), removed: [] };
    }
    if (this.#upserts.size === 0 && this.#removed.size === 0) return undefined;
    const update = { snapshot: false, upserts: [...this.#upserts.values()], removed: [...this.#removed] };
    this.#upserts.clear();
    this.#removed.clear();
    return update;
  }

  #merge(changed: readonly Registration[], removed: readonly string[]): void {
    for (const id of removed) {
      this.#upserts.delete(id);
      this.#removed.add(id);
    }
    for (const registration of changed) {
      this.#removed.delete(registration.id);
      this.#upserts.set(registration.id, registration);
    }
    if (this.#removed.size <= MAX_PENDING_REMOVALS) return;
    this.#upserts.clear();
    this.#removed.clear();
    this.#snapshot = true;
  }
}

/** The newest update of each CA: all streams are given the same object, so that it can be written out once for all. */
const newest = new WeakMap<NodeApiOptions['ca'], BundleUpdate>();

function bundlesNow(options: NodeApiOptions): BundleUpdate {
  const { ca, federation, revokedSerials: serials, revocationMark } = options;
  const own = ca.bundle.value;
  const federated = federation.value;
  const { x509: taintedX509, jwt: taintedJwt } = ca.taints.value;
  const revokedSerials = serials?.value;
  const revocations = revocationMark?.value;
  const known = newest.get(ca);
  if (
    known?.own === own &&
    known.federated === federated &&
    known.taintedX509 === taintedX509 &&
    known.taintedJwt === taintedJwt &&
    known.revokedSerials === revokedSerials &&
    known.revocations === revocations
  )
    return known;
  const update = {
    ...{ own, federated, taintedX509, taintedJwt },
    ...(revokedSerials === undefined ? {} : { revokedSerials }),
    ...(revocations === undefined ? {} : { revocations }),
  };
  newest.set(ca, update);
  return update;
}

function bundleSource(options: NodeApiOptions): StateSource<BundleUpdate> {
  const { ca, federation, revokedSerials, revocationMark } = options;
  let dirty = true;
  return {
    subscribe(wake) {
      const changed = (): void => {
        dirty = true;
        wake();
      };
      const ends = [
        ca.bundle.watch(changed),
        ca.taints.watch(changed),
        federation.watch(changed),
        ...(revokedSerials === undefined ? [] : [revokedSerials.watch(changed)]),
        ...(revocationMark === undefined ? [] : [revocationMark.watch(changed)]),
      ];
      return () => ends.forEach((end) => end());
    },
    take() {
      if (!dirty) return undefined;
      dirty = false;
      return bundlesNow(options);
    },
  };
}
