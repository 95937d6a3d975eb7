import { imageIsUnder, namesDigest } from '../../lib/image-reference.js';
import type { IdentityRequirements } from '../../resources/identity.js';
import { type Failure, failure } from './outcome.js';
import type { PodFacts } from './registration.js';

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
    if (imageDigests === true && !namesDigest(image)) {
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
