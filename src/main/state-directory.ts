import { createHash } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { SignetError } from '../lib/errors.js';

/** What lies where in a state directory. */
export interface StateLayout {
  readonly root: string;
  /** Authority keys and journal; nobody else may look in. */
  readonly ca: string;
  readonly adminSocket: string;
  readonly bundleFile: string;
  readonly sharedSocket: string;
  /** The socket of a pod: the same shape as the CSI driver hands out. */
  podSocket(uid: string): string;
  /** Where applications ask for decisions, beside each of the two. */
  readonly sharedApplicationSocket: string;
  podApplicationSocket(uid: string): string;
}

/** sun_path holds 108 bytes with its closing NUL (unix(7)). */
const MAX_SOCKET_PATH = 107;
const UID_LENGTH = 36;
/** The longer name of the two that are in a pod's directory. */
const APPLICATION_SOCKET = 'authz.sock';

/**
 * Makes the state directory where it is missing and refuses one that others could write to: whoever can swap its
 * sockets can speak for the agent.
 *
 * @throws SignetError `StateDirectoryUnsafe`, `StateDirectoryUnusable`
 */
export function openStateDirectory(root: string): StateLayout {
  makeDirectory(root, 0o711);
  const run = socketDirectory(root);
  if (run !== join(root, 'run')) makeDirectory(join(run, '..'), 0o711);
  makeDirectory(run, 0o755);
  return {
    root,
    ca: join(root, 'ca'),
    adminSocket: join(root, 'admin.sock'),
    bundleFile: join(root, 'bundle.json'),
    sharedSocket: join(run, 'api.sock'),
    podSocket: (uid) => join(run, 'pods', uid, 'api.sock'),
    sharedApplicationSocket: join(run, APPLICATION_SOCKET),
    podApplicationSocket: (uid) => join(run, 'pods', uid, APPLICATION_SOCKET),
  };
}

/** `run/` in the state directory, unless socket paths would be longer than the kernel takes. */
function socketDirectory(root: string): string {
  const inside = join(root, 'run');
  const longest = join(inside, 'pods', 'x'.repeat(UID_LENGTH), APPLICATION_SOCKET);
  if (
    Buffer.byteLength(longest) <= MAX_SOCKET_PATH &&
    Buffer.byteLength(join(root, 'admin.sock')) <= MAX_SOCKET_PATH
  ) {
    return inside;
  }
  if (Buffer.byteLength(join(root, 'admin.sock')) > MAX_SOCKET_PATH) {
    throw new SignetError(
      'StateDirectoryUnusable',
      `${root} is too long a path for a unix socket in it (${MAX_SOCKET_PATH} bytes); choose a shorter --state`,
    );
  }
  const name = createHash('sha256').update(root).digest('hex').slice(0, 12);
  return join('/tmp', `signet-${userInfo().uid}`, name);
}

function makeDirectory(path: string, mode: number): void {
  let stats;
  try {
    if (mkdirSync(path, { recursive: true, mode }) !== undefined) chmodSync(path, mode);
    // Not stat: a link that somebody put into /tmp before us is not our directory.
    stats = lstatSync(path);
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    throw new SignetError('StateDirectoryUnusable', `cannot use ${path} as a directory: ${code || message}`, {
      cause: error,
    });
  }
  if (!stats.isDirectory()) {
    throw new SignetError('StateDirectoryUnusable', `${path} is no directory; choose another --state`);
  }
  const { uid } = userInfo();
  if (stats.uid !== uid) {
    throw new SignetError(
      'StateDirectoryUnsafe',
      `${path} belongs to uid ${stats.uid}, but this is uid ${uid}; choose a directory of your own`,
    );
  }
  if ((stats.mode & 0o022) !== 0) {
    const now = (stats.mode & 0o777).toString(8);
    throw new SignetError(
      'StateDirectoryUnsafe',
      `${path} has mode ${now}: others could replace its sockets; run chmod go-w ${path}`,
    );
  }
}
