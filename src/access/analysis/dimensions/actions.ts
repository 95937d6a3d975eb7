import type { ActionOperation } from '../../policy/model.js';
import type { Node } from '../diagram.js';
import type { Texts } from './attributes.js';
import { certain, fresh, type Leaf, type Space, type ValueClass } from '../space.js';

/** Decisions that an application asks for itself: actions and resources. */
export interface ActionDimensions {
  /** Where the request is an application's, and no network request. */
  readonly application: Node;
  readonly actionTexts: Texts;
  readonly typeTexts: Texts;
  matches(operation: ActionOperation): Leaf;
}

export function actionDimensions(
  space: Space,
  operations: readonly ActionOperation[],
  attributes: readonly string[],
): ActionDimensions {
  const kind = space.add('action', 'request', [
    { words: 'of the network', put: () => undefined },
    {
      words: "an application's own",
      odd: 0.2,
      put: (draft) => void (draft.application ??= { action: 'other', type: 'other', id: 'other' }),
    },
  ]);
  const application = space.where(kind, (index) => index === 1);
  const resources = operations.flatMap((operation) => operation.resources ?? []);
  const action = texts(space, 'action', 'action', [
    ...operations.flatMap(({ actions }) => actions ?? []),
    ...attributes,
  ]);
  const type = texts(space, 'resource', 'resource type', [
    ...resources.map((resource) => resource.type),
    ...attributes,
  ]);
  const id = texts(
    space,
    'resource',
    'resource id',
    resources.flatMap(({ ids }) => ids ?? []),
  );
  const { diagram } = space;
  return {
    application,
    actionTexts: action.texts,
    typeTexts: type.texts,
    matches: ({ actions, resources: asked }) =>
      certain(
        diagram.and(
          application,
          actions === undefined ? 1 : action.among(actions),
          asked === undefined
            ? 1
            : diagram.or(
                ...asked.map((one) =>
                  diagram.and(type.among([one.type]), one.ids === undefined ? 1 : id.among(one.ids)),
                ),
              ),
        ),
      ),
  };
}

function texts(
  space: Space,
  field: 'action' | 'resource',
  name: string,
  all: readonly string[],
): { readonly texts: Texts; among(asked: readonly string[]): Node } {
  const named = new Set(all);
  const values = [...named, fresh('other', named)];
  const part = name === 'action' ? 'action' : name === 'resource type' ? 'type' : 'id';
  const dimension = space.add(
    field,
    name,
    values.map((value, index): ValueClass => ({
      words: index < named.size ? value : 'any other',
      ...(index < named.size ? {} : { rest: true }),
      put: (draft) => {
        if (draft.application !== undefined) draft.application[part] = value;
      },
    })),
  );
  return {
    texts: values.map((text, at) => [text, space.where(dimension, (index) => index === at)]),
    among: (asked) =>
      space.where(dimension, (index) => index < named.size && asked.includes(values[index] ?? '')),
  };
}
