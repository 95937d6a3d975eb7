import type { TargetWorkload } from '../../access/policy/model.js';
import type { Clock } from '../../lib/clock.js';
import { type CallContext, type Peer, StatusError } from '../../rpc/service.js';
import { type CallParts, openSession, POD_LISTENER_PREFIX, SHARED_LISTENER } from '../session.js';
import type { AuthorizationView } from './view.js';

/** Tells which workload an enforcement point speaks for: by its socket or its verified identity, by nothing it says. */
export interface TargetFinder {
  /** @throws StatusError PermissionDenied, Unauthenticated, Unavailable */
  find(view: AuthorizationView, context: CallContext): TargetWorkload | Promise<TargetWorkload>;
}

interface Known {
  readonly view: AuthorizationView;
  readonly target: TargetWorkload;
  /** Monotonic milliseconds. */
  readonly until: number;
}

/** How long a process is taken for what it was found to be, while its connection and its life last. Milliseconds. */
const PROCESS_KEPT_MS = 1000;

export function createTargetFinder(parts: CallParts, clock: Clock): TargetFinder {
  // A peer is one object for as long as its connection is open.
  const processes = new WeakMap<Peer, Known>();

  const findProcess = async (view: AuthorizationView, context: CallContext): Promise<TargetWorkload> => {
    const session = await openSession(parts, context, 'unary');
    try {
      await session.refresh();
      const uris = session.view.registrations.map(({ spiffeId }) => spiffeId.uri);
      const target = oneTarget(view, uris);
      processes.set(context.peer, { view, target, until: clock.monotonic() + PROCESS_KEPT_MS });
      return target;
    } finally {
      session.close();
    }
  };

  return {
    find(view, context) {
      const { peer } = context;
      const { listener, credentials, spiffeId } = peer;
      if (listener.startsWith(POD_LISTENER_PREFIX)) {
        const target = view.pod(listener.slice(POD_LISTENER_PREFIX.length));
        if (target !== undefined) return target;
        throw new StatusError('PermissionDenied', 'the pod of this socket is gone, or has ended');
      }
      if (spiffeId !== undefined) return oneTarget(view, [spiffeId.uri]);
      if (listener !== SHARED_LISTENER || credentials === undefined)
        throw new StatusError('PermissionDenied', `no decisions are made on listener "${listener}"`);
      const known = processes.get(peer);
      if (known?.view === view && clock.monotonic() < known.until && credentials.isAlive())
        return known.target;
      return findProcess(view, context);
    },
  };
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
