import type { IdentityRequirements } from '../../resources/identity.js';
import { type Failure, failure } from './outcome.js';
import type { PodFacts } from './registration.js';

const DIGEST = /@sha256:[0-9a-f]{64}$/;

/** Why a pod does not meet an identity's requirements; undefined when it does. What is not known is not met. */
export function requirementFailure(
  requirements: IdentityRequirements | undefined,
  pod: PodFacts,
): Failure | undefined {
  if (requirements === undefined) return undefined;
  const { imageDigests, allowedImages, noPrivileged } = requirements;
  if (noPrivileged === true && pod.privileged) {
    return failure('PrivilegedContainer', 'requirements.noPrivileged: a container of the pod is privileged');
  }
  if ((imageDigests === true || allowedImages !== undefined) && pod.images.length === 0)
    return failure('ImagesUnknown', 'requirements: the images of the pod are not known');
  for (const image of pod.images) {
    if (imageDigests === true && !DIGEST.test(image)) {
      return failure(
        'ImageWithoutDigest',
        `requirements.imageDigests: image "${image}" is not named by digest; write name@sha256:<digest>`,
      );
    }
    if (allowedImages !== undefined && !allowedImages.some((allowed) => imageIsUnder(image, allowed))) {
      return failure(
        'ImageNotAllowed',
        `requirements.allowedImages: image "${image}" starts with none of ${allowedImages.join(', ')}`,
      );
    }
  }
  return undefined;
}

/** Whether an image reference is `allowed` itself or lies below it, up to a `/`, `:` or `@`. */
export function imageIsUnder(image: string, allowed: string): boolean {
  const prefix = allowed.replace(/\/+$/, '');
  if (prefix === '' || !image.startsWith(prefix)) return false;
  const rest = image.slice(prefix.length);
  if (rest === '') return true;
  if (rest.startsWith('/')) return true;
  // A `/` after `:` or `@` makes that a port of another registry, not a tag: `host` must not allow `host:5000/x`.
  return allowed === prefix && (rest.startsWith(':') || rest.startsWith('@')) && !rest.includes('/');
}
