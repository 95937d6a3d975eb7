import { dnsLabel, names } from './forms.js';
import type { ClusterWorkloadIdentitySpec, IdentityTemplate } from './identity.js';
import { atLeastOneOf, integer, objectSchema, optional, text } from './schema.js';

/** Containers of a pod, by name and by what they run. */
export const containerSelector = objectSchema<NonNullable<IdentityTemplate['containerSelector']>>(
  'Which containers of these pods; whole pods unless said. Every field that is written must hold. Given on the shared socket of the node alone, where the kernel tells containers apart.',
  {
    names: optional(names('Names of containers.', dnsLabel('The name of a container.'))),
    imageDigests: optional(
      names(
        'Digests of images, of which the container must run one: what its imageID in the status of the pod ends with.',
        text('The digest of an image.', {
          maxLength: 71,
          pattern: '^sha256:[0-9a-f]{64}$',
          form: 'write "sha256:" and 64 hex digits in lower case',
        }),
      ),
    ),
  },
  { rules: [atLeastOneOf(['names', 'imageDigests'])] },
);

/** Processes outside Kubernetes. */
export const processSelector = objectSchema<NonNullable<ClusterWorkloadIdentitySpec['processSelector']>>(
  'Processes outside Kubernetes, by what the kernel says of them; every field that is written must hold.',
  {
    uid: optional(integer('User id.', { minimum: 0, maximum: 4_294_967_294 })),
    gid: optional(integer('Group id.', { minimum: 0, maximum: 4_294_967_294 })),
    supplementaryGid: optional(
      integer('One of its further group ids.', { minimum: 0, maximum: 4_294_967_294 }),
    ),
    path: optional(
      text('Absolute path of the executable.', {
        maxLength: 4096,
        pattern: '^/[^\\x00]*$',
        form: 'write an absolute path',
      }),
    ),
    sha256: optional(
      text('SHA-256 of the executable in lower-case hex.', {
        maxLength: 64,
        pattern: '^[0-9a-f]{64}$',
        form: 'write 64 hex digits in lower case, as sha256sum prints them',
      }),
    ),
  },
  { rules: [atLeastOneOf(['uid', 'gid', 'supplementaryGid', 'path', 'sha256'])] },
);
