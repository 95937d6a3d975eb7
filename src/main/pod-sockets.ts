import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { ListenUnixOptions } from '../rpc/listener.js';
import type { Store } from '../store/store.js';
import { closeAll, type OpenSocket } from './open-sockets.js';

/** Keeps one socket per pod of the store. */
export interface PodSockets {
  /** Resolves when the sockets match the store as it was at the call. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

/** One socket that each pod gets. All of a pod's are in one directory, which goes with the pod. */
export interface PodSocket {
  readonly server: { listenUnix(options: ListenUnixOptions): Promise<OpenSocket> };
  readonly socketOf: (uid: string) => string;
}

/** What it works with. */
export interface PodSocketsOptions {
  readonly store: Store;
  readonly sockets: readonly PodSocket[];
  readonly logger: Logger;
}

/**
 * Opens sockets for each pod and closes them when the pod goes. Whoever can open a pod's socket is the pod, so it has
 * mode 0600: in embedded mode that is the user who runs it; in a cluster the CSI driver mounts it into that pod alone.
 */
export function keepPodSockets(options: PodSocketsOptions): PodSockets {
  const { store, sockets, logger } = options;
  const open = new Map<string, OpenSocket[]>();
  // In one lane, one after the other: a pod that goes and comes again must not meet its own closing socket. Several
  // lanes, because opening a socket is mostly waiting for the file system.
  const lanes = Array.from({ length: LANES }, () => Promise.resolve());
  const enqueue = (uid: string, work: () => Promise<void>): void => {
    const lane = laneOf(uid);
    lanes[lane] = (lanes[lane] ?? Promise.resolve()).then(work).catch((thrown: unknown) => {
      logger.error('cannot serve a pod', { pod: uid, error: SignetError.from(thrown).message });
    });
  };
  const settled = async (): Promise<void> => {
    await Promise.all(lanes);
  };
  const add = (uid: string): void =>
    enqueue(uid, async () => {
      if (open.has(uid)) return;
      const listeners: OpenSocket[] = [];
      open.set(uid, listeners);
      for (const { server, socketOf } of sockets)
        listeners.push(
          await server.listenUnix({
            path: socketOf(uid),
            mode: 0o600,
            name: `pod/${uid}`,
            peerCredentials: false,
          }),
        );
    });
  const remove = (uid: string): void =>
    enqueue(uid, async () => {
      const listeners = open.get(uid) ?? [];
      open.delete(uid);
      await closeAll(listeners);
      const [first] = listeners;
      if (first !== undefined) await rm(dirname(first.path), { recursive: true, force: true });
    });

  for (const pod of store.list('Pod')) add(pod.metadata.uid);
  const unsubscribe = store.subscribe((changes) => {
    for (const { kind, before, after } of changes) {
      if (kind !== 'Pod') continue;
      if (before !== undefined && before.metadata.uid !== after?.metadata.uid) remove(before.metadata.uid);
      if (after !== undefined && before?.metadata.uid !== after.metadata.uid) add(after.metadata.uid);
    }
  });
  return {
    settled,
    async close() {
      unsubscribe();
      await settled();
    },
  };
}

const LANES = 64;

/** Always the same for one pod. */
function laneOf(uid: string): number {
  let sum = 0;
  for (let at = 0; at < uid.length; at++) sum = (sum * 31 + uid.charCodeAt(at)) % LANES;
  return sum;
}
