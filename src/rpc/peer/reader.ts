import type { Socket } from 'node:net';
import { SignetError } from '../../lib/errors.js';
import type { PeerCredentials } from '../service.js';

/** The kernel would not say who is at the other end. The connection is refused. */
export class PeerCredentialsError extends SignetError {}

/** Credentials that hold a kernel object until they are closed. */
export interface HeldPeerCredentials extends PeerCredentials {
  /** Gives the pidfd back. Afterwards `isAlive()` is false. */
  close(): void;
}

/** Tells who connected a unix socket. */
export interface PeerCredentialsReader {
  /**
   * Reads the credentials that the kernel stored at connect time. Call it first thing after accept.
   * Throws {@link PeerCredentialsError}: PeerUnknown (pid 0: a process outside our pid namespace), PeerUnreadable.
   */
  read(socket: Socket): HeldPeerCredentials;
  /**
   * The user of whoever connected. It is known of a process outside our pid namespace, too, so it needs no hostPID.
   * Throws {@link PeerCredentialsError} PeerUnreadable.
   */
  readUser(socket: Socket): number;
}
