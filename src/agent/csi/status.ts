import { SignetError } from '../../lib/errors.js';
import { MountError } from '../../rpc/mount/mounts.js';
import { StatusError } from '../../rpc/service.js';

/**
 * What the kubelet is told of a failure, which becomes the event of the pod. What was raised on purpose is told; anything
 * else may hold what is not for the pod's owner, and goes to the log.
 */
export function volumeStatus(thrown: unknown): StatusError {
  if (thrown instanceof StatusError) return thrown;
  if (thrown instanceof MountError) {
    const status = thrown.code === 'MountPathRefused' ? 'InvalidArgument' : 'Internal';
    return new StatusError(status, thrown.message, { code: thrown.code, cause: thrown });
  }
  if (thrown instanceof SignetError && thrown.code !== 'Internal' && thrown.code !== 'Bug')
    return new StatusError('FailedPrecondition', thrown.message, { code: thrown.code, cause: thrown });
  const reason = (thrown as { readonly code?: unknown } | undefined)?.code;
  if (reason === 'ENOSPC')
    return new StatusError(
      'ResourceExhausted',
      "the agent's file system for volumes is full: ask for fewer files, or remove pods from this node",
      { cause: thrown },
    );
  return new StatusError('Internal', "the agent's log says why", { cause: thrown });
}
