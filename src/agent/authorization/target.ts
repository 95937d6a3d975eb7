import type { TargetWorkload } from '../../access/policy/model.js';
import type { Clock } from '../../lib/clock.js';
import { type CallContext, type Peer, StatusError } from '../../rpc/service.js';
import { type CallParts, openSession, POD_LISTENER_PREFIX, SHARED_LISTENER } from '../session.js';
import type { AuthorizationView } from './view.js';

/** Tells which workload an enforcement point speaks for: by its socket or its verified identity, by nothing it says. */
export interface TargetFinder {
  /** @throws StatusError PermissionDenied, Unauthenticated, Unavailable */
  find(view: AuthorizationView, context: CallContext): TargetWorkload | Promise<TargetWorkload>;
  /**
   * The same, where an identity alone does not tell: every workload that the enforcement point may speak for. What is
   * asked is allowed only if it is for each of them. At least one.
   *
   * @throws StatusError PermissionDenied, Unauthenticated, Unavailable
   */
  candidates(
    view: AuthorizationView,
    context: CallContext,
  ): readonly TargetWorkload[] | Promise<readonly TargetWorkload[]>;
}

interface Known {
  readonly view: AuthorizationView;
  readonly target: TargetWorkload;
  /** Monotonic milliseconds. */
  readonly until: number;
}

/** How long a process is taken for what it was found to be, while its connection and its life last. Milliseconds. */
const PROCESS_KEPT_MS = 1000;
/** Unlike workloads with one SPIFFE ID; each costs an evaluation. */
const MAX_CANDIDATES = 32;

export function createTargetFinder(parts: CallParts, clock: Clock): TargetFinder {
  // A peer is one object for as long as its connection is open.
  const processes = new WeakMap<Peer, Known>();

  const findProcess = async (view: AuthorizationView, context: CallContext): Promise<TargetWorkload> => {
    const session = await openSession(parts, context, 'unary');
    try {
      await session.refresh();
      const { subject } = session;
      if (subject.kind === 'pod') return podTarget(view, subject.uid);
      const uris = session.view.registrations.map(({ spiffeId }) => spiffeId.uri);
      const target = oneTarget(view, uris);
      processes.set(context.peer, { view, target, until: clock.monotonic() + PROCESS_KEPT_MS });
      return target;
    } finally {
      session.close();
    }
  };

  const finder: TargetFinder = {
    candidates(view, context) {
      const { spiffeId } = context.peer;
      if (spiffeId !== undefined) return holders(view, spiffeId.uri);
      const found = finder.find(view, context);
      return found instanceof Promise ? found.then((target) => [target]) : [found];
    },

    find(view, context) {
      const { peer } = context;
      const { listener, credentials, spiffeId, unknown } = peer;
      if (listener.startsWith(POD_LISTENER_PREFIX))
        return podTarget(view, listener.slice(POD_LISTENER_PREFIX.length));
      if (spiffeId !== undefined) return oneTarget(view, [spiffeId.uri]);
      if (unknown !== undefined) throw new StatusError('Unauthenticated', unknown, { code: 'PeerUnknown' });
      if (listener !== SHARED_LISTENER || credentials === undefined)
        throw new StatusError('PermissionDenied', `no decisions are made on listener "${listener}"`);
      const known = processes.get(peer);
      if (known?.view === view && clock.monotonic() < known.until && credentials.isAlive())
        return known.target;
      return findProcess(view, context);
    },
  };
  return finder;
}

function podTarget(view: AuthorizationView, uid: string): TargetWorkload {
  const target = view.pod(uid);
  if (target !== undefined) return target;
  throw new StatusError('PermissionDenied', 'the pod that asks is gone, or has ended');
}

/** The workloads whose pods hold an ID: replicas count once, but several Deployments may share a service account. */
function holders(view: AuthorizationView, uri: string): readonly TargetWorkload[] {
  const workloads = view.inventory.holdersOf(uri);
  if (workloads.length > 0 && workloads.length <= MAX_CANDIDATES) return workloads;
  throw new StatusError(
    'PermissionDenied',
    workloads.length === 0
      ? `the caller is ${uri}, which no pod holds (any more); only the proxy of a pod is answered`
      : `the caller is ${uri}, which pods of ${workloads.length} workloads hold; at most ${MAX_CANDIDATES} are told apart: give them identities of their own`,
  );
}

/** The workload that all of a caller's identities lead to. */
function oneTarget(view: AuthorizationView, uris: readonly string[]): TargetWorkload {
  const targets = new Set(uris.map((uri) => view.target(uri)));
  const [target] = targets;
  if (target !== undefined && targets.size === 1) return target;
  const who =
    uris.length === 0 ? 'the caller has no identity' : `the caller is ${uris.slice(0, 4).join(', ')}`;
  throw new StatusError(
    'PermissionDenied',
    `${who}; it must be one that pods of exactly one workload hold, or use its pod's own socket`,
  );
}
