import { imageIsUnder, namesDigest } from '../../../lib/image-reference.js';
import type { PostureMatch } from '../../policy/model.js';
import type { Node } from '../diagram.js';
import { certain, type Leaf, type Space } from '../space.js';

/** What the calling pod runs: whether it has images of each kind that posture conditions tell apart. */
export interface PostureDimensions {
  matches(posture: PostureMatch): Leaf;
}

interface ImageClass {
  readonly image: string;
  readonly digest: boolean;
  /** Of which entries of allowed images it is under one. */
  readonly under: ReadonlySet<string>;
}

export function postureDimensions(
  space: Space,
  matches: readonly PostureMatch[],
  seen: Node,
): PostureDimensions {
  const { diagram } = space;
  const privileged = space.add('caller', 'privileged', [
    { words: 'no', put: (draft) => void (draft.privileged = false) },
    { words: 'yes', odd: 0.1, put: (draft) => void (draft.privileged = true) },
    { words: 'not known', unseen: true, odd: 0.5, put: (draft) => void (draft.privileged = undefined) },
  ]);
  const images = space.add('caller', 'images', [
    { words: 'known', put: (draft) => void (draft.images ??= []) },
    { words: 'not known', unseen: true, odd: 0.5, put: (draft) => void (draft.images = undefined) },
  ]);
  const classes = imageClasses(matches.flatMap(({ allowedImages }) => allowedImages ?? []));
  const present = classes.map(({ image }) => {
    const dimension = space.add('caller', `image ${image}`, [
      { words: 'no', put: () => undefined },
      {
        words: 'yes',
        odd: 0.1,
        put: (draft) => {
          if (draft.images !== undefined) draft.images = [...draft.images, image];
        },
      },
    ]);
    return space.where(dimension, (index) => index === 1);
  });
  // Images of which none is known say nothing.
  const imagesSeen = diagram.and(
    seen,
    space.where(images, (index) => index === 0),
    diagram.or(...present),
  );
  /** No image of a class for which `wrong` holds. */
  const none = (wrong: (value: ImageClass) => boolean): Leaf =>
    space.onlyWhere(
      imagesSeen,
      certain(
        diagram.not(
          diagram.or(...classes.flatMap((value, index) => (wrong(value) ? [present[index] ?? 0] : []))),
        ),
      ),
    );
  return {
    // Also a posture that asks for nothing needs a pod that is known.
    matches: ({ imageDigests, allowedImages, noPrivileged }) =>
      space.all(
        space.onlyWhere(seen, certain(1)),
        imageDigests === true ? none(({ digest }) => !digest) : certain(1),
        allowedImages === undefined
          ? certain(1)
          : none(({ under }) => !allowedImages.some((allowed) => under.has(allowed))),
        noPrivileged === true
          ? space.onlyWhere(
              diagram.and(
                seen,
                space.where(privileged, (index) => index < 2),
              ),
              space.known(privileged, (index) => index === 0),
            )
          : certain(1),
      ),
  };
}

const DIGEST = `@sha256:${'0'.repeat(64)}`;

/** An image for each set of entries that one may be under, with a digest and without. */
function imageClasses(allowed: readonly string[]): readonly ImageClass[] {
  const entries = [...new Set(allowed)];
  const names = [
    'other.example/other',
    ...entries.flatMap((entry) => {
      const stem = entry.replace(/\/+$/, '');
      return [stem, `${stem}/other`, `${stem}:other`, `${stem}:5000/other`];
    }),
  ];
  const classes = new Map<string, ImageClass>();
  for (const image of names.flatMap((name) => [name, `${name}${DIGEST}`])) {
    const under = entries.filter((entry) => imageIsUnder(image, entry));
    const digest = namesDigest(image);
    const key = JSON.stringify([digest, under]);
    if (!classes.has(key)) classes.set(key, { image, digest, under: new Set(under) });
  }
  return [...classes.values()];
}
